//! The format of a folder of facts, in a file of its own, so that a release that does not know it says so before it
//! touches anything.
//!
//! ```text
//! format = "roadstead metadata format 1\nwritten by roadstead 0.1.0\n"
//! ```
//!
//! The number is raised when a former release could not read what this one writes: then this one must still read the
//! former folder, and `tests/it/golden` gets one more.

use std::path::Path;

use crate::OpenError;
use crate::disk::{self, Disk};

/// The format that is written.
pub(crate) const FORMAT: u32 = 1;

/// This release.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

const FILE: &str = "format";
const TITLE: &str = "roadstead metadata format ";
const WRITER: &str = "written by roadstead ";

/// Refuses the folder of a later release. One without the file is new, or from before there was one: format 1.
pub(crate) fn check(disk: &dyn Disk, folder: &Path) -> Result<(), OpenError> {
    let path = folder.join(FILE);
    let text = match disk::read(disk, &path) {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(None) => return Ok(()),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let line = |title: &str| text.lines().find_map(|line| line.strip_prefix(title)).map(str::to_owned);
    let format = line(TITLE).and_then(|number| number.parse::<u32>().ok());
    match format {
        Some(1..=FORMAT) => Ok(()),
        Some(format) => {
            let writer = line(WRITER).unwrap_or_else(|| "a later release".to_owned());
            Err(OpenError::Newer { folder: folder.to_owned(), format, writer })
        }
        None => Err(OpenError::Damaged(format!(
            "{} does not say which format the folder has. Restore the file, or restore the folder from a backup",
            path.display()
        ))),
    }
}

/// Says that this release has written to the folder. To be called by whoever has it for itself.
pub(crate) fn stamp(disk: &dyn Disk, folder: &Path) -> Result<(), OpenError> {
    let path = folder.join(FILE);
    let text = format!("{TITLE}{FORMAT}\n{WRITER}{RELEASE}\n");
    if disk::read(disk, &path).is_ok_and(|known| known.as_deref() == Some(text.as_bytes())) {
        return Ok(());
    }
    let written = disk::replace(disk, &path, &path.with_extension("draft"), text.as_bytes());
    written.map_err(|source| OpenError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::LocalDisk;

    #[test]
    fn the_folder_of_a_later_release_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        check(&LocalDisk, folder.path()).unwrap();
        stamp(&LocalDisk, folder.path()).unwrap();
        check(&LocalDisk, folder.path()).unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{TITLE}{FORMAT}\n{WRITER}{RELEASE}\n"));

        fs::write(&path, format!("{TITLE}{}\n{WRITER}9.8.7\n", FORMAT + 1)).unwrap();
        let error = check(&LocalDisk, folder.path()).unwrap_err().to_string();
        for word in ["9.8.7", "format 2", "format 1", RELEASE, "before the upgrade"] {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
        for damaged in ["", "roadstead metadata format many\n", "roadstead metadata format 0\n"] {
            fs::write(&path, damaged).unwrap();
            assert!(check(&LocalDisk, folder.path()).is_err(), "{damaged:?}");
        }
    }
}

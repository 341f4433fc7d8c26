//! Listing: in the order of keys, a page at a time, reading only the folders that the page touches.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::failure::failed;
use super::layout::{FAN_DIGITS, FOLDERS, UNFINISHED, object_key, unfinished_key};
use super::read;
use crate::error::BlobError;
use crate::store::{Listing, MAX_LIST, MultipartInfo, ObjectInfo};

/// A page of the objects below `root` whose key begins with `prefix`. `next` is the last key of the page before.
pub(super) fn objects(root: &Path, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError> {
    let mut items = Vec::new();
    for folder in FOLDERS {
        if !touches(&format!("{folder}/"), prefix, next) {
            continue;
        }
        for fan in sorted_names(&root.join(folder))? {
            if fan.len() == FAN_DIGITS && touches(&format!("{folder}/{fan}"), prefix, next) {
                objects_of_fan(&root.join(folder).join(fan), folder, prefix, next, &mut items)?;
            }
            if items.len() == MAX_LIST {
                let next = items.last().map(|last: &ObjectInfo| last.key.to_string());
                return Ok(Listing { items, next });
            }
        }
    }
    Ok(Listing { items, next: None })
}

fn objects_of_fan(
    fan: &Path,
    folder: &str,
    prefix: &str,
    next: Option<&str>,
    items: &mut Vec<ObjectInfo>,
) -> Result<(), BlobError> {
    for name in sorted_names(fan)? {
        if items.len() == MAX_LIST {
            break;
        }
        let Some(key) = object_key(folder, &name) else { continue };
        if !key.as_str().starts_with(prefix) || next.is_some_and(|next| key.as_str() <= next) {
            continue;
        }
        match read::open(&fan.join(&name)) {
            Ok(Some(read::Opened { size, modified, .. })) => items.push(ObjectInfo { key, size, modified }),
            Ok(None) => {} // deleted since its name was read
            // One that is damaged is there all the same, and must not hide the others.
            Err(BlobError::Broken(_)) => {
                let modified = fs::metadata(fan.join(&name)).and_then(|folder| folder.modified());
                items.extend(modified.ok().map(|modified| ObjectInfo { key, size: 0, modified }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether keys that begin with `start` can be on a page.
fn touches(start: &str, prefix: &str, next: Option<&str>) -> bool {
    let has_prefix = start.starts_with(prefix) || prefix.starts_with(start);
    has_prefix && next.is_none_or(|next| start > next || next.starts_with(start))
}

/// A page of what is under way below `root`. `next` is the last file name of the page before. Leftovers of a `put`
/// or a `delete` that was cut off are among them: an `abort` removes them too.
pub(super) fn multiparts(root: &Path, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError> {
    let folder = root.join(UNFINISHED);
    let mut items = Vec::new();
    let mut last = None;
    for name in sorted_names(&folder)? {
        if next.is_some_and(|next| name.as_str() <= next) {
            continue;
        }
        if items.len() == MAX_LIST {
            return Ok(Listing { items, next: last });
        }
        let Some((key, id)) = unfinished_key(&name) else { continue };
        let path = folder.join(&name);
        match created(&path) {
            Ok(created) => items.push(MultipartInfo { key, id, created }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("inspect", &path)(error)),
        }
        last = Some(name);
    }
    Ok(Listing { items, next: None })
}

/// When a file was made; where the file system does not know, when it was changed last, which errs towards young.
fn created(path: &Path) -> io::Result<SystemTime> {
    let metadata = fs::metadata(path)?;
    metadata.created().or_else(|_| metadata.modified())
}

/// The names in a folder, sorted; none if it is not there. Names that are not UTF-8 are not ours.
fn sorted_names(folder: &Path) -> Result<Vec<String>, BlobError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", folder))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::touches;

    #[test]
    fn only_folders_of_the_page_are_read() {
        assert!(touches("blobs/012", "", None));
        assert!(touches("blobs/012", "blobs/", None));
        assert!(touches("blobs/012", "blobs/0123", None));
        assert!(!touches("blobs/012", "blobs/02", None));
        assert!(!touches("blobs/", "manifests/", None));
        assert!(touches("blobs/012", "", Some("blobs/0123")));
        assert!(touches("blobs/013", "", Some("blobs/0123")));
        assert!(!touches("blobs/011", "", Some("blobs/0123")));
        assert!(!touches("blobs/", "", Some("manifests/sha256/0")));
        assert!(touches("manifests/sha256/", "manifests/sha256/ab", Some("manifests/sha256/0")));
    }
}

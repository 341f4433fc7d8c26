use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A small file system of its own, on which a registry keeps its data. To be declared before the registry, so that it
/// is dropped after it.
pub(crate) struct Mount {
    point: PathBuf,
    /// With the mount point in it, and whatever is beside it.
    folder: TempDir,
}

impl Mount {
    /// In memory. `None`, and the reason printed, where this machine does not let us mount.
    pub(crate) fn tmpfs(bytes: u64) -> Option<Self> {
        Self::new(|_| Ok(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"].map(str::to_owned).into()))
    }

    /// On an image, [`Self::image`], that this makes.
    pub(crate) fn ext4(bytes: u64) -> Option<Self> {
        Self::new(|folder| {
            let image = folder.join("image");
            std::fs::File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image");
            // Whatever is written later is written by those who use it.
            let now = "lazy_itable_init=0,lazy_journal_init=0";
            run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", now]).arg(&image))?;
            Ok(loop_of(&image))
        })
    }

    fn new(arguments: impl FnOnce(&Path) -> Result<Vec<String>, String>) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("rs-mount-").tempdir().expect("a temporary folder");
        let point = folder.path().join("mounted");
        std::fs::create_dir(&point).expect("a folder");
        let mounted =
            arguments(folder.path()).and_then(|arguments| run(Command::new("mount").args(arguments).arg(&point)));
        match mounted {
            Ok(()) => Some(Self { point, folder }),
            Err(reason) => {
                #[expect(clippy::print_stdout, reason = "whoever reads the result must know what was left out")]
                {
                    println!("SKIPPED, since nothing can be mounted here: {reason}");
                }
                None
            }
        }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// Copies the image as it is at this moment, without asking the file system for what it still has to write, until
    /// a copy is found to be of one moment.
    pub(crate) fn copy_image(&self) {
        let (image, copy) = (self.image(), self.folder.path().join("copy"));
        for _ in 0..20 {
            run(Command::new("cp").arg("--sparse=always").arg(&image).arg(&copy)).expect("a copy");
            if run(Command::new("cmp").arg("--silent").arg(&image).arg(&copy)).is_ok() {
                return;
            }
        }
        panic!("somebody writes to {} all the time", image.display());
    }

    /// Mounts the copy in the place of the image: what a machine finds that lost its power when the copy was made.
    pub(crate) fn lose_power(&self) {
        run(Command::new("umount").arg(&self.point)).expect("nobody uses it any more");
        std::fs::rename(self.folder.path().join("copy"), self.image()).expect("it was copied");
        run(Command::new("mount").args(loop_of(&self.image())).arg(&self.point)).expect("its journal is replayed");
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, so that no mount is left behind a test that failed in the middle.
        if let Err(reason) = run(Command::new("umount").arg("--lazy").arg(&self.point)) {
            #[expect(clippy::print_stdout, reason = "somebody has to unmount it by hand")]
            {
                println!("{} is still mounted: {reason}", self.point.display());
            }
        }
    }
}

fn loop_of(image: &Path) -> Vec<String> {
    vec!["-o".to_owned(), "loop".to_owned(), image.display().to_string()]
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

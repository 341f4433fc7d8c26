//! The seam to the disk: a replica's files, and who waits for them.
//!
//! Production has the operating system's; the simulation has one in memory, which forgets what was not synced and does
//! all work in the one thread that it runs in.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Where files are.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Creates a folder, and those that it is in.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;

    /// The names in a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Opens a file, to be read and written.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, also if that is another file's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file's name away; its content goes when nobody has it open any more.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Leaves the disk to others for so long, on a thread that only works on it; a disk that is simulated needs no rest.
    fn rest(&self, _pause: Duration) {}

    /// How long the work that is asked for now takes, on a disk that is simulated. Work that waits for a real one gets
    /// a thread of its own, and the state's file is opened by its path, and locked.
    fn simulated_latency(&self) -> Option<Duration> {
        None
    }
}

/// What is expected of a file that is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It exists.
    Existing,
    /// It does not exist.
    New,
    /// Either; it is empty afterwards.
    Empty,
    /// Either; its content stays.
    Any,
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Fills `bytes` from an offset on, or fails.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at an offset.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts it, or appends zeros.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes what was written durable, and the length.
    fn sync(&self) -> io::Result<()>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true).write(true);
        let options = match mode {
            OpenMode::Existing => &mut options,
            OpenMode::New => options.create_new(true),
            OpenMode::Empty => options.create(true).truncate(true),
            OpenMode::Any => options.create(true).truncate(false),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    #[expect(clippy::disallowed_methods, reason = "there is no condition to wait for: the pause is what is wanted")]
    fn rest(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Does work that waits for a disk, without keeping this task's thread from others: it has it for itself only where the
/// disk is simulated.
pub(crate) async fn wait_for<R: Send + 'static>(
    disk: &dyn Disk,
    work: impl FnOnce() -> R + Send + 'static,
) -> io::Result<R> {
    match disk.simulated_latency() {
        None => Ok(tokio::task::spawn_blocking(work).await?),
        Some(latency) => {
            sleep_until(Instant::now() + latency).await;
            Ok(work())
        }
    }
}

/// A file's content, where there is one.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    FileReader::new(&*file)?.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Makes `bytes` the content of a file, durably; after a crash it has them, or what it had before. What is written until
/// then has the name `draft`.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(draft, OpenMode::Empty)?;
    file.write_all_at(bytes, 0)?;
    file.sync()?;
    disk.rename(draft, path)?;
    disk.sync_folder(&folder_of(path))
}

fn folder_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Reads a file from its start.
pub(crate) struct FileReader<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    length: u64,
}

impl<'a> FileReader<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> io::Result<Self> {
        Ok(Self { file, offset: 0, length: file.length()? })
    }

    /// As long as the file was when this began.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.offset).unwrap_or(usize::MAX);
        let count = bytes.len().min(left);
        self.file.read_exact_at(&mut bytes[..count], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

//! How much of the disk content may fill.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Result as SystemResult;

use crate::error::BlobError;

/// Room on the disk of a folder.
pub(super) struct Room {
    folder: PathBuf,
    /// Bytes that stay free.
    reserve: u64,
    /// Bytes that are being written, of which the file system may not know yet.
    taken: AtomicU64,
}

/// Room that was taken and is being filled.
pub(super) struct Taken<'a>(&'a AtomicU64, u64);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Room {
    pub(super) fn new(folder: &Path, reserve: u64) -> Self {
        Self { folder: folder.to_owned(), reserve, taken: AtomicU64::default() }
    }

    /// Takes room for content, unless that would leave less than the reserve.
    pub(super) fn take(&self, bytes: u64) -> Result<Taken<'_>, BlobError> {
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let room = Taken(&self.taken, bytes);
        // Where the file system does not say, the write itself will.
        let Ok(free) = free_bytes(&self.folder) else { return Ok(room) };
        if self.reserve > 0 && free < self.reserve.saturating_add(taken) {
            let (folder, reserve) = (self.folder.display(), self.reserve);
            return Err(BlobError::Full(format!(
                "{free} bytes are free in {folder}, of which {reserve} are kept for deleting and collecting"
            )));
        }
        Ok(room)
    }
}

/// Bytes of the disk of a folder that may be written yet.
pub(crate) fn free_bytes(folder: &Path) -> SystemResult<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_written_counts_until_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        let half = disk.f_bavail * disk.f_frsize / 2;
        let room = Room::new(folder.path(), half / 2);
        let first = room.take(half).unwrap();
        assert!(matches!(room.take(half), Err(BlobError::Full(_))), "both would eat into the reserve");
        drop(first);
        room.take(half).unwrap();
    }
}

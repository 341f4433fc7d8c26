//! A snapshot on disk: home sends it as fast as the link carries it, and it is compared as fast as that goes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

use crate::disk::disk_work;
use crate::limits::SPOOLED_BYTES;
use crate::wire::{SnapshotLine, line};

/// Why a snapshot is not on the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("home's snapshot could not be put on the disk: {0}")]
pub(crate) struct SpoolError(String);

fn failed(error: impl std::fmt::Display) -> SpoolError {
    SpoolError(error.to_string())
}

/// Lines, first written, then read.
pub(super) struct Spool {
    file: Arc<File>,
    written: u64,
    read: u64,
    /// What is not written yet; while reading, what was read ahead.
    buffer: BytesMut,
}

impl Spool {
    /// An empty one, in a file without a name.
    pub(super) fn new(folder: &Path) -> Result<Self, SpoolError> {
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = tempfile::tempfile_in(folder).map_err(failed)?;
        Ok(Self { file: Arc::new(file), written: 0, read: 0, buffer: BytesMut::new() })
    }

    /// Appends a line.
    pub(super) async fn push(&mut self, snapshot_line: &SnapshotLine) -> Result<(), SpoolError> {
        self.buffer.extend_from_slice(&line(snapshot_line).map_err(failed)?);
        if self.buffer.len() >= SPOOLED_BYTES { self.flush().await } else { Ok(()) }
    }

    /// No more lines are appended.
    pub(super) async fn flush(&mut self) -> Result<(), SpoolError> {
        let (file, at, bytes) = (Arc::clone(&self.file), self.written, self.buffer.split().freeze());
        self.written += bytes.len() as u64;
        disk_work(bytes.len(), move || file.write_all_at(&bytes, at)).await.map_err(failed)?.map_err(failed)
    }

    /// The next line; `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<SnapshotLine>, SpoolError> {
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.buffer.iter().skip(looked_at).position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(looked_at + end);
                self.buffer.advance(1);
                return serde_json::from_slice(&line).map(Some).map_err(failed);
            }
            looked_at = self.buffer.len();
            let left = usize::try_from(self.written - self.read).unwrap_or(usize::MAX);
            if left == 0 {
                return Ok(None);
            }
            let (file, at) = (Arc::clone(&self.file), self.read);
            let read = disk_work(left.min(SPOOLED_BYTES), move || {
                let mut bytes = vec![0; left.min(SPOOLED_BYTES)];
                file.read_exact_at(&mut bytes, at).map(|()| bytes)
            });
            let read = read.await.map_err(failed)?.map_err(failed)?;
            self.read += read.len() as u64;
            self.buffer.extend_from_slice(&read);
        }
    }
}

#[cfg(test)]
mod tests {
    use roadstead_oci::Tag;

    use super::*;
    use crate::fixture::{name, sha256};

    #[tokio::test]
    async fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path()).unwrap();
        let lines: Vec<_> = (0..40_000_u32)
            .map(|number| {
                let tag: Tag = format!("v{number}").parse().unwrap();
                SnapshotLine::Tags { repository: name("app"), tags: vec![(tag, sha256(&number.to_be_bytes()))] }
            })
            .collect();
        for line in &lines {
            spool.push(line).await.unwrap();
        }
        spool.flush().await.unwrap();
        assert!(spool.written > 2 * SPOOLED_BYTES as u64);
        for line in lines {
            assert_eq!(spool.next().await.unwrap(), Some(line));
        }
        assert_eq!(spool.next().await.unwrap(), None);
    }
}

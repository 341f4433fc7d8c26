//! Who a replica is: a small file beside its log, written once.
//!
//! ```text
//! crc32 u32 | format u8 | IdentityRecord
//! ```
//!
//! A blank volume first gets an id of its own, on disk, and only then asks a cluster for a node id. So a replica that
//! dies between the two asks again for the same volume and gets the same node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::{self, Disk};
use crate::encoding::{decode, encode};
use crate::{ClusterId, OpenError, VolumeId};

/// A replica's place in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its number in the cluster, which is never given to another volume.
    pub node: u64,
}

/// What the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdentityRecord {
    pub volume: VolumeId,
    /// `None` until a cluster has taken it in.
    pub member: Option<Identity>,
}

/// The file of a volume.
pub(crate) struct IdentityFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl IdentityFile {
    pub(crate) fn of(disk: Arc<dyn Disk>, folder: &Path) -> Self {
        Self { disk, path: folder.join("identity") }
    }

    /// What is in it; `None` on a blank volume.
    pub(crate) fn read(&self) -> Result<Option<IdentityRecord>, OpenError> {
        let read = disk::read(&*self.disk, &self.path);
        let Some(bytes) = read.map_err(|source| OpenError::Io { path: self.path.clone(), source })? else {
            return Ok(None);
        };
        let damaged = |why: &str| {
            OpenError::Damaged(format!(
                "{}: {why}. This replica cannot know who it is: give it an empty folder, so that it joins anew",
                self.path.display()
            ))
        };
        let (sum, value) = bytes.split_first_chunk().ok_or_else(|| damaged("it is cut short"))?;
        if crc32fast::hash(value) != u32::from_be_bytes(*sum) {
            return Err(damaged("its checksum is wrong"));
        }
        decode(value).map(Some).map_err(|error| damaged(&error.to_string()))
    }

    /// Makes `record` what is in it, durably, whole or not at all.
    pub(crate) fn write(&self, record: &IdentityRecord) -> Result<(), OpenError> {
        let value = encode(record);
        let bytes = [&crc32fast::hash(&value).to_be_bytes()[..], &value].concat();
        let written = disk::replace(&*self.disk, &self.path, &self.path.with_extension("unfinished"), &bytes);
        written.map_err(|source| OpenError::Io { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalDisk;
    use crate::golden::check;

    const BLANK: IdentityRecord = IdentityRecord { volume: VolumeId(9), member: None };
    const MEMBER: IdentityRecord =
        IdentityRecord { volume: VolumeId(9), member: Some(Identity { cluster: ClusterId(7), node: 3 }) };

    #[test]
    fn golden_identity() {
        check("identity", &[("blank", BLANK), ("member", MEMBER)]);
    }

    #[test]
    fn what_was_written_is_read_and_a_damaged_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = IdentityFile::of(Arc::new(LocalDisk), folder.path());
        assert_eq!(file.read().unwrap(), None);
        for record in [BLANK, MEMBER] {
            file.write(&record).unwrap();
            assert_eq!(file.read().unwrap(), Some(record));
        }
        let whole = std::fs::read(&file.path).unwrap();
        for end in 0..whole.len() {
            std::fs::write(&file.path, &whole[..end]).unwrap();
            assert!(matches!(file.read(), Err(OpenError::Damaged(_))), "cut at {end}");
        }
    }
}

//! `roadstead backup`: a snapshot of the facts, now.

use std::io;
use std::path::Path;

use roadstead_domain::{Fault, Registry, ShipError, SnapshotTaken, rfc3339};
use roadstead_metadata::Role;
use serde::{Deserialize, Serialize};

use super::client::{Client, block_on};
use super::socket::connect;

/// The answer of `POST /admin/v1/backup`. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// The newest change that is in the backup.
    pub sequence: u64,
    /// RFC 3339.
    pub time: String,
    /// The snapshot's key below the bucket's prefix or the blobs' folder.
    pub key: String,
    pub bytes: u64,
    /// The last entry of the log that is in it.
    pub index: u64,
}

/// Writes a snapshot: everything that was acknowledged before is in it.
pub(crate) async fn take(registry: &Registry) -> Result<Taken, ShipError> {
    registry.metadata().linearize().await.map_err(Fault::from)?;
    Ok(registry.take_snapshot().await?.into())
}

impl From<SnapshotTaken> for Taken {
    fn from(SnapshotTaken { key, size, entries, place }: SnapshotTaken) -> Self {
        Self {
            sequence: place.position.sequence,
            time: rfc3339(&place.time),
            key: key.to_string(),
            bytes: size,
            index: entries.saturating_sub(1),
        }
    }
}

/// How far the backup is, as the replica that writes it sees it. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BackupState {
    /// How long the oldest change has been waiting that is not in the backup; 0 where none is.
    pub lag_seconds: f64,
    /// The newest snapshot, if there is one, and it is known when it was taken.
    pub snapshot: Option<Taken>,
    /// Whether the last snapshot that was to be written was not: the log says why.
    pub snapshot_failed: bool,
}

/// The present one; none where another replica, or nobody, writes the backup.
pub(crate) fn state(registry: &Registry) -> Option<BackupState> {
    let writes = registry.backs_up() && registry.metadata().status().role == Role::Leader;
    writes.then(|| BackupState {
        lag_seconds: registry.backup_lag().as_secs_f64(),
        snapshot: registry.newest_snapshot().map(Taken::from),
        snapshot_failed: registry.snapshot_failed(),
    })
}

/// Asks the registry that runs on `data`; `None` if there is none.
pub(crate) fn ask(data: &Path) -> anyhow::Result<Option<Taken>> {
    block_on(async {
        match connect(data).await {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            // Any other failure is told by the client in the same words as for other commands.
            _ => Client::connect(data).await?.command("/admin/v1/backup").await.map(Some),
        }
    })
}

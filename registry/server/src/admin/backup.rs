//! `roadstead backup`: a snapshot of the facts, now.

use std::io;
use std::path::Path;

use roadstead_domain::{Fault, Registry, ShipError, SnapshotTaken, rfc3339};
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
    let SnapshotTaken { key, size, entries, place } = registry.take_snapshot().await?;
    Ok(Taken {
        sequence: place.position.sequence,
        time: rfc3339(&place.time),
        key: key.to_string(),
        bytes: size,
        index: entries.saturating_sub(1),
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

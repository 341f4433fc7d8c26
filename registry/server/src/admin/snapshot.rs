//! `roadstead snapshot`: this replica's state on its own disk, now.

use std::path::Path;

use roadstead_metadata::Metadata;
use serde::{Deserialize, Serialize};

use super::client::{Client, block_on};
use super::problem::{Code, Problem};

/// The answer of `POST /admin/v1/snapshot`. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// This replica.
    pub node: u64,
    /// The newest entry of the log that its state has on disk: a start replays what follows it.
    pub index: u64,
}

/// Makes what is applied durable in the state.
pub(super) async fn take(metadata: &Metadata) -> Result<Snapshot, Problem> {
    let index = metadata.checkpoint().await.map_err(|error| Problem::new(Code::Unavailable, error))?;
    Ok(Snapshot { node: metadata.identity().node, index })
}

/// Asks the registry on `data`, and gives what is to be printed.
pub(crate) fn run(data: &Path, as_json: bool) -> anyhow::Result<String> {
    let taken: Snapshot = block_on(async { Client::connect(data).await?.command("/admin/v1/snapshot").await })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&taken)? + "\n");
    }
    Ok(format!("node {} has everything up to entry {} in its state, durably\n", taken.node, taken.index))
}

//! The other replicas of a mirror: what the server's endpoint of the same kind answers.

use std::ops::Range;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use roadstead_geo::{HomeBlob, HomeError, PulledBlob, Siblings};
use roadstead_metadata::Metadata;
use roadstead_oci::{Digest, RepositoryName};

use super::cluster::Cluster;
use super::process::Process;

/// See the module.
pub(super) struct SimulatedSiblings {
    /// It has the replica that has this.
    cluster: Weak<Cluster>,
    process: Arc<Process>,
    metadata: Metadata,
}

impl SimulatedSiblings {
    pub(super) fn new(cluster: &Arc<Cluster>, process: &Arc<Process>, metadata: &Metadata) -> Self {
        Self { cluster: Arc::downgrade(cluster), process: Arc::clone(process), metadata: metadata.clone() }
    }
}

#[async_trait]
impl Siblings for SimulatedSiblings {
    async fn blob(&self, repository: &RepositoryName, digest: &Digest, range: Range<u64>) -> Option<HomeBlob> {
        let cluster = self.cluster.upgrade()?;
        let node = self.metadata.status().leader.filter(|leader| *leader != self.metadata.identity().node)?;
        let leader = cluster.serving().into_iter().find(|serving| serving.metadata.identity().node == node)?;
        let (here, there) = (self.process.name.clone(), leader.process.name.clone());
        let (mirror, network) = (leader.mirror.clone()?, cluster.network.clone());
        network.reach(&here, &there).await?;
        leader.process.pass().await.ok()?;
        // Two replicas that take each other for the leader must not wait for each other.
        if !mirror.leads() {
            return None;
        }
        let found = leader.process.unless_dead(mirror.find_blob(repository, digest)).await.ok()?.ok()?;
        let size = found.size();
        if range.start >= range.end || range.end > size {
            return None;
        }
        let away = |error: &dyn std::fmt::Display| HomeError::Away(error.to_string());
        let bytes = match found {
            PulledBlob::Coming(coming) => {
                let pieces = leader.process.unless_dead(coming.stream(range)).await.ok()?.ok()?;
                pieces.map(move |piece| piece.map_err(|error| away(&error))).boxed()
            }
            PulledBlob::Here(blob) => {
                let pieces = leader.process.unless_dead(leader.registry.stream_blob(&blob, range)).await.ok()?.ok()?;
                pieces.map(move |piece| piece.map_err(|error| away(&error))).boxed()
            }
        };
        network.reach(&there, &here).await?;
        let process = Arc::clone(&leader.process);
        let bytes = bytes.take_until(async move { process.death().await });
        Some(HomeBlob { size, bytes: bytes.boxed() })
    }
}

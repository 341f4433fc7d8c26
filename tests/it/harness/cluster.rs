use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Roadstead, RoundRobin, Setup, free_port, random_bytes, until};

/// An election takes seconds; a machine that is busy with other tests takes longer.
const ELECTION: Duration = Duration::from_mins(1);

/// Replicas of one cluster, each a process.
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Roadstead>,
    pub(crate) front: Arc<RoundRobin>,
    /// Where they reach each other.
    peers: Vec<String>,
    folder: TempDir,
}

impl Cluster {
    /// `count` replicas, each with what `setup` says, over one folder of blobs unless it names a bucket.
    pub(crate) async fn start(count: usize, setup: impl Fn() -> Setup) -> Self {
        let peers: Vec<String> = (0..count).map(|_| free_address()).collect();
        Self::start_at(&peers, |_| setup()).await
    }

    /// One replica for each of these addresses, on which they speak with each other.
    pub(crate) async fn start_at(peers: &[String], setup: impl Fn(usize) -> Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("rs-cluster-").tempdir().expect("a temporary folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, hex::encode(random_bytes(7, 32))).expect("the secret");
        let mut replicas = Vec::new();
        for (index, peer) in peers.iter().enumerate() {
            replicas.push(member(setup(index), folder.path(), peer, &peers[..index]).start().await);
        }
        let front = RoundRobin::over(replicas.iter().map(|replica| replica.base().to_owned()).collect()).await;
        let cluster = Self { replicas, front: Arc::new(front), peers: peers.to_vec(), folder };
        cluster.until_voters(peers.len()).await;
        cluster
    }

    /// Adds a replica with what `setup` says and an empty folder, by way of one of the others, and returns once it serves.
    pub(crate) async fn join(&mut self, setup: Setup, seed: usize) -> usize {
        let peer = free_address();
        let seeds = [self.peers[seed].clone()];
        self.replicas.push(member(setup, self.folder.path(), &peer, &seeds).start().await);
        self.peers.push(peer);
        self.replicas.len() - 1
    }

    /// Where the others reach a replica.
    pub(crate) fn peer(&self, index: usize) -> &str {
        &self.peers[index]
    }

    /// What a replica says of the members.
    pub(crate) async fn members(&self, index: usize) -> Value {
        let printed = self.replicas[index].subcommand("members").arg("--json").succeeds().await;
        serde_json::from_str(&printed).expect("members in JSON")
    }

    /// Waits until so many replicas have a vote.
    async fn until_voters(&self, count: usize) {
        until("all replicas have a vote", ELECTION, async || {
            let mut voters = 0;
            for replica in &self.replicas {
                let role = status(replica).await["raft"]["role"].as_str().map(str::to_owned);
                voters += usize::from(matches!(role.as_deref(), Some("leader" | "follower")));
            }
            (voters == count).then_some(())
        })
        .await;
    }

    /// The replica that leads, among those that answer.
    pub(crate) async fn leader(&self) -> usize {
        until("a leader is known", ELECTION, async || {
            for (index, replica) in self.replicas.iter().enumerate() {
                let tool = replica.subcommand("status").arg("--json");
                let (answered, printed) = tool.outcome().await;
                let status: Value = serde_json::from_str(&printed).unwrap_or_default();
                if answered && status["raft"]["role"] == "leader" {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// The folder of the blobs that all share, if they are files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A replica that the others reach at `peer`, over the blobs of all unless `setup` names a bucket.
fn member(mut setup: Setup, folder: &Path, peer: &str, seeds: &[String]) -> Setup {
    setup = setup.flag("--peer-listen", peer);
    if !setup.names("--cluster-ca") {
        setup = setup.flag("--cluster-secret-file", &folder.join("secret").display().to_string());
    }
    if !setup.names("--storage") {
        setup = setup.flag("--blobs", &folder.join("blobs").display().to_string());
    }
    seeds.iter().fold(setup, |setup, seed| setup.flag("--join", seed))
}

async fn status(replica: &Roadstead) -> Value {
    let printed = replica.subcommand("status").arg("--json").succeeds().await;
    serde_json::from_str(&printed).expect("a status in JSON")
}

/// An address that is free now: the replicas have to know each other's before they start.
fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

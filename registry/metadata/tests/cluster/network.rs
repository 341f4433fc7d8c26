//! Replicas, and a network of addresses in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use roadstead_metadata::{
    ChangeRefusal, ClusterOptions, CommandId, Levels, LogTime, ManifestContent, MemberChange, Metadata, NewManifest,
    OpenError, Options, PeerError, PeerTransport, Precondition, ProposeError, PutManifest, Role,
};
use roadstead_oci::{Algorithm, Digest, Hasher, RepositoryName, Tag};
use tempfile::TempDir;
use tokio::time::timeout;

/// A condition that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A network of addresses, some of which nobody reaches.
#[derive(Clone, Default)]
pub(crate) struct Network(pub(crate) Arc<Mutex<Wires>>);

#[derive(Default)]
pub(crate) struct Wires {
    pub(crate) replicas: BTreeMap<String, Metadata>,
    pub(crate) cut: BTreeSet<String>,
}

/// One replica's end of the network.
struct Wire {
    network: Network,
    from: String,
}

impl PeerTransport for Wire {
    fn call<'a>(
        &'a self,
        address: &'a str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        async move {
            let target = {
                let wires = self.network.0.lock();
                let is_cut = wires.cut.contains(address) || wires.cut.contains(&self.from);
                wires.replicas.get(address).filter(|_| !is_cut).cloned()
            };
            let target = target.ok_or_else(|| PeerError::NotSent(format!("nobody listens at {address}")))?;
            let answer = timeout(patience, target.answer(&message)).await;
            answer.map_err(|_| PeerError::Unknown("no answer in time".to_owned()))
        }
        .boxed()
    }
}

/// Changes the members, asking as often as it takes: a replica that has just joined is not in contact yet and has not
/// caught up, and on a busy machine an acknowledgement is soon too old, or another leads.
pub(crate) async fn change(through: &Metadata, change: MemberChange) {
    let changed = async {
        while let Err(refused) = through.change_members(change).await {
            let passes = matches!(
                refused,
                ChangeRefusal::Behind { .. }
                    | ChangeRefusal::Silent(_)
                    | ChangeRefusal::InProgress
                    | ChangeRefusal::Quorum { .. }
                    | ChangeRefusal::NoLeader(_)
                    | ChangeRefusal::Unknown(_)
            );
            assert!(passes, "{refused}");
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, changed).await.unwrap();
}

/// Tells the cluster where a replica is, as soon as somebody hears it.
pub(crate) async fn announce(metadata: &Metadata, address: &str) {
    let announced = async {
        while metadata.announce(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, announced).await.unwrap();
}

/// The end of the network that a replica at `from` has.
pub(crate) fn wire(network: &Network, from: &str) -> Arc<dyn PeerTransport> {
    Arc::new(Wire { network: network.clone(), from: from.to_owned() })
}

pub(crate) struct Replica {
    pub(crate) address: String,
    pub(crate) folder: TempDir,
    pub(crate) metadata: Metadata,
}

pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) replicas: Vec<Replica>,
    /// What the build of those reads that are added.
    pub(crate) levels: Levels,
}

impl Cluster {
    /// A cluster of `voters`, the first of which began it.
    pub(crate) async fn of(voters: usize) -> Self {
        Self::of_release(voters, Levels::OF_THIS_BUILD).await
    }

    /// One of replicas that read so much.
    pub(crate) async fn of_release(voters: usize, levels: Levels) -> Self {
        let mut cluster = Self { network: Network::default(), replicas: Vec::new(), levels };
        for _ in 0..voters {
            cluster.add().await;
        }
        cluster
    }

    /// Adds a replica and waits until it has a vote.
    pub(crate) async fn add(&mut self) {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("replica-{}", self.replicas.len());
        let seeds = self.replicas.iter().map(|replica| replica.address.clone()).collect();
        let volume = 100 + self.replicas.len() as u128;
        let metadata = try_open(&self.network, folder.path(), &address, seeds, volume, self.levels).await.unwrap();
        let node = metadata.identity().node;
        self.replicas.push(Replica { address, folder, metadata });
        if self.replicas.len() > 1 {
            change(self.any(), MemberChange::Promote { node }).await;
        }
    }

    pub(crate) fn any(&self) -> &Metadata {
        &self.replicas[0].metadata
    }

    pub(crate) async fn leader(&self, among: &[usize]) -> usize {
        let found = async {
            loop {
                let leads = |index: &&usize| self.replicas[**index].metadata.status().role == Role::Leader;
                if let Some(index) = among.iter().find(leads) {
                    return *index;
                }
                let _ = timeout(Duration::from_millis(50), self.replicas[among[0]].metadata.changed()).await;
            }
        };
        timeout(PATIENCE, found).await.unwrap()
    }

    /// Lets a replica lead, as soon as it can.
    pub(crate) async fn let_lead(&self, index: usize) {
        let to = self.replicas[index].metadata.identity().node;
        let led = async {
            // One that has just started has to be heard of first.
            while self.any().change_members(MemberChange::TransferLeadership { to }).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, led).await.unwrap();
        self.leader(&[index]).await;
    }

    pub(crate) fn cut(&self, index: usize) {
        self.network.0.lock().cut.insert(self.replicas[index].address.clone());
    }

    pub(crate) fn mend(&self, index: usize) {
        self.network.0.lock().cut.remove(&self.replicas[index].address);
    }
}

pub(crate) async fn open(
    network: &Network,
    folder: &Path,
    address: &str,
    seeds: Vec<String>,
    volume: u128,
) -> Metadata {
    try_open(network, folder, address, seeds, volume, Levels::OF_THIS_BUILD).await.unwrap()
}

/// Opens a replica whose build reads so much.
pub(crate) async fn try_open(
    network: &Network,
    folder: &Path,
    address: &str,
    seeds: Vec<String>,
    volume: u128,
    levels: Levels,
) -> Result<Metadata, OpenError> {
    let wire = Wire { network: network.clone(), from: address.to_owned() };
    let cluster = Some(ClusterOptions { transport: Arc::new(wire), address: address.to_owned(), seeds });
    let options = Options { cluster, levels, ..Options::new(folder, [volume, 7]) };
    let metadata = timeout(PATIENCE, Metadata::open(options)).await.unwrap()?;
    network.0.lock().replicas.insert(address.to_owned(), metadata.clone());
    Ok(metadata)
}

pub(crate) fn repository() -> RepositoryName {
    "library/nginx".parse().unwrap()
}

pub(crate) fn tag(number: u128) -> Tag {
    format!("v{number}").parse().unwrap()
}

pub(crate) fn digest(number: u128) -> Digest {
    *Hasher::digest(Algorithm::Sha256, format!("manifest {number}").as_bytes()).get()
}

pub(crate) async fn put(metadata: &Metadata, number: u128) -> Result<(), ProposeError> {
    let content = Bytes::from(format!("manifest {number}"));
    let manifest = NewManifest {
        repository: repository(),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        size: content.len() as u64,
        content: ManifestContent::Inline(content.clone()),
        blobs: Vec::new(),
        referrer: None,
        tags: vec![tag(number)],
        precondition: Precondition::None,
        sparse: false,
    };
    let put = PutManifest::new(Hasher::digest(Algorithm::Sha256, &content), manifest);
    metadata.propose(CommandId(number), LogTime(1), put).await?.unwrap();
    Ok(())
}

pub(crate) fn has(metadata: &Metadata, number: u128) -> bool {
    metadata.query().unwrap().tag(&repository(), &tag(number)).unwrap() == Some(digest(number))
}

//! A volume's way into a cluster, for whoever follows it from outside, and may order it to begin one.
//!
//! ```text
//!  empty volume, seeds given --+-- a seed takes it in ----------------> a new node of the seeds' cluster
//!                              '-- Beginning::order(volume, cluster) -> node 1 of the cluster that was ordered
//! ```
//!
//! Of replicas that are started alike, none begins a cluster by itself: somebody who sees all of them, and has noted which
//! volume is to do it, orders it. A replica that died before its log began waits again, and the order is given again.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{ClusterId, Identity, VolumeId};

/// See the module. Clones are of the same volume.
#[derive(Clone, Debug, Default)]
pub struct Beginning(Arc<Stages>);

#[derive(Debug, Default)]
struct Stages {
    volume: watch::Sender<Option<VolumeId>>,
    ordered: watch::Sender<Option<ClusterId>>,
    identity: watch::Sender<Option<Identity>>,
}

/// Why a volume does not begin the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeginRefusal {
    /// Somebody else is here than was ordered.
    #[error("another volume was ordered to begin the cluster")]
    OtherVolume,
    /// It is in a cluster.
    #[error("this volume is node {} of another cluster", .0.node)]
    HasCluster(Identity),
}

impl Beginning {
    /// The volume, once its folder is open.
    pub fn volume(&self) -> Option<VolumeId> {
        *self.0.volume.borrow()
    }

    /// Who it is, once it is in a cluster and that is on its disk.
    pub fn identity(&self) -> Option<Identity> {
        *self.0.identity.borrow()
    }

    /// Lets `volume`, if it is this one, begin `cluster`, and waits until that is on its disk. Ordering the same again is
    /// ordering it once.
    pub async fn order(&self, volume: VolumeId, cluster: ClusterId) -> Result<Identity, BeginRefusal> {
        if self.volume() != Some(volume) {
            return Err(BeginRefusal::OtherVolume);
        }
        if self.identity().is_none() {
            // The first order counts.
            self.0.ordered.send_if_modified(|ordered| {
                let is_first = ordered.is_none();
                ordered.get_or_insert(cluster);
                is_first
            });
        }
        let mut settled = self.0.identity.subscribe();
        let settled = settled.wait_for(Option::is_some).await.ok().and_then(|identity| *identity);
        match settled {
            Some(identity) if identity.cluster == cluster => Ok(identity),
            Some(identity) => Err(BeginRefusal::HasCluster(identity)),
            None => Err(BeginRefusal::OtherVolume),
        }
    }

    pub(super) fn found(&self, volume: VolumeId) {
        self.0.volume.send_replace(Some(volume));
    }

    pub(super) fn settled(&self, identity: Identity) {
        self.0.identity.send_replace(Some(identity));
    }

    /// Waits for the order.
    pub(super) async fn ordered(&self) -> ClusterId {
        let mut ordered = self.0.ordered.subscribe();
        match ordered.wait_for(Option::is_some).await.map(|ordered| *ordered) {
            Ok(Some(cluster)) => cluster,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

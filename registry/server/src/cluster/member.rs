//! What a replica does to be a member: says where it is, asks for a vote when it has caught up, and notices when it was
//! taken out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roadstead_metadata::{AnnounceError, MemberChange, Metadata, Role};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info};

use crate::health::Health;
use crate::tasks::{TaskFailed, TaskResult};

/// How often it looks whether it has caught up, and tries again what failed.
const LOOK: Duration = Duration::from_millis(250);

/// A leader of which nothing is heard for so long, and no other: longer than an election.
const SILENCE: Duration = Duration::from_secs(5);

/// A replica on its way into its cluster.
pub(crate) struct Member {
    pub(crate) metadata: Metadata,
    pub(crate) health: Arc<Health>,
    /// Where the others reach it.
    pub(crate) address: String,
    /// Whether it is to have a vote, or is content to learn.
    pub(crate) wants_vote: bool,
    /// Told, if the others have taken it out.
    pub(crate) removal: Removal,
}

/// Whether this replica was taken out of its cluster. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removal(Arc<AtomicBool>);

impl Removal {
    pub(crate) fn has_happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn happened(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The replica ended since it was taken out of its cluster: its volume is of no use any more.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Removed(pub(crate) TaskFailed);

impl Member {
    /// Does not end by itself; fails if the replica was taken out of its cluster, or reads less than that uses.
    pub(crate) async fn run(self: Arc<Self>) -> TaskResult {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Its own log, applied, is enough to serve; a new replica has none, and waits for that of the others.
        let is_new = self.metadata.status().last_log_index == 0;
        let mut is_announced = false;
        loop {
            looks.tick().await;
            if !is_new && self.metadata.status().caught_up {
                self.health.ready();
            }
            if !is_announced {
                match self.metadata.announce(&self.address).await {
                    Ok(()) => is_announced = true,
                    Err(error) if self.has_to_end(&error) => return Err(error.into()),
                    Err(error) => debug!(reason = %error, "the others do not know yet where this replica is: {error}"),
                }
            }
            if is_announced && self.metadata.linearize().await.is_ok() {
                self.health.ready();
                if self.is_settled().await {
                    return self.stay().await;
                }
            }
        }
    }

    /// Asks the others what has become of it whenever it hears of no leader: they may have taken it out. Sees to it that
    /// what all members read may be used.
    async fn stay(&self) -> TaskResult {
        let mut looks = interval(SILENCE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let is_silent = self.metadata.status().contact.is_none_or(|contact| contact > SILENCE);
            if is_silent
                && let Err(error) = self.metadata.announce(&self.address).await
                && self.has_to_end(&error)
            {
                return Err(error.into());
            }
            self.metadata.settle_level().await;
        }
    }

    /// Whether `error` is a reason to end. That of a removal is told.
    fn has_to_end(&self, error: &AnnounceError) -> bool {
        match error {
            AnnounceError::Removed(_) => {
                self.removal.happened();
                true
            }
            AnnounceError::Later(_) => true,
            AnnounceError::NoLeader(_) => false,
        }
    }

    async fn is_settled(&self) -> bool {
        if !self.wants_vote || self.metadata.status().role != Role::Learner {
            return true;
        }
        let node = self.metadata.identity().node;
        match self.metadata.change_members(MemberChange::Promote { node }).await {
            Ok(()) => {
                info!(node, "this replica has a vote now");
                true
            }
            Err(refused) => {
                debug!(reason = %refused, "no vote yet: {refused}");
                false
            }
        }
    }
}

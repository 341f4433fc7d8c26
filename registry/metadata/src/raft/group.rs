//! A replica and its group: what it is made of, its status, its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::async_runtime::instant::Instant as _;
use openraft::{Raft, ServerState};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::config::Types;
use super::log::LogReader;
use super::machine::{self, Machine};
use super::peers::Peers;
use super::proposal_rounds::ProposalRounds;
use super::read_rounds::ReadRounds;
use super::receive_snapshot::SnapshotReceiver;
use super::rests::Rests;
use crate::log_clock::LogClock;
use crate::{CheckpointError, Identity, LogTime, Position, Query, QueryError, Role, Snapshot, Status, VolumeId};

/// How long a checkpoint that was asked for is waited for before it is asked for again.
const CHECKPOINT_LOOK: Duration = Duration::from_secs(1);

/// Who has heard of a leader, or as a leader of a quorum, no longer ago than this is in touch with the group: some
/// heartbeats, and less than what may be stamped ahead.
const IN_TOUCH: Duration = Duration::from_secs(2);

/// A replica.
pub(crate) struct Group {
    pub(super) raft: Raft<Types, Machine>,
    pub(super) identity: Identity,
    pub(super) volume: VolumeId,
    pub(super) peers: Peers,
    pub(super) snapshots: SnapshotReceiver,
    pub(super) contact: Contact,
    pub(super) clock: LogClock,
    pub(super) shared: Arc<machine::Shared>,
    pub(super) log: LogReader,
    /// The newest entry of the log when it was opened.
    pub(super) last_index_at_open: u64,
    pub(super) reads: ReadRounds,
    pub(super) proposals: ProposalRounds,
    pub(super) rests: Rests,
    /// Had by whoever takes a replica in, as long as that lasts.
    pub(super) joining: tokio::sync::Mutex<()>,
    pub(super) ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Group {
    /// Whether this replica is the only voter.
    pub(super) fn is_alone(&self) -> bool {
        self.raft.voter_ids().eq([self.identity.node])
    }

    /// Whether it is known to have a vote.
    pub(super) fn is_voter(&self) -> bool {
        self.raft.voter_ids().any(|voter| voter == self.identity.node)
    }

    /// Who this replica is.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// See [`LogClock`].
    pub(crate) fn log_time(&self, wall: LogTime, monotonic: Duration) -> LogTime {
        let applied = LogTime(self.shared.time.load(Ordering::Relaxed));
        let hears = self.is_alone() || self.status().contact.is_some_and(|ago| ago <= IN_TOUCH);
        self.clock.read(applied, wall, monotonic, hears)
    }

    /// See [`LogClock::silence`].
    pub(crate) fn silence(&self, monotonic: Duration) -> Duration {
        self.clock.silence(monotonic)
    }

    /// A view of the applied state.
    pub(crate) fn query(&self) -> Result<Query, QueryError> {
        Ok(Query::new(self.shared.state.read()?))
    }

    /// Follows the newest change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Position> {
        self.shared.position.subscribe()
    }

    /// Waits until what there is to say of the replica may have changed.
    pub(crate) async fn changed(&self) {
        // An error is a replica that has stopped, which never changes again but is to be noticed.
        let _stopped = self.raft.server_metrics().changed().await;
    }

    /// Follows how many entries are applied, from the first on.
    pub(crate) fn subscribe_applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// All facts as they are now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, QueryError> {
        Snapshot::of(self.shared.state.read()?)
    }

    pub(super) fn log(&self) -> &LogReader {
        &self.log
    }

    /// What there is to say of the replica.
    pub(crate) fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let role = match (&metrics.running_state, metrics.state) {
            (Err(_), _) | (_, ServerState::Shutdown) => Role::Stopped,
            (Ok(()), ServerState::Leader) => Role::Leader,
            (Ok(()), ServerState::Follower) => Role::Follower,
            (Ok(()), ServerState::Candidate) => Role::Candidate,
            (Ok(()), ServerState::Learner) => Role::Learner,
        };
        let acknowledged = metrics.last_quorum_acked.map(|at| at.elapsed());
        let heard = self.contact.last().map(|at| at.elapsed());
        let applied_index = metrics.last_applied.map_or(0, |applied| applied.index);
        Status {
            role,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index,
            checkpoint_index: self.shared.checkpoint.load(Ordering::Relaxed),
            log_bytes: self.log.bytes(),
            caught_up: applied_index >= self.last_index_at_open,
            contact: acknowledged.into_iter().chain(heard).min(),
            level: self.level(),
            reads: self.shared.levels.reads,
            fatal: metrics.running_state.as_ref().err().map(|fatal| match self.shared.later() {
                Some(later) => later.to_string(),
                None => fatal.to_string(),
            }),
        }
    }

    /// This replica's volume.
    pub(crate) fn volume(&self) -> VolumeId {
        self.volume
    }

    /// Makes the state durable as far as it is applied now, and gives the newest entry that is in it. The log before it
    /// is then not needed to start again.
    pub(crate) async fn checkpoint(&self, patience: Duration) -> Result<u64, CheckpointError> {
        let wanted = self.status().applied_index;
        let deadline = Instant::now() + patience;
        loop {
            self.raft.trigger().snapshot().await.map_err(|fatal| CheckpointError(fatal.to_string()))?;
            // One that is being made already may be of less: then it is asked for again.
            let left = CHECKPOINT_LOOK.min(deadline.saturating_duration_since(Instant::now()));
            let is_made = |metrics: &openraft::RaftMetrics<Types>| {
                metrics.snapshot.is_some_and(|snapshot| snapshot.index >= wanted)
            };
            match self.raft.wait(Some(left)).metrics(is_made, "checkpointed").await {
                Ok(metrics) => return Ok(metrics.snapshot.map_or(wanted, |snapshot| snapshot.index)),
                Err(error) if Instant::now() >= deadline => return Err(CheckpointError(error.to_string())),
                Err(_) => {}
            }
        }
    }

    /// Ends the replica, then makes its state durable.
    pub(crate) async fn shutdown(&self) -> Result<(), QueryError> {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the Raft core did not end in order");
        }
        // Its last batch of entries is applied when the machine is gone.
        self.ended.lock().await.recv().await;
        self.shared.blocking(|shared| shared.state.checkpoint()).await.map_err(QueryError::storage)
    }
}

/// When a leader was heard of last.
#[derive(Default)]
pub(super) struct Contact(Mutex<Option<Instant>>);

impl Contact {
    pub(super) fn touch(&self, now: Instant) {
        *self.0.lock() = Some(now);
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{digest, put_manifest, repository, tag};
    use crate::{CommandId, Envelope, Options};

    const PATIENCE: Duration = Duration::from_secs(5);

    async fn put(group: &Group, number: u8) {
        let command = put_manifest(number, &[number]).into();
        let envelope = Envelope { id: CommandId(number.into()), at: LogTime(1), command };
        group.write(&envelope, PATIENCE).await.unwrap();
    }

    #[tokio::test]
    async fn the_log_is_purged_up_to_a_checkpoint_and_both_together_are_everything() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path(), [1, 2]);
        let group = Group::open(options.clone(), PATIENCE).await.unwrap();
        for number in 1..=50 {
            put(&group, number).await;
        }
        let before = group.status();
        assert!(before.checkpoint_index < before.applied_index, "nothing was checkpointed yet: {before:?}");
        group.raft.trigger().snapshot().await.unwrap();
        let wait = group.raft.wait(Some(PATIENCE));
        wait.metrics(|metrics| metrics.snapshot == metrics.last_applied, "checkpointed").await.unwrap();
        assert_eq!(group.status().checkpoint_index, before.applied_index);
        group.raft.trigger().purge_log(before.applied_index - 5).await.unwrap();
        wait.metrics(|metrics| metrics.purged.is_some(), "purged").await.unwrap();
        for number in 51..=60 {
            put(&group, number).await;
        }
        group.shutdown().await.unwrap();
        drop(group);

        let group = Group::open(options.clone(), PATIENCE).await.unwrap();
        let query = group.query().unwrap();
        for number in 1..=60 {
            assert_eq!(query.tag(&repository(1), &tag(number)).unwrap(), Some(digest(number)));
        }
    }
}

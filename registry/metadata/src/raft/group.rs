//! A replica and its group: opening, reading linearizably, status, shutdown.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared};
use openraft::async_runtime::WatchReceiver;
use openraft::async_runtime::instant::Instant as _;
use openraft::impls::BasicNode;
use openraft::{Raft, ServerState};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::config::{Types, config, seeded};
use super::index::Limits;
use super::log::{Log, LogReader};
use super::machine::{self, Machine};
use super::members::join;
use super::peers::Peers;
use super::receive_snapshot::SnapshotReceiver;
use super::segment::SEGMENT_BYTES;
use crate::disk::{Disk, wait_for};
use crate::folder_format;
use crate::identity::{IdentityFile, IdentityRecord};
use crate::log_clock::LogClock;
use crate::state::{FIRST_NODE, State};
use crate::{
    CheckpointError, Identity, Levels, LogTime, OpenError, Options, Position, Query, QueryError, ReadError, Role,
    Snapshot, Status, VolumeId,
};

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
    clock: LogClock,
    pub(super) shared: Arc<machine::Shared>,
    log: LogReader,
    /// The newest entry of the log when it was opened.
    last_index_at_open: u64,
    reads: ReadRounds,
    /// Had by whoever takes a replica in, as long as that lasts.
    pub(super) joining: tokio::sync::Mutex<()>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Group {
    /// Opens a replica, or begins one: as a cluster of its own, or as a learner of the cluster that it joins. A group of
    /// one leads and has applied its whole log when this returns, within `patience`; a member of a larger group has
    /// begun to.
    pub(crate) async fn open(options: Options, patience: Duration) -> Result<Arc<Self>, OpenError> {
        let (alive, ended) = mpsc::channel(1);
        let Options {
            folder,
            state_cache_bytes,
            log_cache_bytes,
            new_volume,
            new_cluster,
            disk,
            seed,
            levels,
            cluster,
            purge_every,
            entries_kept,
            disk_reserve: _,
        } = options;
        let (files, folder_of) = (disk.clone(), folder.clone());
        let open = move || open_files(&files, &folder_of, [state_cache_bytes, log_cache_bytes], levels, alive);
        let (log, machine) = wait_for(&*disk, open).await.map_err(not_started)??;

        let file = IdentityFile::of(disk.clone(), &folder);
        let record = match file.read()? {
            Some(record) => record,
            // Before there were identities there were only groups of one.
            None if log.reader().last_index() > 0 => {
                let member = Identity { cluster: new_cluster, node: FIRST_NODE };
                IdentityRecord { volume: new_volume, member: Some(member) }
            }
            None => IdentityRecord { volume: new_volume, member: None },
        };
        file.write(&record)?;
        // Whose survivor went on alone, and died before its file said so.
        let member = record.member.map(|identity| identity_by(&machine.shared().state, identity)).transpose();
        let record = IdentityRecord { member: member.map_err(not_started)?, ..record };
        let joins = cluster.as_ref().filter(|cluster| !cluster.seeds.is_empty());
        let identity = match (record.member, joins) {
            (Some(identity), _) => identity,
            (None, Some(cluster)) => join(record.volume, levels.reads, cluster).await?,
            (None, None) => Identity { cluster: new_cluster, node: FIRST_NODE },
        };
        file.write(&IdentityRecord { member: Some(identity), ..record })?;

        let (shared, reader) = (machine.shared(), log.reader());
        let last_index_at_open = reader.last_index();
        let transport = cluster.as_ref().map(|cluster| cluster.transport.clone());
        let peers = Peers::new(disk.clone(), identity.cluster, transport);
        let config = Arc::new(config(purge_every, entries_kept).map_err(not_started)?);
        let raft = seeded(seed, Raft::new(identity.node, config, peers.clone(), log, machine));
        let raft = raft.await.map_err(not_started)?;
        let group = Arc::new(Self {
            raft,
            identity,
            volume: record.volume,
            peers,
            snapshots: SnapshotReceiver::new(disk, folder),
            contact: Contact::default(),
            clock: LogClock::default(),
            shared,
            log: reader,
            last_index_at_open,
            reads: ReadRounds::default(),
            joining: tokio::sync::Mutex::default(),
            ended: tokio::sync::Mutex::new(ended),
        });
        let begins = joins.is_none() && identity.node == FIRST_NODE;
        if group.start(begins, cluster.map(|cluster| cluster.address).unwrap_or_default()).await? {
            group.lead_alone(patience).await?;
        }
        Ok(group)
    }

    /// Waits until this group of one leads, and has applied its log.
    async fn lead_alone(self: &Arc<Self>, patience: Duration) -> Result<(), OpenError> {
        let led = self.linearize(patience).await;
        led.map_err(|error| self.shared.later().map_or_else(|| not_started(error), OpenError::Later))?;
        // What is told of a replica follows what it does by a moment.
        let is_led = |metrics: &openraft::RaftMetrics<Types>| metrics.current_leader == Some(self.identity.node);
        self.raft.wait(Some(patience)).metrics(is_led, "it leads").await.map_err(not_started)?;
        self.settle_level(patience).await;
        Ok(())
    }

    /// Begins what there is to begin, and says whether this replica is a group of one.
    async fn start(&self, begins: bool, address: String) -> Result<bool, OpenError> {
        if !self.raft.is_initialized().await.map_err(not_started)? {
            if begins {
                let members = BTreeMap::from([(self.identity.node, BasicNode { addr: address })]);
                self.raft.initialize(members).await.map_err(not_started)?;
            }
            return Ok(begins);
        }
        let is_alone = self.is_alone();
        if is_alone {
            // A group of one has nobody to wait for.
            self.raft.trigger().elect(true).await.map_err(not_started)?;
        }
        Ok(is_alone)
    }

    /// Whether this replica is the only voter.
    fn is_alone(&self) -> bool {
        self.raft.voter_ids().eq([self.identity.node])
    }

    /// Who this replica is.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Waits until this replica has applied all that was acknowledged anywhere before the call.
    pub(crate) async fn linearize(self: &Arc<Self>, patience: Duration) -> Result<(), ReadError> {
        let round = self.reads.join(|| {
            let group = Arc::clone(self);
            async move { group.read_index(patience).await }.boxed()
        });
        match timeout(patience, round).await {
            Ok(result) => result,
            Err(_) => Err(ReadError::NoLeader(format!("it took longer than {patience:?}"))),
        }
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

fn open_files(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    [state_cache_bytes, log_cache_bytes]: [usize; 2],
    levels: Levels,
    alive: mpsc::Sender<()>,
) -> Result<(Log, Machine), OpenError> {
    disk.create_folder(folder).map_err(|source| OpenError::Io { path: folder.to_owned(), source })?;
    folder_format::check(&**disk, folder)?;
    // The state first: its file is locked, which keeps a second process off the log as well.
    let state = State::open(&**disk, &folder.join("state.redb"), state_cache_bytes)?;
    let machine = Machine::new(disk.clone(), state, levels, alive)?;
    folder_format::stamp(&**disk, folder)?;
    let limits = Limits { cache_bytes: log_cache_bytes, segment_bytes: SEGMENT_BYTES };
    let log = Log::open(disk.clone(), &folder.join("log"), limits)?;
    // So that a power cut cannot take away the names of files that hold acknowledged facts.
    for folder in [Some(folder), folder.parent().filter(|parent| !parent.as_os_str().is_empty())].into_iter().flatten()
    {
        disk.sync_folder(folder).map_err(|source| OpenError::Io { path: folder.to_owned(), source })?;
    }
    Ok((log, machine))
}

/// The identity of a replica by its facts: they name the cluster where it is not the one that it was taken into.
pub(super) fn identity_by(state: &State, identity: Identity) -> Result<Identity, QueryError> {
    let cluster = Query::new(state.read()?).cluster()?.unwrap_or(identity.cluster);
    Ok(Identity { cluster, ..identity })
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn not_started(error: impl ToString) -> OpenError {
    OpenError::NotStarted(error.to_string())
}

/// Read indexes, one at a time: a read that comes while one is under way shares the next with all that came likewise.
#[derive(Default)]
struct ReadRounds {
    /// The round that has not begun.
    next: Arc<Mutex<Option<ReadRound>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

type ReadRound = Shared<BoxFuture<'static, Result<(), ReadError>>>;

impl ReadRounds {
    fn join(&self, read: impl FnOnce() -> BoxFuture<'static, Result<(), ReadError>>) -> ReadRound {
        let mut next = self.next.lock();
        let begin = || {
            let (read, next, turn) = (read(), self.next.clone(), self.turn.clone());
            let round = async move {
                let _turn = turn.lock().await;
                // Whoever comes from now on needs an index that is taken later.
                *next.lock() = None;
                read.await
            };
            round.boxed().shared()
        };
        next.get_or_insert_with(begin).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;
    use crate::fixtures::{digest, put_manifest, repository, tag};
    use crate::{CommandId, Envelope, LogTime};

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

    #[tokio::test]
    async fn reads_that_come_during_a_read_index_share_the_next_one() {
        let rounds = ReadRounds::default();
        let (count, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let join = || {
            let (count, go) = (count.clone(), go.clone());
            rounds.join(|| {
                let read = async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    go.notified().await;
                    Ok(())
                };
                read.boxed()
            })
        };
        let mut first = join();
        assert!(futures_util::poll!(&mut first).is_pending(), "it takes its index");
        let mut later = [join(), join(), join()];
        for read in &mut later {
            assert!(futures_util::poll!(read).is_pending(), "it waits for its turn");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        go.notify_one();
        first.await.unwrap();
        for read in &mut later {
            assert!(futures_util::poll!(read).is_pending());
        }
        go.notify_one();
        for read in later {
            read.await.unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}

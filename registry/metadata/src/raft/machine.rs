//! The state, as openraft drives it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::config::{Entry, LogId, Proposal, SnapshotMeta, StoredMembership, Types};
use super::records::AppliedRecord;
use crate::disk::{Disk, wait_for};
use crate::encoding::{decode, encode};
use crate::state::keyspace::CONSENSUS;
use crate::state::{Apply, Export, ReadRows, State, Sync};
use crate::{Envelope, LaterLevel, Level, Levels, LogTime, OpenError, Outcome, Position, Query, QueryError};

/// Entries that are applied in one transaction: their results wait for each other, so it must stay a matter of
/// milliseconds (about 40 us an entry).
const ENTRIES_PER_TRANSACTION: usize = 256;

/// The state is checkpointed after this many entries: a restart replays at most so many, in about 0.4 s, and fewer than
/// one in a hundred waits for a checkpoint with 64 of them in flight.
const ENTRIES_PER_CHECKPOINT: u64 = 8192;

/// Or after this many bytes of entries, which a restart has to read.
const BYTES_PER_CHECKPOINT: usize = 16 * 1024 * 1024;

type Snapshot = openraft::alias::SnapshotOf<Types, Export>;

/// What the machine and the handle share.
pub(super) struct Shared {
    disk: Arc<dyn Disk>,
    pub(super) state: State,
    /// The newest change.
    pub(super) position: watch::Sender<Position>,
    /// How many entries are applied, from the first on.
    pub(super) applied: watch::Sender<u64>,
    /// The newest entry that the state has on disk.
    pub(super) checkpoint: AtomicU64,
    /// The state's time.
    pub(super) time: AtomicU64,
    pub(super) levels: Levels,
    /// The level in force.
    level: AtomicU32,
    /// Why this build went no further, if it does not read what comes.
    later: Mutex<Option<LaterLevel>>,
}

/// Applies entries to the state.
pub(super) struct Machine {
    shared: Arc<Shared>,
    applied: Option<LogId>,
    membership: StoredMembership,
    entries_since_checkpoint: u64,
    bytes_since_checkpoint: usize,
    /// Dropped with the machine, so that the handle sees when nothing writes to the state any more.
    alive: mpsc::Sender<()>,
}

impl Machine {
    /// The machine of a state; its sender is dropped when it has ended.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        state: State,
        levels: Levels,
        alive: mpsc::Sender<()>,
    ) -> Result<Self, OpenError> {
        let damaged = |error: QueryError| OpenError::Damaged(error.to_string());
        let rows = state.read().map_err(damaged)?;
        let (applied, membership) = read_consensus(&rows).map_err(damaged)?;
        let query = Query::new(rows);
        let (position, time) = (query.position().map_err(damaged)?, query.time().map_err(damaged)?);
        let level = query.level().map_err(damaged)?;
        levels.check(level)?;
        let shared = Shared {
            disk,
            state,
            position: watch::Sender::new(position),
            applied: watch::Sender::new(count(applied)),
            checkpoint: AtomicU64::new(applied.map_or(0, |applied| applied.index)),
            time: AtomicU64::new(time.0),
            levels,
            level: AtomicU32::new(level.0),
            later: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            applied,
            membership,
            entries_since_checkpoint: 0,
            bytes_since_checkpoint: 0,
            alive,
        })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Applies entries in one transaction, then answers those who wait for them.
    async fn apply_batch(&mut self, batch: Vec<EntryResponder<Types>>) -> io::Result<()> {
        let mut commands = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for (Entry { log_id, payload }, responder) in batch {
            self.applied = Some(log_id);
            let command = match payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(proposal) => Some(proposal),
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(Some(log_id), members);
                    None
                }
            };
            self.bytes_since_checkpoint += command.as_ref().map_or(0, |Proposal(bytes)| bytes.len());
            commands.push(command);
            waiting.push(responder);
        }
        self.entries_since_checkpoint += commands.len() as u64;

        let sync = self.take_turn();
        let consensus = encode(&AppliedRecord::new(self.applied, &self.membership));
        let (outcomes, progress, is_durable) = self
            .blocking(move |shared| {
                let (outcomes, progress) = shared.state.write(sync, |apply| {
                    let outcomes = commands.into_iter().map(|command| decide(apply, command, shared.levels));
                    let outcomes: Vec<_> = outcomes.collect::<Result<_, _>>()?;
                    apply.put_consensus(&consensus)?;
                    Ok((outcomes, Progress { position: apply.position(), time: apply.now(), level: apply.level()? }))
                })?;
                // Before anything is proposed that needs it: so that a build that reads less finds it when it opens the
                // state, and not only in the log.
                let rises = progress.level > shared.level();
                if rises {
                    shared.state.checkpoint()?;
                }
                Ok((outcomes, progress, rises || sync == Sync::Checkpoint))
            })
            .await?;
        if is_durable {
            self.shared.checkpoint.fetch_max(self.applied.map_or(0, |applied| applied.index), Ordering::Relaxed);
        }
        self.shared.announce(progress, count(self.applied));
        for (responder, outcome) in waiting.into_iter().zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    /// Whether the next transaction is to be a checkpoint.
    fn take_turn(&mut self) -> Sync {
        let due = self.entries_since_checkpoint >= ENTRIES_PER_CHECKPOINT
            || self.bytes_since_checkpoint >= BYTES_PER_CHECKPOINT;
        if !due {
            return Sync::Deferred;
        }
        self.entries_since_checkpoint = 0;
        self.bytes_since_checkpoint = 0;
        Sync::Checkpoint
    }

    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<R, QueryError> + Send + 'static,
    ) -> io::Result<R> {
        self.shared.blocking(work).await
    }
}

/// Where a state is.
#[derive(Clone, Copy)]
struct Progress {
    position: Position,
    time: LogTime,
    level: Level,
}

impl Progress {
    fn of(query: &Query) -> Result<Self, QueryError> {
        Ok(Self { position: query.position()?, time: query.time()?, level: query.level()? })
    }
}

impl Shared {
    /// The level in force, as far as it is applied.
    pub(super) fn level(&self) -> Level {
        Level(self.level.load(Ordering::Relaxed))
    }

    /// Why this build went no further, if it does not read what comes.
    pub(super) fn later(&self) -> Option<LaterLevel> {
        *self.later.lock()
    }

    /// Works on the state without keeping others from this task's thread.
    pub(super) async fn blocking<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<R, QueryError> + Send + 'static,
    ) -> io::Result<R> {
        let shared = self.clone();
        let done = wait_for(&*self.disk, move || work(&shared)).await?;
        done.map_err(|error| {
            if let QueryError::Later(later) = &error {
                *self.later.lock() = Some(*later);
            }
            io::Error::other(error)
        })
    }

    /// Says where the state is after so many entries.
    fn announce(&self, progress: Progress, applied: u64) {
        let Progress { position, time, level } = progress;
        if self.level.swap(level.0, Ordering::Relaxed) < level.0 {
            tracing::info!(level = level.0, "all members read level {level}, which is in force from now on");
        }
        self.time.store(time.0, Ordering::Relaxed);
        self.applied.send_if_modified(|known| std::mem::replace(known, applied) != applied);
        self.position.send_if_modified(|known| std::mem::replace(known, position) != position);
    }

    /// The state as it is, with what the consensus says of it.
    fn view(&self) -> Result<Snapshot, QueryError> {
        let rows = self.state.read()?;
        let (last_log_id, last_membership) = read_consensus(&rows)?;
        Ok(Snapshot { meta: SnapshotMeta { last_log_id, last_membership }, snapshot: Export::View(rows) })
    }
}

/// Makes the state durable; what it then holds at least is the snapshot.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    _alive: mpsc::Sender<()>,
}

impl RaftSnapshotBuilder<Types> for Checkpointer {
    type SnapshotData = Export;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let build = |shared: &Shared| {
            // The view first: all it shows is then on disk, and the log may be purged up to it.
            let view = shared.view()?;
            shared.state.checkpoint()?;
            let index = view.meta.last_log_id.map_or(0, |last| last.index);
            shared.checkpoint.fetch_max(index, Ordering::Relaxed);
            Ok(view)
        };
        self.shared.blocking(build).await
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Export;
    type SnapshotBuilder = Checkpointer;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(ENTRIES_PER_TRANSACTION);
        while let Some(batch) = batches.next().await {
            self.apply_batch(batch.into_iter().collect::<io::Result<_>>()?).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Checkpointer {
        Checkpointer { shared: self.shared.clone(), _alive: self.alive.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Export) -> io::Result<()> {
        let progress = self
            .blocking(move |shared| {
                shared.levels.check(snapshot.level()?)?;
                shared.state.replace(&snapshot, |pause| shared.disk.rest(pause))?;
                Progress::of(&Query::new(shared.state.read()?))
            })
            .await?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.shared.checkpoint.store(meta.last_log_id.map_or(0, |last| last.index), Ordering::Relaxed);
        self.shared.announce(progress, count(self.applied));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let view = self.blocking(Shared::view).await?;
        Ok(view.meta.last_log_id.is_some().then_some(view)) // before the first entry there is nothing to send
    }
}

/// How many entries there are up to one.
fn count(last: Option<LogId>) -> u64 {
    last.map_or(0, |last| last.index + 1)
}

/// The term and index of the last entry that some rows contain.
pub(crate) fn applied_id(rows: &ReadRows) -> Result<Option<(u64, u64)>, QueryError> {
    let (applied, _) = read_consensus(rows)?;
    Ok(applied.map(|applied| (applied.leader_id.term, applied.index)))
}

pub(super) fn decide(
    apply: &mut Apply<'_>,
    command: Option<Proposal>,
    levels: Levels,
) -> Result<Option<Outcome>, QueryError> {
    let Some(Proposal(bytes)) = command else { return Ok(None) };
    let envelope: Envelope = decode(&bytes).map_err(|error| QueryError::Damaged(format!("a command: {error}")))?;
    apply.apply_read_by(levels, envelope).map(Some)
}

pub(super) fn read_consensus(rows: &ReadRows) -> Result<(Option<LogId>, StoredMembership), QueryError> {
    let Some(bytes) = rows.get(CONSENSUS, ())? else { return Ok(Default::default()) };
    let damaged = |why: String| QueryError::Damaged(format!("how far the log is applied: {why}"));
    let record: AppliedRecord = decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    Ok((record.applied.map(Into::into), record.membership().map_err(damaged)?))
}

//! The handle that the rest of the registry has on the facts.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::raft::Group;
use crate::{
    AnnounceError, Beginning, Change, ChangeRefusal, ChangesError, ClusterId, CommandId, Disk, EntriesError, Envelope,
    FenceRegionRefused, History, Identity, LaterLevel, Level, Levels, LocalDisk, LogEntry, LogTime, Member,
    MemberChange, Members, Operation, Outcome, PeerTransport, Position, Query, QueryError, Snapshot, VolumeId,
};

/// Where the facts are kept, and with how much memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the log and the state. Created if missing; used by one process at a time.
    pub folder: PathBuf,
    /// Memory for pages of the state, in bytes.
    pub state_cache_bytes: usize,
    /// Memory for entries of the log, in bytes.
    pub log_cache_bytes: usize,
    /// The state is checkpointed and the log purged in steps of this many entries.
    pub purge_every: u64,
    /// Entries kept behind the newest purge, so that a follower that was away for a moment needs no snapshot.
    pub entries_kept: u64,
    /// Bytes of the disk that stay free of new facts: with less, only what ends, deletes and collects is proposed.
    pub disk_reserve: u64,
    /// Names the volume, if the folder is empty: random.
    pub new_volume: VolumeId,
    /// Names the cluster, if one begins here: random.
    pub new_cluster: ClusterId,
    /// Where the folder is.
    pub disk: Arc<dyn Disk>,
    /// What this replica's share of chance is drawn from, as long as it runs: random.
    pub seed: u64,
    /// What this build reads.
    pub levels: Levels,
    /// How this replica speaks with others; without it, it is a group of one.
    pub cluster: Option<ClusterOptions>,
    /// Follows the volume's way into a cluster.
    pub beginning: Beginning,
}

/// How a replica speaks with others.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Carries its messages.
    pub transport: Arc<dyn PeerTransport>,
    /// Where the others reach it.
    pub address: String,
    /// Members that an empty folder asks to be taken in, one after the other, for as long as it takes. Without any, it
    /// begins a cluster.
    pub seeds: Vec<String>,
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterOptions")
            .field("address", &self.address)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// The working set of a registry that is idle or small. The whole process is meant to idle at 40 MiB, and the
    /// operating system caches the file as well.
    pub const STATE_CACHE_BYTES: usize = 16 * 1024 * 1024;

    /// Entries that are applied or replicated right after they were written; older ones are read from disk.
    pub const LOG_CACHE_BYTES: usize = 4 * 1024 * 1024;

    /// A hundred megabytes of log at most, with manifests of two kilobytes.
    pub const PURGE_EVERY: u64 = 50_000;

    /// What a follower misses in some seconds at full load.
    pub const ENTRIES_KEPT: u64 = 20_000;

    /// A group of one with the defaults, in `folder`, whose names are made of `random`.
    pub fn new(folder: impl Into<PathBuf>, random: [u128; 2]) -> Self {
        let [volume, cluster] = random;
        Self {
            folder: folder.into(),
            state_cache_bytes: Self::STATE_CACHE_BYTES,
            log_cache_bytes: Self::LOG_CACHE_BYTES,
            purge_every: Self::PURGE_EVERY,
            entries_kept: Self::ENTRIES_KEPT,
            disk_reserve: 0,
            new_volume: VolumeId(volume),
            new_cluster: ClusterId(cluster),
            disk: Arc::new(LocalDisk),
            seed: Uuid::from_u128(volume).as_u64_pair().1,
            levels: Levels::OF_THIS_BUILD,
            cluster: None,
            beginning: Beginning::default(),
        }
    }
}

/// Why the facts could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Of the file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A later release has written to the folder.
    #[error(
        "{} was written by roadstead {writer} in format {format}, and this is roadstead {}, which reads up to format \
         {}. Start it with roadstead {writer} or later; to go back to this release, restore a sequence from before \
         the upgrade into a new folder with `roadstead restore`",
        .folder.display(),
        env!("CARGO_PKG_VERSION"),
        crate::folder_format::FORMAT
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        format: u32,
        /// The release that wrote to it last.
        writer: String,
    },
    /// The facts, or those of the cluster that it was to join, use what this release does not read.
    #[error(transparent)]
    Later(#[from] LaterLevel),
    /// A file is damaged; the message says which, where, and what to do.
    #[error("{0}")]
    Damaged(String),
    /// The replica did not come to lead its group of one.
    #[error("the Raft group did not start: {0}")]
    NotStarted(String),
}

/// How a proposal ended when it has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was certainly not applied, nor ever will be: answer 503 with `Retry-After`, or propose again.
    #[error("the change was not taken: {0}")]
    NotDone(String),
    /// It may have been applied, or be applied yet. Propose the same operation under the same id to learn which, or
    /// answer 503; never assume either.
    #[error("the change may or may not be applied: {0}")]
    Unknown(String),
    /// It was not applied, nor ever will be: there may be replicas that cannot read it. Propose it again when the level
    /// in force is high enough, which it is soon after all of them have been upgraded.
    #[error(
        "the change needs level {since}, and the cluster is at level {in_force}: wait until every replica runs {}; \
         `roadstead members` shows which of them do not",
        crate::level::Needs(*.since)
    )]
    NotYet {
        /// The level that the command came with.
        since: Level,
        /// The level in force.
        in_force: Level,
    },
    /// It was not applied, nor ever will be: another region is home.
    #[error(transparent)]
    Fenced(FenceRegionRefused),
}

/// Why this replica cannot say whether it has seen everything that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed it within [`Metadata::READ_DEADLINE`]. `query()` still answers, perhaps with old facts.
    #[error("no leader confirmed the read: {0}")]
    NoLeader(String),
}

/// The state could not be made durable now; it is at the next occasion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state could not be checkpointed: {0}")]
pub struct CheckpointError(pub(crate) String);

/// The checkpoint at the end failed. Nothing acknowledged is lost: the log has it.
#[derive(Debug, thiserror::Error)]
#[error("the state could not be checkpointed: {0}")]
pub struct ShutdownError(String);

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Leader,
    /// Follows a leader.
    Follower,
    /// Seeks votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Has ended, by shutdown or by an error of its storage.
    Stopped,
}

/// A replica's state for metrics and readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// The leader's node id, where one is known.
    pub leader: Option<u64>,
    /// The Raft term.
    pub term: u64,
    /// The newest entry of the log.
    pub last_log_index: u64,
    /// The newest entry that the state contains.
    pub applied_index: u64,
    /// The newest entry that the state contains on disk; a restart replays what follows it.
    pub checkpoint_index: u64,
    /// The files of the log, in bytes.
    pub log_bytes: u64,
    /// Whether everything that the log held when it was opened is applied.
    pub caught_up: bool,
    /// How long ago a leader was heard of, or for a leader, a quorum.
    pub contact: Option<Duration>,
    /// The level in force: what may be proposed.
    pub level: Level,
    /// What this build reads: at least that.
    pub reads: Level,
    /// The error that stopped the replica: it must be restarted.
    pub fatal: Option<String>,
}

/// The facts of one region, as one replica has them. Clones share it.
#[derive(Clone)]
pub struct Metadata {
    group: Arc<Group>,
    folder: Arc<PathBuf>,
    disk_reserve: u64,
}

impl Metadata {
    /// How long a proposal may take: longer than an election, shorter than the patience of clients.
    pub const WRITE_DEADLINE: Duration = Duration::from_secs(5);

    /// How long a linearizable read waits for a leader, likewise.
    pub const READ_DEADLINE: Duration = Duration::from_secs(5);

    /// How long a replica may take to lead its group of one. It applies its log in that time: at most what was written
    /// since the last checkpoint, in well below a second.
    pub const OPEN_DEADLINE: Duration = Duration::from_mins(1);

    /// The longest command that is proposed: half of what a follower takes in one message. A manifest is below it by
    /// [`PutManifest::MAX_INLINE`](crate::PutManifest::MAX_INLINE), 10,000 parts of an upload by their number.
    pub const MAX_COMMAND_BYTES: usize = 4 * 1024 * 1024;

    /// How long a deletion waits for replicas that are slow: as long as one may be silent before others stand for election.
    pub const SETTLE_DEADLINE: Duration = Duration::from_secs(1);

    /// How long a change of the members may take: an election, and two entries of the log.
    pub const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

    /// How long a view of the members waits for a leader. People and probes ask for it when there is none.
    pub const VIEW_DEADLINE: Duration = Duration::from_secs(1);

    /// How long a checkpoint may take: that of a state of gigabytes on a disk that others use as well.
    pub const CHECKPOINT_DEADLINE: Duration = Duration::from_mins(1);

    /// Opens the facts in `options.folder`, or begins them there. A group of one leads and has applied its whole log when
    /// this returns. A member of a larger one has only begun: [`Self::status`] tells when it has caught up.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let (folder, disk_reserve) = (Arc::new(options.folder.clone()), options.disk_reserve);
        Ok(Self { group: Group::open(options, Self::OPEN_DEADLINE).await?, folder, disk_reserve })
    }

    /// Who this replica is.
    pub fn identity(&self) -> Identity {
        self.group.identity()
    }

    /// Answers a message that a transport brought from another replica.
    pub async fn answer(&self, message: &Bytes) -> Bytes {
        self.group.answer(message).await
    }

    /// The volume of this replica.
    pub fn volume(&self) -> VolumeId {
        self.group.volume()
    }

    /// Tells the leader that this replica is reached at `address`. To be repeated until it succeeds, at every start.
    pub async fn announce(&self, address: &str) -> Result<(), AnnounceError> {
        self.group.announce(address, Self::CHANGE_DEADLINE).await
    }

    /// Every member of the group, as the leader knows it; where none answers within [`Self::VIEW_DEADLINE`], as this
    /// replica does.
    pub async fn view(&self) -> Members {
        self.group.view(Self::VIEW_DEADLINE).await
    }

    /// Every member of the group, as this replica knows it.
    pub fn members(&self) -> Vec<Member> {
        self.group.members()
    }

    /// Lets the leader change who is in the group. Asking for what is so already is no error.
    pub async fn change_members(&self, change: MemberChange) -> Result<(), ChangeRefusal> {
        self.group.change_members(change, Self::CHANGE_DEADLINE).await
    }

    /// Lets the level in force rise, if all members read more. They see to it when they announce themselves; this is for
    /// what else makes it possible (the last one of an older release was removed) or was left undone (by a leader that
    /// died). To be called now and then; asks nobody where there is nothing to do.
    pub async fn settle_level(&self) {
        self.group.settle_level(Self::CHANGE_DEADLINE).await;
    }

    /// Waits until [`Self::status`] or [`Self::members`] may say something else.
    pub async fn changed(&self) {
        self.group.changed().await;
    }

    /// Proposes a change and waits until it is applied here.
    ///
    /// `id` names the change as the client meant it: proposed again under the same id within 15 minutes of log time, it
    /// is answered with its first result and not applied again.
    pub async fn propose<O: Operation>(
        &self,
        id: CommandId,
        at: LogTime,
        operation: O,
    ) -> Result<Result<O::Done, O::Refused>, ProposeError> {
        let command = operation.into();
        if command.grows() {
            self.check_room()?;
        }
        let outcome = self.group.write(&Envelope { id, at, command }, Self::WRITE_DEADLINE).await?;
        if let Outcome::FenceRegion(Err(fenced @ FenceRegionRefused::IsFenced { .. })) = outcome {
            return Err(ProposeError::Fenced(fenced));
        }
        O::result(outcome)
            .ok_or_else(|| ProposeError::NotDone(format!("the id {:#034x} is that of another operation", id.0)))
    }

    /// Whether the disk has room for new facts. Where it does not say, the log finds out.
    fn check_room(&self) -> Result<(), ProposeError> {
        let Ok(disk) = rustix::fs::statvfs(&*self.folder) else { return Ok(()) };
        let (free, reserve) = (disk.f_bavail.saturating_mul(disk.f_frsize), self.disk_reserve);
        if free < reserve {
            let folder = self.folder.display();
            return Err(ProposeError::NotDone(format!(
                "{free} bytes are free in {folder}; the last {reserve} are kept for deleting and collecting"
            )));
        }
        Ok(())
    }

    /// Waits until every replica that can be reached has applied what this one has, for at most
    /// [`Self::SETTLE_DEADLINE`]: what was deleted is then not found anywhere, not even by those who answer from their
    /// own state. One that cannot be reached learns of it when it is back.
    pub async fn settle(&self) {
        self.group.settle(Self::SETTLE_DEADLINE).await;
    }

    /// After `Ok`, [`query`](Self::query) sees everything that was acknowledged anywhere before the call.
    pub async fn linearize(&self) -> Result<(), ReadError> {
        self.group.linearize(Self::READ_DEADLINE).await
    }

    /// A consistent view of what this replica has applied.
    pub fn query(&self) -> Result<Query, QueryError> {
        self.group.query()
    }

    /// Up to `limit` changes after a position, in order. [`Position::default`] is before the first of any history.
    pub fn changes(&self, after: Position, limit: usize) -> Result<Vec<Change>, ChangesError> {
        self.query()?.changes(after, limit)
    }

    /// Follows the position of the newest change.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.group.subscribe()
    }

    /// Follows how many entries of the log are applied, from the first on.
    pub fn subscribe_applied(&self) -> watch::Receiver<u64> {
        self.group.subscribe_applied()
    }

    /// The applied entries of the log from `from` to before `end`, up to about `limit` bytes but at least one; none if
    /// there are none yet.
    pub async fn entries(&self, from: u64, end: u64, limit: usize) -> Result<Vec<LogEntry>, EntriesError> {
        self.group.entries(from, end, limit).await
    }

    /// The history of the facts as far as this replica alone can tell, by what it has applied and by what its log holds.
    /// Reads the log where the facts do not say.
    pub async fn history(&self) -> Result<Option<History>, QueryError> {
        self.group.history().await
    }

    /// All facts as they are now.
    pub fn snapshot(&self) -> Result<Snapshot, QueryError> {
        self.group.snapshot()
    }

    /// What time it is in the log, with which proposals are stamped and ages judged: `wall` by the wall clock, as far as
    /// the passing of `monotonic` makes it plausible. See the module `log_clock`.
    pub fn log_time(&self, wall: LogTime, monotonic: Duration) -> LogTime {
        self.group.log_time(wall, monotonic)
    }

    /// For how long no leader has been heard of, as far as [`Self::log_time`] was asked meanwhile.
    pub fn silence(&self, monotonic: Duration) -> Duration {
        self.group.silence(monotonic)
    }

    /// For metrics and readiness.
    pub fn status(&self) -> Status {
        self.group.status()
    }

    /// Makes what is applied durable in the state, and gives the newest entry that is in it: the log up to there may go.
    pub async fn checkpoint(&self) -> Result<u64, CheckpointError> {
        self.group.checkpoint(Self::CHECKPOINT_DEADLINE).await
    }

    /// Stops the replica after a durable checkpoint, so that the next start replays nothing. Every later proposal
    /// fails. The folder is free when the last clone is dropped.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.group.shutdown().await.map_err(|error| ShutdownError(error.to_string()))
    }
}

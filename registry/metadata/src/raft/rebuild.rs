//! A folder of facts made anew from a snapshot and the entries that follow it.
//!
//! ```text
//! load(snapshot) -> rows as they were -> apply(entries) ... -> finish(history): checkpoint, and a log that begins there
//! ```
//!
//! The log of the new folder is empty and purged up to the last entry that was applied: whoever joins later gets a
//! snapshot, since entries alone do not make these facts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::Membership;
use openraft::impls::BasicNode;
use openraft::storage::RaftLogStorage;
use openraft::vote::RaftLeaderIdExt;

use super::config::{LogId, StoredMembership, Types, Vote};
use super::index::Limits;
use super::log::Log;
use super::records::AppliedRecord;
use super::segment::SEGMENT_BYTES;
use super::{LogEntry, applied_id};
use crate::encoding::{decode, encode};
use crate::state::{Apply, Export, State, Sync};
use crate::{
    Disk, Envelope, History, Levels, LocalDisk, LogTime, OpenError, Options, Position, Query, QueryError, folder_format,
};

/// The one member of a group that has been restored.
const NODE: u64 = 1;

/// Entries applied in one transaction: large enough that its own cost is little.
const ENTRIES_PER_TRANSACTION: usize = 1024;

/// The state is made durable after this many entries: until then, pages that are not used any more stay.
const ENTRIES_PER_CHECKPOINT: u64 = 64 * 1024;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// As far as there are entries.
    End,
    /// To the last entry after which the newest change is this one or an earlier one.
    Sequence(u64),
    /// To the last entry after which the state's time is this or earlier.
    Time(LogTime),
}

impl Until {
    /// Whether a state may be reached.
    pub fn includes(self, position: Position, time: LogTime) -> bool {
        match self {
            Self::End => true,
            Self::Sequence(sequence) => position.sequence <= sequence,
            Self::Time(until) => time <= until,
        }
    }
}

/// Why facts could not be made anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is something in the folder.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// A file of the folder could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state could not be written.
    #[error(transparent)]
    State(#[from] QueryError),
    /// The snapshot could not be read, or is damaged.
    #[error("the snapshot cannot be used: {0}")]
    Snapshot(io::Error),
    /// Entries are missing.
    #[error("entry {expected} of the log is missing: the next one is {found}")]
    Missing {
        /// Which comes next.
        expected: u64,
        /// Which came.
        found: u64,
    },
    /// An entry is not what was written.
    #[error("entry {index} of the log is damaged: {why}")]
    Entry {
        /// Which.
        index: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// A folder in the making.
pub struct Rebuild {
    folder: PathBuf,
    state: State,
    pub(crate) levels: Levels,
    /// The last entry that is in the state: its term, and how many there are up to it.
    term: u64,
    entries: u64,
    since_checkpoint: u64,
    position: Position,
    time: LogTime,
}

impl Rebuild {
    /// Begins in a folder, which is made and must be empty.
    pub fn begin(folder: &Path) -> Result<Self, RebuildError> {
        let io = |source| OpenError::Io { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        if std::fs::read_dir(folder).map_err(io)?.next().is_some() {
            return Err(RebuildError::NotEmpty(folder.to_owned()));
        }
        let state = State::open(&LocalDisk, &folder.join("state.redb"), Options::STATE_CACHE_BYTES)?;
        let folder = folder.to_owned();
        let (position, time) = (Position { epoch: 1, sequence: 0 }, LogTime(0));
        let levels = Levels::OF_THIS_BUILD;
        Ok(Self { folder, state, levels, term: 0, entries: 0, since_checkpoint: 0, position, time })
    }

    /// Takes in what [`Snapshot::write_to`](crate::Snapshot::write_to) wrote, having checked that it is whole.
    pub fn load(&mut self, snapshot: File) -> Result<(), RebuildError> {
        let export = Export::received(Box::new(snapshot)).map_err(RebuildError::Snapshot)?;
        self.levels.check(export.level()?).map_err(QueryError::from)?;
        self.state.replace(&export, drop)?; // nobody else is there yet
        let rows = self.state.read()?;
        (self.term, self.entries) = applied_id(&rows)?.map_or((0, 0), |(term, index)| (term, index + 1));
        let query = Query::new(rows);
        (self.position, self.time) = (query.position()?, query.time()?);
        Ok(())
    }

    /// Applies the entries that follow, passing over those that are there already, and says whether all of them were:
    /// otherwise it stands at the last that `until` includes.
    pub fn apply(&mut self, entries: &[LogEntry], until: Until) -> Result<bool, RebuildError> {
        let known = entries.iter().take_while(|entry| entry.index < self.entries).count();
        for (entry, expected) in entries[known..].iter().zip(self.entries..) {
            if entry.index != expected {
                return Err(RebuildError::Missing { expected, found: entry.index });
            }
        }
        for batch in entries[known..].chunks(ENTRIES_PER_TRANSACTION) {
            if !self.apply_batch(batch, until)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All of a batch, or as much of it as `until` includes.
    fn apply_batch(&mut self, batch: &[LogEntry], until: Until) -> Result<bool, RebuildError> {
        let Some(last) = batch.last() else { return Ok(true) };
        let envelopes = batch.iter().filter_map(envelope).collect::<Result<Vec<_>, _>>()?;
        let (mut reached, levels) = ((self.position, self.time), self.levels);
        let applied = self.state.write_if(|apply: &mut Apply<'_>| {
            for envelope in envelopes {
                apply.apply_read_by(levels, envelope)?;
            }
            reached = (apply.position(), apply.time());
            Ok(until.includes(reached.0, reached.1))
        })?;
        if applied {
            (self.position, self.time) = reached;
            (self.term, self.entries) = (last.term, last.index + 1);
            self.since_checkpoint += batch.len() as u64;
            if self.since_checkpoint >= ENTRIES_PER_CHECKPOINT {
                self.state.checkpoint()?;
                self.since_checkpoint = 0;
            }
            return Ok(true);
        }
        if batch.len() == 1 {
            return Ok(false);
        }
        let (first, second) = batch.split_at(batch.len() / 2);
        Ok(self.apply_batch(first, until)? && self.apply_batch(second, until)?)
    }

    /// How many entries of the log are in it, from the first on.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The newest change.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The state's time.
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// The facts as they are.
    pub fn query(&self) -> Result<Query, QueryError> {
        Ok(Query::new(self.state.read()?))
    }

    /// Lets the facts go on as `history`, durably: the folder can then be opened.
    pub async fn finish(self, history: &History) -> Result<(), RebuildError> {
        // Facts that did not come from a log are as far as one entry: nobody may make them from entries alone.
        let last = id(self.term.max(1), self.entries.saturating_sub(1));
        self.state.write(Sync::Checkpoint, |apply| {
            apply.fork_history(history)?;
            // A cluster of its own begins with these facts.
            apply.forget_cluster()?;
            apply.put_consensus(&consensus(last)?)
        })?;
        let path = self.folder.join("log");
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut log = Log::open(Arc::new(LocalDisk), &path, Limits { cache_bytes: 0, segment_bytes: SEGMENT_BYTES })?;
        // In no term before that of the last entry may anybody be elected.
        log.save_vote(&Vote::new(self.term.max(1), NODE)).await.map_err(io)?;
        log.purge(last).await.map_err(io)?;
        drop(log);
        folder_format::stamp(&LocalDisk, &self.folder)?;
        LocalDisk.sync_folder(&self.folder).map_err(|source| OpenError::Io { path: self.folder.clone(), source })?;
        Ok(())
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::alias::LeaderIdOf::<Types>::new_committed(term, NODE), index)
}

/// What a group of one knows of itself that has applied its log up to `last`.
fn consensus(last: LogId) -> Result<Vec<u8>, QueryError> {
    let nodes = BTreeMap::from([(NODE, BasicNode::default())]);
    let members = Membership::new(vec![BTreeSet::from([NODE])], nodes);
    // They are fixed, and can be.
    let members = members.map_err(|error| QueryError::Damaged(error.to_string()))?;
    Ok(encode(&AppliedRecord::new(Some(last), &StoredMembership::new(Some(last), members))))
}

/// The command of an entry that has one.
fn envelope(entry: &LogEntry) -> Option<Result<Envelope, RebuildError>> {
    let damaged =
        |error: crate::encoding::DecodeError| RebuildError::Entry { index: entry.index, why: error.to_string() };
    entry.proposal.as_ref().map(|bytes| decode(bytes).map_err(damaged))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use bytes::Bytes;

    use super::*;
    use crate::fixtures::{digest, put_manifest, repository, rows, tag};
    use crate::{CommandId, Metadata};

    /// Lets a state say that it has applied so many entries.
    pub(crate) fn count_entries(state: &State, entries: u64) {
        let consensus = consensus(id(1, entries - 1)).unwrap();
        state.write(Sync::Deferred, |apply| apply.put_consensus(&consensus)).unwrap();
    }

    fn history(number: u128) -> History {
        let [id, storage] = [number, 99].map(uuid::Uuid::from_u128);
        History { id, storage, incarnation: 2, parent: None, begun: LogTime(9) }
    }

    async fn put(metadata: &Metadata, number: u8) {
        let (id, at) = (CommandId(number.into()), LogTime(u64::from(number) * 100));
        metadata.propose(id, at, put_manifest(number, &[number])).await.unwrap().unwrap();
    }

    async fn all(metadata: &Metadata) -> Vec<LogEntry> {
        metadata.entries(0, u64::MAX, usize::MAX).await.unwrap()
    }

    /// A snapshot as a backup keeps it.
    fn kept(metadata: &Metadata) -> File {
        let mut file = tempfile::tempfile().unwrap();
        metadata.snapshot().unwrap().write_to(&mut file).unwrap();
        file
    }

    #[tokio::test]
    async fn a_folder_that_was_made_anew_goes_on_as_a_history_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let original = Metadata::open(Options::new(folder.path().join("original"), [1, 2])).await.unwrap();
        for number in 1..=3 {
            put(&original, number).await;
        }
        let snapshot = kept(&original);
        for number in 4..=9 {
            put(&original, number).await;
        }
        let before = original.query().unwrap().position().unwrap();
        let place = folder.path().join("restored");
        let mut rebuild = Rebuild::begin(&place).unwrap();
        rebuild.load(snapshot).unwrap();
        assert!(!rebuild.apply(&all(&original).await, Until::Sequence(7)).unwrap());
        assert_eq!((rebuild.position().sequence, rebuild.time()), (7, LogTime(700)));
        rebuild.finish(&history(5)).await.unwrap();

        // Twice, since a first start writes to what a second one reads.
        for start in 0..2 {
            let restored = Metadata::open(Options::new(&place, [3, 4])).await.unwrap();
            let query = restored.query().unwrap();
            assert_eq!(query.history().unwrap(), Some(history(5)));
            for number in 1..=7 {
                assert_eq!(query.tag(&repository(1), &tag(number)).unwrap(), Some(digest(number)));
            }
            assert_eq!(query.tag(&repository(1), &tag(8)).unwrap(), None);
            let epoch = before.epoch + 1;
            assert_eq!(query.position().unwrap(), Position { epoch, sequence: 7 + start });
            let changes = restored.changes(Position { epoch, sequence: 0 }, 9).unwrap();
            assert_eq!(
                changes.iter().map(|change| change.position.sequence).collect::<Vec<_>>()[..7],
                [1, 2, 3, 4, 5, 6, 7]
            );
            assert!(restored.changes(before, 9).is_err(), "who followed the former history is told so");
            assert!(matches!(restored.entries(0, u64::MAX, 1).await, Err(crate::EntriesError::Purged(0))));
            put(&restored, 10 + u8::try_from(start).unwrap()).await;
            restored.shutdown().await.unwrap();
        }
    }

    #[tokio::test]
    async fn entries_alone_make_the_same_facts_and_stop_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let original = Metadata::open(Options::new(folder.path().join("original"), [1, 2])).await.unwrap();
        for number in 1..=5 {
            put(&original, number).await;
        }
        let entries = all(&original).await;
        let mut rebuild = Rebuild::begin(&folder.path().join("restored")).unwrap();
        assert!(rebuild.apply(&entries[..4], Until::End).unwrap());
        assert!(!rebuild.apply(&entries, Until::Time(LogTime(350))).unwrap(), "what is there already is passed over");
        assert_eq!((rebuild.position().sequence, rebuild.time()), (3, LogTime(300)));
        assert!(matches!(
            rebuild.apply(&entries[6..], Until::End),
            Err(RebuildError::Missing { expected, found }) if expected < found
        ));
        assert!(rebuild.apply(&entries, Until::End).unwrap());
        assert_eq!(rebuild.entries(), entries.len() as u64);
        let whole = Rebuild::begin(&folder.path().join("again")).unwrap();
        assert!(rows(&whole.state).len() < rows(&rebuild.state).len());
    }

    #[tokio::test]
    async fn what_is_damaged_or_not_empty_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("something"), "").unwrap();
        assert!(matches!(Rebuild::begin(folder.path()), Err(RebuildError::NotEmpty(_))));
        let mut rebuild = Rebuild::begin(&folder.path().join("new")).unwrap();
        let entry = LogEntry { index: 0, term: 1, proposal: Some(Bytes::from_static(b"nothing")) };
        assert!(matches!(rebuild.apply(&[entry], Until::End), Err(RebuildError::Entry { index: 0, .. })));
        let mut torn = tempfile::tempfile().unwrap();
        torn.write_all(b"rsfacts1torn").unwrap();
        assert!(matches!(rebuild.load(torn), Err(RebuildError::Snapshot(_))));
    }
}

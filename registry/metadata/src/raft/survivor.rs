//! A replica that goes on alone, after most voters of its cluster were lost for good.
//!
//! ```text
//! stopped replica --Survivor::open--> what it has: shown, and confirmed by a person
//!                 --go_on_alone-----> one transaction of the state: all entries of its log, applied
//!                                                                   a history of its own
//!                                                                   another cluster id
//!                                                                   one voter
//! ```
//!
//! * **Nothing that it has is left out**: what was acknowledged with this replica's help is in its log, so all of the log
//!   is taken for agreed. Entries of which clients were never told may be among it, which they were told as well.
//! * **One transaction decides**: a crash before it leaves the replica as it was, one after it a cluster of one. What the
//!   log and the identity's file then still say is put right by the next start.
//! * **The others cannot come back into it**: they name the former cluster in every message, and are answered nothing;
//!   and the blob store is then that of the new history.
//! * The state is one entry ahead of the log, as after a snapshot from elsewhere: so the log is purged, and whoever joins
//!   gets all rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::impls::BasicNode;
use openraft::storage::RaftLogStorage;
use openraft::vote::RaftLeaderIdExt;
use openraft::{EntryPayload, Membership};

use super::config::{Entry, LogId, Proposal, StoredMembership, Types, Vote};
use super::index::Limits;
use super::log::Log;
use super::machine::{decide, read_consensus};
use super::records::AppliedRecord;
use super::segment::SEGMENT_BYTES;
use crate::encoding::encode;
use crate::identity::{IdentityFile, IdentityRecord};
use crate::state::{Apply, State, Sync};
use crate::{
    ClusterId, History, Identity, Levels, LocalDisk, LogTime, OpenError, Options, Position, Query, QueryError,
    VolumeId, folder_format,
};

/// Why a replica cannot go on alone.
#[derive(Debug, thiserror::Error)]
pub enum SurvivorError {
    /// There are no facts in the folder.
    #[error("there are no facts in {0}")]
    Nothing(PathBuf),
    /// The volume was never taken into a cluster.
    #[error("the replica in {0} was never a member of a cluster")]
    NoMember(PathBuf),
    /// It is alone already.
    #[error("node {node} is the only voter of its cluster already", node = .0.node)]
    Alone(Identity),
    /// Its word never counted, so that it may lack anything.
    #[error("node {0} has no vote in its cluster: it may lack what was acknowledged long ago")]
    Learner(u64),
    /// A file cannot be opened; or another process has it open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] QueryError),
    /// The log cannot be read or written.
    #[error("the log: {0}")]
    Log(#[from] std::io::Error),
}

/// What a replica has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its cluster, and its id there.
    pub identity: Identity,
    /// Its volume.
    pub volume: VolumeId,
    /// Every voter of the cluster, as far as this replica knows, and its address.
    pub voters: BTreeMap<u64, String>,
    /// The members without a vote.
    pub learners: BTreeMap<u64, String>,
    /// The newest entry that it is known that the group agreed on.
    pub committed_index: u64,
    /// The newest entry that it has.
    pub last_index: u64,
    /// The Raft term of that.
    pub last_term: u64,
    /// The newest change, with all entries applied.
    pub position: Position,
    /// The time of the facts then.
    pub time: LogTime,
    /// Their history, if it has a name.
    pub history: Option<History>,
}

/// A stopped replica, which no other process can open meanwhile.
pub struct Survivor {
    state: State,
    log: Log,
    file: IdentityFile,
    record: IdentityRecord,
    identity: Identity,
    vote_term: u64,
    /// The last entry, and those that are not in the state: as many as a restart replays.
    last: LogId,
    unapplied: Vec<Entry>,
    holding: Holding,
}

impl Survivor {
    /// Opens the replica in `folder`, and changes nothing.
    pub async fn open(folder: &Path) -> Result<Self, SurvivorError> {
        let state_file = folder.join("state.redb");
        if !state_file.is_file() {
            return Err(SurvivorError::Nothing(folder.to_owned()));
        }
        folder_format::check(&LocalDisk, folder)?;
        let state = State::open(&LocalDisk, &state_file, Options::STATE_CACHE_BYTES)?;
        let disk = Arc::new(LocalDisk);
        let limits = Limits { cache_bytes: 0, segment_bytes: SEGMENT_BYTES };
        let mut log = Log::open(disk.clone(), &folder.join("log"), limits)?;
        let file = IdentityFile::of(disk, folder);
        let found = file.read()?.and_then(|record| record.member.map(|identity| (record, identity)));
        let (record, identity) = found.ok_or_else(|| SurvivorError::NoMember(folder.to_owned()))?;
        let identity = super::open::identity_by(&state, identity)?;
        Levels::OF_THIS_BUILD.check(Query::new(state.read()?).level()?).map_err(QueryError::from)?;

        let (applied, mut membership) = read_consensus(&state.read()?)?;
        let start = applied.map_or(0, |applied| applied.index + 1);
        let unapplied = log.reader().read(start..u64::MAX, usize::MAX).await?;
        let last = unapplied.last().map(|entry| entry.log_id).or(applied);
        let last = last.ok_or_else(|| SurvivorError::Nothing(folder.to_owned()))?;
        for entry in &unapplied {
            if let EntryPayload::Membership(members) = &entry.payload {
                membership = StoredMembership::new(Some(entry.log_id), members.clone());
            }
        }
        let (voters, learners) = split(membership.membership());
        if !voters.contains_key(&identity.node) {
            return Err(SurvivorError::Learner(identity.node));
        }
        if voters.len() == 1 {
            return Err(SurvivorError::Alone(identity));
        }
        let (position, time, history) = try_on(&state, &unapplied)?;
        let committed = log.read_committed().await?.max(applied);
        let holding = Holding {
            identity,
            volume: record.volume,
            voters,
            learners,
            committed_index: committed.map_or(0, |committed| committed.index),
            last_index: last.index,
            last_term: last.leader_id.term,
            position,
            time,
            history,
        };
        let vote_term =
            openraft::RaftLogReader::read_vote(&mut log.reader()).await?.map_or(0, |vote| vote.leader_id.term);
        Ok(Self { state, log, file, record, identity, vote_term, last, unapplied, holding })
    }

    /// What it has.
    pub fn holding(&self) -> &Holding {
        &self.holding
    }

    /// Makes it the only voter of `cluster`, with all that it has, durably; its facts go on as `history`.
    pub async fn go_on_alone(mut self, cluster: ClusterId, history: &History) -> Result<Identity, SurvivorError> {
        let Identity { node, .. } = self.identity;
        let term = self.vote_term.max(self.last.leader_id.term) + 1;
        let id = LogId::new(openraft::alias::LeaderIdOf::<Types>::new_committed(term, node), self.last.index + 1);
        // Harmless by itself, and nobody may be elected in that term.
        self.log.save_vote(&Vote::new(term, node)).await?;
        let address = self.holding.voters.get(&node).cloned().unwrap_or_default();
        let nodes = BTreeMap::from([(node, BasicNode { addr: address })]);
        let members = Membership::new(vec![BTreeSet::from([node])], nodes);
        let members = members.map_err(|error| QueryError::Damaged(error.to_string()))?;
        let consensus = encode(&AppliedRecord::new(Some(id), &StoredMembership::new(Some(id), members)));
        self.state.write(Sync::Checkpoint, |apply| {
            apply_all(apply, &self.unapplied)?;
            apply.fork_history(history)?;
            apply.name_cluster(cluster)?;
            apply.put_consensus(&consensus)
        })?;
        // From here on it is done: the rest is what the next start would do as well.
        self.log.purge(id).await?;
        let identity = Identity { cluster, node };
        self.file.write(&IdentityRecord { member: Some(identity), ..self.record })?;
        Ok(identity)
    }
}

fn split(members: &Membership<u64, BasicNode>) -> (BTreeMap<u64, String>, BTreeMap<u64, String>) {
    let voters: BTreeSet<u64> = members.voter_ids().collect();
    members.nodes().map(|(node, at)| (*node, at.addr.clone())).partition(|(node, _)| voters.contains(node))
}

fn apply_all(apply: &mut Apply<'_>, entries: &[Entry]) -> Result<(), QueryError> {
    for entry in entries {
        if let EntryPayload::Normal(Proposal(bytes)) = &entry.payload {
            decide(apply, Some(Proposal(bytes.clone())), Levels::OF_THIS_BUILD)?;
        }
    }
    Ok(())
}

/// Where the facts would stand with these entries.
fn try_on(state: &State, entries: &[Entry]) -> Result<(Position, LogTime, Option<History>), QueryError> {
    let mut reached = (Position::default(), LogTime(0), None);
    state.write_if(|apply| {
        apply_all(apply, entries)?;
        reached = (apply.position(), apply.time(), apply.history()?);
        Ok(false)
    })?;
    Ok(reached)
}

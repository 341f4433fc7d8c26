//! What replicas say to each other, as it crosses the network: types of ours, so that two releases side by side
//! understand each other whatever openraft does.
//!
//! A later release appends variants and reads the former ones; a receiver that does not know a variant answers
//! [`Reply::NotUnderstood`], which the sender takes like a replica that is away.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::records::{AppliedRecord, EntryRecord, IdRecord, VoteRecord};
use crate::{ClusterId, Identity, Level, VolumeId};

/// A request, and whom it is for: an address may have passed to another replica, or another cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    /// `None` from a replica that is not in any cluster yet.
    pub cluster: Option<ClusterId>,
    /// `None` for whoever listens there.
    pub to: Option<u64>,
    pub request: Request,
}

/// What is asked. By position in this list: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Raft's own.
    Append(AppendRequest),
    Vote(VoteRequest),
    PreVote(VoteRequest),
    TransferLeader {
        from: VoteRecord,
        to: u64,
        last: Option<IdRecord>,
    },
    Snapshot(SnapshotPiece),
    /// Of the leader: to commit an encoded envelope.
    Propose(Bytes),
    /// Of the leader: the index that whoever reads now has to have applied.
    ReadIndex,
    /// Of the leader: to take in a volume, which is reached at `address` from now on. Of the others: to note where.
    Join {
        volume: VolumeId,
        /// Its node id, unless it is blank.
        node: Option<u64>,
        address: String,
    },
    /// Of the leader: a change of the members.
    Change(MemberChange),
    /// To answer when the entry of this index is applied.
    AwaitApplied(u64),
    /// Of the leader: what it knows of the members.
    Members,
    /// `Join`, of a build that says what it reads; without that, it reads the first level.
    Announce {
        volume: VolumeId,
        /// Its node id, unless it is blank.
        node: Option<u64>,
        address: String,
        reads: Level,
    },
    /// Of the leader: `Propose`, of several.
    ProposeAll(Vec<Bytes>),
}

/// Raft, figure 2: `AppendEntries`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppendRequest {
    pub vote: VoteRecord,
    pub previous: Option<IdRecord>,
    pub entries: Vec<EntryRecord>,
    pub committed: Option<IdRecord>,
}

impl AppendRequest {
    /// Whether it is one of many by which a member catches up, or as long as one.
    pub(super) fn is_large(&self) -> bool {
        const LARGE_ENTRIES: usize = 128;
        const LARGE_BYTES: usize = 1024 * 1024;
        self.entries.len() >= LARGE_ENTRIES || self.entries.iter().map(EntryRecord::bytes).sum::<usize>() >= LARGE_BYTES
    }
}

/// Raft, figure 2: `RequestVote`; and the dissertation, 9.6, for the vote before the vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VoteRequest {
    pub vote: VoteRecord,
    pub last: Option<IdRecord>,
    pub is_transfer: bool,
}

/// A stretch of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotPiece {
    pub vote: VoteRecord,
    pub state: AppliedRecord,
    pub offset: u64,
    pub bytes: Bytes,
    /// Nothing follows.
    pub is_last: bool,
}

/// A change of who is in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// Gives a learner that has caught up a vote.
    Promote {
        /// The learner.
        node: u64,
    },
    /// Takes a node out, whatever it is. It must be neither the leader nor the last voter.
    Remove {
        /// The node.
        node: u64,
    },
    /// Gives a learner the vote of a voter that is lost, in one step, so that the quorum is at no time a smaller one.
    Replace {
        /// The voter that goes.
        lost: u64,
        /// The learner that takes its place.
        by: u64,
    },
    /// Makes a voter the leader.
    TransferLeadership {
        /// The voter.
        to: u64,
    },
    /// Makes another voter the leader: the one that is nearest to the leader's log.
    HandOver {
        /// The leader that is to be one no longer.
        from: u64,
    },
}

/// What is answered. By position in this list: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The message is of a later release, or damaged.
    NotUnderstood(String),
    /// The message is for another cluster, or another node.
    NotForMe(String),
    /// This replica cannot do it: it has stopped, or its disk fails.
    Failed(String),
    /// The request is for the leader, which is there, if this replica knows.
    NotLeader(Option<LeaderHint>),
    Append(AppendReply),
    Vote(VoteReply),
    TransferLeader(Result<(), TransferRefusal>),
    Snapshot(SnapshotReply),
    Propose(ProposeReply),
    ReadIndex(u64),
    Join(Identity),
    Change(Result<(), ChangeRefusal>),
    /// It is applied.
    Applied,
    /// By the leader.
    Members(MembersReply),
    /// The node that asks to be noted was taken out of the cluster.
    Removed,
    /// The build of whoever announces itself reads less than what is in force.
    ReadsLess(Level),
    /// To each proposal what it would have been answered alone.
    ProposeAll(Vec<Reply>),
}

/// The members, as the leader sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MembersReply {
    pub leader: u64,
    pub term: u64,
    /// The newest entry of its log.
    pub last_index: u64,
    pub members: Vec<MemberRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberRecord {
    pub node: u64,
    pub volume: Option<VolumeId>,
    pub address: String,
    pub is_voter: bool,
    pub matched_index: Option<u64>,
    pub last_contact_ms: Option<u64>,
}

/// Where the leader is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaderHint {
    pub node: u64,
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum AppendReply {
    Success,
    PartialSuccess(Option<IdRecord>),
    Conflict,
    HigherVote(VoteRecord),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VoteReply {
    pub vote: VoteRecord,
    pub granted: bool,
    pub last: Option<IdRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TransferRefusal {
    VoteChanged { expected: VoteRecord, actual: VoteRecord },
    LogNotFlushed { expected: Option<IdRecord>, actual: Option<IdRecord> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SnapshotReply {
    /// Go on from this offset: after the piece, or from 0 if this replica has nothing of that snapshot.
    Continue(u64),
    /// All of it is installed, or not wanted, by this vote.
    Done(VoteRecord),
    /// All of it is here, and is being installed: ask again.
    Installing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ProposeReply {
    /// Applied by the leader, by the entry at `index`: an encoded outcome.
    Done { index: u64, outcome: Bytes },
    /// It may be applied yet.
    Unknown(String),
}

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeRefusal {
    /// There is no such node.
    #[error("there is no node {0} in this cluster")]
    UnknownNode(u64),
    /// It is not what the change takes it for.
    #[error("node {node} is {what}")]
    Unfit {
        /// The node.
        node: u64,
        /// What it is instead.
        what: String,
    },
    /// Another change is under way; try again.
    #[error("another change of the members is under way")]
    InProgress,
    /// The group did not agree, or not in time: look at the members, then try again.
    #[error("the change of the members may or may not have been made: {0}")]
    Unknown(String),
    /// A learner has to catch up first.
    #[error("node {node} has not caught up yet: it is {} behind", lag_text(*.lag))]
    Behind {
        /// The learner.
        node: u64,
        /// Entries that it lacks, where it has acknowledged any.
        lag: Option<u64>,
    },
    /// Without the last voter there is no cluster.
    #[error("node {0} is the last voter")]
    LastVoter(u64),
    /// The leader cannot be taken out.
    #[error("node {0} leads")]
    Leads(u64),
    /// Of the voters that would be left, too few are in contact to agree on anything.
    #[error(
        "without node {node} there {}, of which {needed} must agree, and {}",
        if *.voters == 1 { "is 1 voter".to_owned() } else { format!("are {} voters", .voters) },
        if *.in_contact == 1 { "1 is in contact".to_owned() } else { format!("{} are in contact", .in_contact) }
    )]
    Quorum {
        /// The voter that was to go.
        node: u64,
        /// How many are left without it.
        voters: u64,
        /// How many of those answer the leader.
        in_contact: u64,
        /// How many of them must agree.
        needed: u64,
    },
    /// A leader must have a vote.
    #[error("node {0} has no vote")]
    NoVote(u64),
    /// A leader must be in contact with the present one.
    #[error("node {0} does not answer the leader")]
    Silent(u64),
    /// No other voter is in contact and has caught up.
    #[error("no other voter could lead")]
    NoSuccessor,
    /// No leader is known: the change was not made.
    #[error("no leader takes the change: {0}")]
    NoLeader(String),
}

fn lag_text(lag: Option<u64>) -> String {
    lag.map_or_else(|| "an unknown number of entries".to_owned(), |lag| format!("{lag} entries"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::check;
    use crate::raft::records::tests::{applied, entries, id, vote};

    fn message(request: Request) -> Message {
        Message { cluster: Some(ClusterId(7)), to: Some(2), request }
    }

    #[test]
    fn golden_requests() {
        let vote_request = VoteRequest { vote: vote(), last: Some(id(300)), is_transfer: false };
        let append =
            AppendRequest { vote: vote(), previous: Some(id(299)), entries: entries(), committed: Some(id(298)) };
        let piece = SnapshotPiece {
            vote: vote(),
            state: applied(),
            offset: 5,
            bytes: Bytes::from_static(b"rows"),
            is_last: true,
        };
        let join = Request::Join { volume: VolumeId(9), node: None, address: "three:5001".to_owned() };
        let announce = Request::Announce {
            volume: VolumeId(9),
            node: Some(3),
            address: "three:5001".to_owned(),
            reads: Level(300),
        };
        check(
            "peer-request",
            &[
                ("append", message(Request::Append(append))),
                ("vote", message(Request::Vote(vote_request.clone()))),
                ("pre-vote", message(Request::PreVote(vote_request))),
                ("transfer-leader", message(Request::TransferLeader { from: vote(), to: 2, last: None })),
                ("snapshot", message(Request::Snapshot(piece))),
                ("propose", message(Request::Propose(Bytes::from_static(b"an envelope")))),
                ("read-index", message(Request::ReadIndex)),
                ("join", Message { cluster: None, to: None, request: join }),
                ("promote", message(Request::Change(MemberChange::Promote { node: 3 }))),
                ("remove", message(Request::Change(MemberChange::Remove { node: 3 }))),
                ("replace", message(Request::Change(MemberChange::Replace { lost: 2, by: 4 }))),
                ("await-applied", message(Request::AwaitApplied(300))),
                ("transfer", message(Request::Change(MemberChange::TransferLeadership { to: 3 }))),
                ("hand-over", message(Request::Change(MemberChange::HandOver { from: 1 }))),
                ("members", message(Request::Members)),
                ("announce", message(announce)),
                (
                    "propose-all",
                    message(Request::ProposeAll(vec![
                        Bytes::from_static(b"an envelope"),
                        Bytes::from_static(b"another"),
                    ])),
                ),
            ],
        );
    }

    #[test]
    fn golden_replies() {
        let why = || "why".to_owned();
        let transfer = TransferRefusal::VoteChanged { expected: vote(), actual: vote() };
        let flush = TransferRefusal::LogNotFlushed { expected: Some(id(2)), actual: None };
        let quorum = ChangeRefusal::Quorum { node: 3, voters: 2, in_contact: 1, needed: 2 };
        let member = MemberRecord {
            node: 3,
            volume: Some(VolumeId(9)),
            address: "three:5001".to_owned(),
            is_voter: true,
            matched_index: Some(299),
            last_contact_ms: Some(70),
        };
        let members = MembersReply { leader: 1, term: 2, last_index: 300, members: vec![member] };
        check(
            "peer-reply",
            &[
                ("not-understood", Reply::NotUnderstood(why())),
                ("not-for-me", Reply::NotForMe(why())),
                ("failed", Reply::Failed(why())),
                ("not-leader", Reply::NotLeader(Some(LeaderHint { node: 2, address: "two:5001".to_owned() }))),
                ("append", Reply::Append(AppendReply::Success)),
                ("append-part", Reply::Append(AppendReply::PartialSuccess(Some(id(3))))),
                ("append-conflict", Reply::Append(AppendReply::Conflict)),
                ("append-higher", Reply::Append(AppendReply::HigherVote(vote()))),
                ("vote", Reply::Vote(VoteReply { vote: vote(), granted: true, last: Some(id(3)) })),
                ("transferred", Reply::TransferLeader(Ok(()))),
                ("transfer-vote", Reply::TransferLeader(Err(transfer))),
                ("transfer-flush", Reply::TransferLeader(Err(flush))),
                ("snapshot-continue", Reply::Snapshot(SnapshotReply::Continue(9))),
                ("snapshot-done", Reply::Snapshot(SnapshotReply::Done(vote()))),
                ("snapshot-installing", Reply::Snapshot(SnapshotReply::Installing)),
                (
                    "proposed",
                    Reply::Propose(ProposeReply::Done { index: 9, outcome: Bytes::from_static(b"an outcome") }),
                ),
                ("propose-unknown", Reply::Propose(ProposeReply::Unknown(why()))),
                ("read-index", Reply::ReadIndex(9)),
                ("joined", Reply::Join(Identity { cluster: ClusterId(7), node: 3 })),
                ("applied", Reply::Applied),
                ("changed", Reply::Change(Ok(()))),
                ("unknown-node", Reply::Change(Err(ChangeRefusal::UnknownNode(3)))),
                ("unfit", Reply::Change(Err(ChangeRefusal::Unfit { node: 3, what: why() }))),
                ("in-progress", Reply::Change(Err(ChangeRefusal::InProgress))),
                ("change-unknown", Reply::Change(Err(ChangeRefusal::Unknown(why())))),
                ("behind", Reply::Change(Err(ChangeRefusal::Behind { node: 3, lag: Some(5_000) }))),
                ("last-voter", Reply::Change(Err(ChangeRefusal::LastVoter(1)))),
                ("leads", Reply::Change(Err(ChangeRefusal::Leads(1)))),
                ("quorum", Reply::Change(Err(quorum))),
                ("no-vote", Reply::Change(Err(ChangeRefusal::NoVote(3)))),
                ("silent", Reply::Change(Err(ChangeRefusal::Silent(3)))),
                ("no-successor", Reply::Change(Err(ChangeRefusal::NoSuccessor))),
                ("no-leader", Reply::Change(Err(ChangeRefusal::NoLeader(why())))),
                ("members", Reply::Members(members)),
                ("removed", Reply::Removed),
                ("reads-less", Reply::ReadsLess(Level(300))),
                ("propose-all", Reply::ProposeAll(vec![Reply::NotLeader(None), Reply::Failed(why())])),
            ],
        );
    }
}

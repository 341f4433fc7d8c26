//! How the consensus's own facts are persisted: types of ours, so that the files do not depend on a version of openraft.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::impls::BasicNode;
use openraft::vote::{RaftLeaderId, RaftLeaderIdExt};
use openraft::{EntryPayload, Membership};
use serde::{Deserialize, Serialize};

use super::config::{Entry, LogId, Proposal, StoredMembership, Types, Vote};

type LeaderId = openraft::alias::LeaderIdOf<Types>;

/// The place of an entry in the log, and who led when it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdRecord {
    term: u64,
    node: u64,
    index: u64,
}

impl From<LogId> for IdRecord {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<IdRecord> for LogId {
    fn from(record: IdRecord) -> Self {
        Self::new(LeaderId::new_committed(record.term, record.node), record.index)
    }
}

/// For whom a replica has voted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VoteRecord {
    term: u64,
    node: u64,
    committed: bool,
}

impl From<Vote> for VoteRecord {
    fn from(vote: Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Self {
        Self { leader_id: LeaderId::new(record.term, record.node), committed: record.committed }
    }
}

/// Who is in the group: sets of voters (two while it changes), and every node's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MembersRecord {
    voters: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, String>,
}

impl From<&Membership<u64, BasicNode>> for MembersRecord {
    fn from(members: &Membership<u64, BasicNode>) -> Self {
        let nodes = members.nodes().map(|(id, node)| (*id, node.addr.clone()));
        Self { voters: members.get_joint_config().clone(), nodes: nodes.collect() }
    }
}

impl MembersRecord {
    fn members(self) -> Result<Membership<u64, BasicNode>, String> {
        let nodes: BTreeMap<_, _> = self.nodes.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        Membership::new(self.voters, nodes).map_err(|error| error.to_string())
    }
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryRecord {
    id: IdRecord,
    payload: PayloadRecord,
}

/// What an entry carries. Persisted by position in this list: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PayloadRecord {
    Blank,
    Command(Bytes),
    Members(MembersRecord),
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadRecord::Blank,
            EntryPayload::Normal(Proposal(command)) => PayloadRecord::Command(command.clone()),
            EntryPayload::Membership(members) => PayloadRecord::Members(members.into()),
        };
        Self { id: entry.log_id.into(), payload }
    }
}

impl EntryRecord {
    /// Of what it carries, without what says who the members are.
    pub(super) fn bytes(&self) -> usize {
        if let PayloadRecord::Command(command) = &self.payload { command.len() } else { 0 }
    }

    pub(super) fn entry(self) -> Result<Entry, String> {
        let payload = match self.payload {
            PayloadRecord::Blank => EntryPayload::Blank,
            PayloadRecord::Command(command) => EntryPayload::Normal(Proposal(command)),
            PayloadRecord::Members(members) => EntryPayload::Membership(members.members()?),
        };
        Ok(Entry { log_id: self.id.into(), payload })
    }
}

/// What stands at the front of a segment: the log's state there, so that the segments before it can be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct SegmentRecord {
    pub vote: Option<VoteRecord>,
    pub committed: Option<IdRecord>,
    pub purged: Option<IdRecord>,
    pub last: Option<IdRecord>,
}

/// How far the state is, in its own transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppliedRecord {
    pub applied: Option<IdRecord>,
    pub members_at: Option<IdRecord>,
    pub members: MembersRecord,
}

impl AppliedRecord {
    pub(super) fn new(applied: Option<LogId>, membership: &StoredMembership) -> Self {
        Self {
            applied: applied.map(Into::into),
            members_at: (*membership.log_id()).map(Into::into),
            members: membership.membership().into(),
        }
    }

    pub(super) fn membership(self) -> Result<StoredMembership, String> {
        Ok(StoredMembership::new(self.members_at.map(Into::into), self.members.members()?))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::golden::check;

    pub(crate) fn id(index: u64) -> IdRecord {
        IdRecord { term: 2, node: 1, index }
    }

    fn members() -> MembersRecord {
        MembersRecord {
            voters: vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            nodes: BTreeMap::from([(1, "one:5001".to_owned()), (2, "two:5001".to_owned()), (3, String::new())]),
        }
    }

    pub(crate) fn vote() -> VoteRecord {
        VoteRecord { term: 2, node: 1, committed: true }
    }

    pub(crate) fn applied() -> AppliedRecord {
        AppliedRecord { applied: Some(id(300)), members_at: Some(id(1)), members: members() }
    }

    pub(crate) fn entries() -> Vec<EntryRecord> {
        let command = PayloadRecord::Command(Bytes::from_static(b"an envelope"));
        vec![EntryRecord { id: id(300), payload: command }, EntryRecord { id: id(301), payload: PayloadRecord::Blank }]
    }

    #[test]
    fn golden_log_records() {
        let vote = vote();
        let entry = |payload| EntryRecord { id: id(300), payload };
        let entries = [
            ("blank", entry(PayloadRecord::Blank)),
            ("command", entry(PayloadRecord::Command(Bytes::from_static(b"an envelope")))),
            ("members", entry(PayloadRecord::Members(members()))),
        ];
        check("log-entry", &entries);
        check("log-vote", &[("vote", vote)]);
        check("log-id", &[("committed-or-purged", id(300))]);
        check("log-truncated", &[("to-entry", Some(id(300))), ("to-nothing", None)]);
        let full = SegmentRecord { vote: Some(vote), committed: Some(id(3)), purged: Some(id(1)), last: Some(id(4)) };
        check("log-segment", &[("full", full), ("empty", SegmentRecord::default())]);
        check("applied", &[("applied", applied())]);
    }

    #[test]
    fn what_openraft_says_round_trips() {
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal(Bytes::from_static(b"command"))),
            EntryPayload::Membership(members().members().unwrap()),
        ] {
            let entry = Entry { log_id: id(7).into(), payload };
            assert_eq!(EntryRecord::from(&entry).entry().unwrap(), entry);
        }
        for vote in [Vote::new(3, 1), Vote::new_committed(3, 1)] {
            assert_eq!(Vote::from(VoteRecord::from(vote)), vote);
        }
    }
}

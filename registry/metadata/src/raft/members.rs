//! Who is in the group: joining, voting, leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::async_runtime::instant::Instant as _;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::impls::BasicNode;
use tokio::time::{Instant, interval};

use super::config::Types;
use super::group::Group;
use super::leader::{Unanswered, not_leader};
use super::messages::{ChangeRefusal, MemberChange, Message, ProposeReply, Reply, Request};
use super::peers::decode_reply;
use crate::encoding::{decode, encode};

use crate::{AllocateNode, ClusterOptions, CommandId, Envelope, Identity, LogTime, Outcome, VolumeId};

/// Entries that a learner may be behind when it gets a vote: what a follower catches up with in a heartbeat or two.
const CAUGHT_UP: u64 = 1_000;

/// How long a seed may take to answer a volume that wants to join, and the pause between rounds.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// How long a member may take to note where another one is.
const NOTE_PATIENCE: Duration = Duration::from_secs(1);

/// A member of the group, as one replica knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: u64,
    /// Where the others reach it.
    pub address: String,
    /// Whether its acknowledgement counts towards a quorum.
    pub is_voter: bool,
    /// The newest entry that it is known to have: known to the leader only.
    pub matched_index: Option<u64>,
    /// When it acknowledged anything last: known to the leader only.
    pub last_contact: Option<Duration>,
}

/// Asks the seeds, until one of them says where the leader is and that one has taken the volume in.
pub(super) async fn join(volume: VolumeId, options: &ClusterOptions) -> Identity {
    let request = Message {
        cluster: None,
        to: None,
        request: Request::Join { volume, node: None, address: options.address.clone() },
    };
    let message: bytes::Bytes = encode(&request).into();
    let mut hint: Option<String> = None;
    let mut rounds = interval(JOIN_PAUSE);
    loop {
        rounds.tick().await;
        for address in hint.take().iter().chain(&options.seeds) {
            let reply = options.transport.call(address, message.clone(), JOIN_PATIENCE).await;
            match reply.and_then(|reply| decode_reply(&reply)) {
                Ok(Reply::Join(identity)) => return identity,
                Ok(Reply::NotLeader(leader)) => {
                    tracing::debug!(address, ?leader, "a seed does not lead");
                    hint = leader.map(|leader| leader.address);
                    break;
                }
                Ok(other) => tracing::warn!(address, ?other, "a seed did not take this replica in"),
                Err(error) => tracing::warn!(address, %error, "a seed was not reached; trying on"),
            }
        }
    }
}

impl Group {
    /// Every member, in the order of their ids.
    pub(crate) fn members(&self) -> Vec<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let member = |(node, at): (&u64, &BasicNode)| Member {
            node: *node,
            address: at.addr.clone(),
            is_voter: voters.contains(node),
            matched_index: metrics
                .replication
                .as_ref()
                .and_then(|matched| matched.get(node).copied().flatten())
                .map(|id| id.index),
            last_contact: metrics
                .heartbeat
                .as_ref()
                .and_then(|heard| heard.get(node).copied().flatten())
                .map(|at| at.elapsed()),
        };
        membership.nodes().map(member).collect()
    }

    /// Lets the leader change the members.
    pub(crate) async fn change_members(&self, change: MemberChange, patience: Duration) -> Result<(), ChangeRefusal> {
        match self.ask_leader(Request::Change(change), Instant::now() + patience).await {
            Ok(Reply::Change(result)) => result,
            Ok(other) => Err(ChangeRefusal::Unknown(format!("the leader answered with {other:?}"))),
            Err(Unanswered { why, .. }) => Err(ChangeRefusal::Unknown(why)),
        }
    }

    /// Tells every member where this replica is reached, since addresses change; the leader lets the group agree on it.
    pub(crate) async fn announce(&self, address: &str, patience: Duration) -> Result<(), String> {
        let Identity { node, .. } = self.identity;
        let request = Request::Join { volume: self.volume, node: Some(node), address: address.to_owned() };
        let others = self.members().into_iter().filter(|member| member.node != node);
        let told = others.map(async |member| {
            // Who is not reached is told by what the group agrees on.
            let _ = self.peers.ask(Some(member.node), &member.address, request.clone(), NOTE_PATIENCE).await;
        });
        futures_util::future::join_all(told).await;
        match self.ask_leader(request, Instant::now() + patience).await {
            Ok(Reply::Join(identity)) if identity == self.identity => Ok(()),
            Ok(other) => Err(format!("the leader answered with {other:?}")),
            Err(Unanswered { why, .. }) => Err(why),
        }
    }

    /// Takes a volume in: allocates its node id, makes it a learner, notes its address.
    pub(super) async fn take_in(&self, volume: VolumeId, node: Option<u64>, address: String) -> Reply {
        let node = match node {
            Some(node) => node,
            None => match self.node_of(volume).await {
                Ok(node) => node,
                Err(reply) => return reply,
            },
        };
        let at = BasicNode { addr: address };
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().get_node(&node).cloned()
        };
        let joined = Reply::Join(Identity { cluster: self.identity.cluster, node });
        let nodes = BTreeMap::from([(node, at.clone())]);
        let change = match known {
            Some(known) if known == at => return joined,
            // The volume's id says that it is the same replica, so its votes stay its own.
            Some(_) => ChangeMembers::SetNodes(nodes),
            None => ChangeMembers::AddNodes(nodes),
        };
        match self.raft.change_membership(change, true).await {
            Ok(_) => joined,
            Err(error) => refused(error).unwrap_or_else(|refusal| Reply::Failed(refusal.to_string())),
        }
    }

    /// The node id of a volume. The id of the command is the volume's, so that asking again within minutes is answered
    /// by the same entry; after that the state itself knows the volume.
    async fn node_of(&self, volume: VolumeId) -> Result<u64, Reply> {
        let envelope = Envelope { id: CommandId(volume.0), at: LogTime(0), command: AllocateNode { volume }.into() };
        let deadline = Instant::now() + JOIN_PATIENCE;
        match self.commit(encode(&envelope).into(), deadline).await {
            Reply::Propose(ProposeReply::Done { outcome, .. }) => match decode(&outcome) {
                Ok(Outcome::AllocateNode(Ok(node))) => Ok(node),
                other => Err(Reply::Failed(format!("the node was not allocated: {other:?}"))),
            },
            Reply::Propose(ProposeReply::Unknown(why)) => Err(Reply::Failed(why)),
            reply => Err(reply),
        }
    }

    /// Changes the members, if this replica leads.
    pub(super) async fn change(&self, change: MemberChange) -> Reply {
        if self.leader().is_none_or(|leader| leader.node != self.identity.node) {
            return Reply::NotLeader(self.leader());
        }
        let members = self.members();
        let plan = match plan(change, &members, self.identity.node, self.status().last_log_index) {
            Ok(Plan::Nothing) => return Reply::Change(Ok(())),
            Ok(Plan::Transfer(to)) => return self.transfer(to).await,
            Ok(Plan::Change(change)) => change,
            Err(refusal) => return Reply::Change(Err(refusal)),
        };
        match self.raft.change_membership(plan, false).await {
            Ok(_) => Reply::Change(Ok(())),
            Err(error) => refused(error).unwrap_or_else(|refusal| Reply::Change(Err(refusal))),
        }
    }

    async fn transfer(&self, to: u64) -> Reply {
        if let Err(fatal) = self.raft.trigger().transfer_leader(to).await {
            return Reply::Failed(fatal.to_string());
        }
        let led = self.raft.wait(Some(JOIN_PATIENCE)).current_leader(to, "leadership is handed over").await;
        Reply::Change(led.map(drop).map_err(|error| ChangeRefusal::Unknown(error.to_string())))
    }
}

/// What a change comes to.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// It is so already.
    Nothing,
    Change(ChangeMembers<u64, BasicNode>),
    Transfer(u64),
}

/// Judges a change by what the leader `me` knows.
fn plan(change: MemberChange, members: &[Member], me: u64, last_index: u64) -> Result<Plan, ChangeRefusal> {
    let find = |node| members.iter().find(|member| member.node == node).ok_or(ChangeRefusal::UnknownNode(node));
    let unfit = |node, what: &str| Err(ChangeRefusal::Unfit { node, what: what.to_owned() });
    let voters = members.iter().filter(|member| member.is_voter).count();
    let has_caught_up = |member: &Member| member.matched_index.is_some_and(|index| index + CAUGHT_UP >= last_index);
    let only = |node| BTreeSet::from([node]);
    match change {
        MemberChange::Promote { node } => match find(node)? {
            member if member.is_voter => Ok(Plan::Nothing),
            member if !has_caught_up(member) => unfit(node, "a learner that has not caught up yet"),
            _ => Ok(Plan::Change(ChangeMembers::AddVoterIds(only(node)))),
        },
        MemberChange::Remove { node } => match find(node) {
            Err(_) => Ok(Plan::Nothing),
            Ok(_) if node == me => unfit(node, "the leader: hand over its leadership first"),
            Ok(member) if !member.is_voter => Ok(Plan::Change(ChangeMembers::RemoveNodes(only(node)))),
            Ok(_) if voters == 1 => unfit(node, "the last voter"),
            Ok(_) => Ok(Plan::Change(ChangeMembers::RemoveVoters(only(node)))),
        },
        MemberChange::Replace { lost, by } => match (find(lost), find(by)?) {
            (Err(_), member) if member.is_voter => Ok(Plan::Nothing),
            (Err(refusal), _) => Err(refusal),
            (Ok(_), _) if lost == me => unfit(lost, "the leader"),
            (Ok(lost), _) if !lost.is_voter => unfit(lost.node, "not a voter"),
            (Ok(_), member) if member.is_voter => unfit(by, "a voter already"),
            (Ok(_), member) if !has_caught_up(member) => unfit(by, "a learner that has not caught up yet"),
            (Ok(_), _) => {
                let stay = members.iter().filter(|member| member.is_voter && member.node != lost);
                let voters = stay.map(|member| member.node).chain([by]).collect();
                Ok(Plan::Change(ChangeMembers::ReplaceAllVoters(voters)))
            }
        },
        MemberChange::TransferLeadership { to } => match find(to)? {
            _ if to == me => Ok(Plan::Nothing),
            member if !member.is_voter => unfit(to, "not a voter"),
            _ => Ok(Plan::Transfer(to)),
        },
    }
}

/// Where the group did not take a change: the answer of a replica that does not lead, or why.
fn refused(error: RaftError<Types, ClientWriteError<Types>>) -> Result<Reply, ChangeRefusal> {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => Ok(not_leader(forward)),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            Err(ChangeRefusal::InProgress)
        }
        other => Err(ChangeRefusal::Unknown(other.to_string())),
    }
}

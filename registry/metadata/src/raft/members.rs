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
use super::messages::{ChangeRefusal, MemberChange, MemberRecord, MembersReply, Message, ProposeReply, Reply, Request};
use super::peers::decode_reply;
use super::plan::{Plan, is_in_contact, plan};
use crate::encoding::{decode, encode};

use crate::state::FIRST_NODE;
use crate::{
    AllocateNode, ClusterOptions, CommandId, Envelope, Identity, LaterLevel, Level, LogTime, NameFirstVolume,
    OpenError, Outcome, VolumeId,
};

/// How long a seed may take to answer a volume that wants to join, and the pause between rounds.
pub(super) const JOIN_PATIENCE: Duration = Duration::from_secs(5);
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// How long a transfer of leadership may take: the round of votes that the successor asks for, or an ordinary election if
/// it is lost in that moment.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(3);

/// How long a member may take to note where another one is.
const NOTE_PATIENCE: Duration = Duration::from_secs(1);

/// A member of the group, as one replica knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: u64,
    /// Its volume, where the facts name it.
    pub volume: Option<VolumeId>,
    /// Where the others reach it.
    pub address: String,
    /// Whether its acknowledgement counts towards a quorum.
    pub is_voter: bool,
    /// The newest entry that it is known to have: known to the leader only.
    pub matched_index: Option<u64>,
    /// When it acknowledged anything last: known to the leader only.
    pub last_contact: Option<Duration>,
    /// What its build reads, as it has said: no more than the first level, if it has said nothing yet.
    pub reads: Level,
}

/// The members of the group, as one of them sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Who leads, and then whose view this is; `None` if nobody answered as the leader, and it is this replica's own.
    pub leader: Option<u64>,
    /// The Raft term.
    pub term: u64,
    /// The newest entry of the log of whoever's view this is.
    pub last_index: u64,
    /// In the order of their ids.
    pub members: Vec<Member>,
}

impl Members {
    /// How many voters there are.
    pub fn voters(&self) -> u64 {
        self.members.iter().filter(|member| member.is_voter).count() as u64
    }

    /// How many of them must agree.
    pub fn quorum(&self) -> u64 {
        self.voters() / 2 + 1
    }

    /// How many of them answer the leader; only a leader knows.
    pub fn voters_in_contact(&self) -> Option<u64> {
        self.leader?;
        Some(self.members.iter().filter(|member| member.is_voter && is_in_contact(member)).count() as u64)
    }

    /// How many entries a member lacks of those that the leader has; only a leader knows.
    pub fn lag(&self, member: &Member) -> Option<u64> {
        self.leader?;
        member.matched_index.map(|matched| self.last_index.saturating_sub(matched))
    }
}

/// Asks the seeds, until one of them says where the leader is and that one has taken the volume in, or will not since the
/// cluster uses more than `reads`.
pub(super) async fn join(volume: VolumeId, reads: Level, options: &ClusterOptions) -> Result<Identity, OpenError> {
    let request = Message {
        cluster: None,
        to: None,
        request: Request::Announce { volume, node: None, address: options.address.clone(), reads },
    };
    let message: bytes::Bytes = encode(&request).into();
    let mut hint: Option<String> = None;
    let mut rounds = interval(JOIN_PAUSE);
    loop {
        rounds.tick().await;
        for address in hint.take().iter().chain(&options.seeds) {
            let reply = options.transport.call(address, message.clone(), JOIN_PATIENCE).await;
            match reply.and_then(|reply| decode_reply(&reply)?.taken()) {
                Ok(Reply::Join(identity)) => return Ok(identity),
                Ok(Reply::ReadsLess(level)) => return Err(LaterLevel { level, reads }.into()),
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
        let (volumes, reads) = (self.volumes(), self.announced());
        let me = self.identity.node;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let leads = metrics.current_leader == Some(me);
        let member = |(node, at): (&u64, &BasicNode)| {
            let matched = metrics.replication.as_ref().and_then(|matched| matched.get(node).copied().flatten());
            let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(node).copied().flatten());
            let is_leader = leads && *node == me;
            Member {
                node: *node,
                volume: volumes.get(node).copied(),
                address: at.addr.clone(),
                is_voter: voters.contains(node),
                matched_index: if is_leader { metrics.last_log_index } else { matched.map(|id| id.index) },
                last_contact: if is_leader { Some(Duration::ZERO) } else { heard.map(|at| at.elapsed()) },
                reads: reads.get(node).copied().unwrap_or_default(),
            }
        };
        membership.nodes().map(member).collect()
    }

    /// The volumes of all nodes that ever joined, by their ids, and this replica's own. Facts that cannot be read tell
    /// of none: what else there is to say of the members does not depend on them.
    fn volumes(&self) -> BTreeMap<u64, VolumeId> {
        let known = self.query().and_then(|query| query.volumes()).unwrap_or_default();
        known.into_iter().chain([(self.identity.node, self.volume)]).collect()
    }

    /// The members as the leader sees them; or, if none answers in time, as this replica does.
    pub(crate) async fn view(&self, patience: Duration) -> Members {
        let asked = self.ask_leader(Request::Members, Instant::now() + patience).await;
        if let Ok(Reply::Members(MembersReply { leader, term, last_index, members })) = asked {
            // Of what they read, the facts tell here as well.
            let reads = self.announced();
            let reads = |record: &MemberRecord| reads.get(&record.node).copied().unwrap_or_default();
            let members = members.into_iter().map(|record| Member { reads: reads(&record), ..record.into() }).collect();
            return Members { leader: Some(leader), term, last_index, members };
        }
        let status = self.status();
        Members { leader: None, term: status.term, last_index: status.last_log_index, members: self.members() }
    }

    /// What this replica knows of the members, if it leads.
    pub(super) fn describe(&self) -> Reply {
        let status = self.status();
        if status.leader != Some(self.identity.node) {
            return Reply::NotLeader(self.leader());
        }
        let members = self.members().into_iter().map(Into::into).collect();
        let (leader, term, last_index) = (self.identity.node, status.term, status.last_log_index);
        Reply::Members(MembersReply { leader, term, last_index, members })
    }

    /// Lets the leader change the members.
    pub(crate) async fn change_members(&self, change: MemberChange, patience: Duration) -> Result<(), ChangeRefusal> {
        match self.ask_leader(Request::Change(change), Instant::now() + patience).await {
            Ok(Reply::Change(result)) => result,
            Ok(other) => Err(ChangeRefusal::Unknown(format!("the leader answered with {other:?}"))),
            Err(Unanswered { may_be_done: true, why }) => Err(ChangeRefusal::Unknown(why)),
            Err(Unanswered { may_be_done: false, why }) => Err(ChangeRefusal::NoLeader(why)),
        }
    }

    /// Tells every member where this replica is reached, since addresses change; the leader lets the group agree on it.
    pub(crate) async fn announce(&self, address: &str, patience: Duration) -> Result<(), AnnounceError> {
        let (Identity { node, .. }, reads) = (self.identity, self.shared.levels.reads);
        let request = Request::Announce { volume: self.volume, node: Some(node), address: address.to_owned(), reads };
        let others = self.members().into_iter().filter(|member| member.node != node);
        // Who is not reached is told by what the group agrees on.
        let told = others.map(async |member| {
            self.peers.ask(Some(member.node), &member.address, request.clone(), NOTE_PATIENCE).await
        });
        let told = futures_util::future::join_all(told).await;
        // Whoever was taken out hears of no leader any more; but where it is, it answers here.
        if told.iter().any(|reply| matches!(reply, Ok(Reply::Removed))) {
            return Err(AnnounceError::Removed(node));
        }
        match self.ask_leader(request, Instant::now() + patience).await {
            Ok(Reply::Join(identity)) if identity == self.identity => Ok(()),
            Ok(Reply::Removed) => Err(AnnounceError::Removed(node)),
            Ok(Reply::ReadsLess(level)) => Err(LaterLevel { level, reads }.into()),
            Ok(other) => Err(AnnounceError::NoLeader(format!("the leader answered with {other:?}"))),
            Err(Unanswered { why, .. }) => Err(AnnounceError::NoLeader(why)),
        }
    }

    /// Takes a volume in: allocates its node id, makes it a learner, notes its address and what its build reads.
    pub(super) async fn take_in(&self, volume: VolumeId, node: Option<u64>, address: String, reads: Level) -> Reply {
        let _turn = self.joining.lock().await;
        if let Err(refusal) = self.admit(reads) {
            return refusal;
        }
        let is_blank = node.is_none();
        let node = match node {
            Some(node) => node,
            None => match self.node_of(volume).await {
                Ok(node) => node,
                Err(reply) => return reply,
            },
        };
        if !is_blank && node == FIRST_NODE {
            self.name_first_volume(volume).await;
        }
        let at = BasicNode { addr: address };
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().get_node(&node).cloned()
        };
        if known.is_some()
            && let Err(reply) = self.note_level(node, volume, reads).await
        {
            return reply;
        }
        // Since its id was allocated, this replica may have learnt of a level that it had not applied.
        if let Err(refusal) = self.admit(reads) {
            return refusal;
        }
        let joined = Reply::Join(Identity { cluster: self.identity.cluster, node });
        let nodes = BTreeMap::from([(node, at.clone())]);
        let change = match known {
            Some(known) if known == at => return joined,
            // The volume's id says that it is the same replica, so its votes stay its own.
            Some(_) => ChangeMembers::SetNodes(nodes),
            None if is_blank => ChangeMembers::AddNodes(nodes),
            // A node has its id from a group that had taken it in before, so that somebody has taken it out since. Of
            // that only a leader can be sure who still leads.
            None => {
                let confirmed = self.confirm_reads().await;
                return if matches!(confirmed, Reply::ReadIndex(_)) { Reply::Removed } else { confirmed };
            }
        };
        match self.raft.change_membership(change, true).await {
            Ok(_) => joined,
            Err(error) => refused(error).unwrap_or_else(|refusal| Reply::Failed(refusal.to_string())),
        }
    }

    /// Lets the facts know the volume of the node that began the cluster. If they do not now, the next start tells them.
    async fn name_first_volume(&self, volume: VolumeId) {
        let is_known =
            self.query().and_then(|query| query.volumes()).is_ok_and(|known| known.contains_key(&FIRST_NODE));
        if !is_known {
            let command = NameFirstVolume { volume }.into();
            let envelope = Envelope { id: CommandId(volume.0), at: LogTime(0), command };
            if let Ok(entry) = self.entry(&envelope) {
                self.commit(entry, Instant::now() + JOIN_PATIENCE).await;
            }
        }
    }

    /// The node id of a volume. The id of the command is the volume's, so that asking again within minutes is answered
    /// by the same entry; after that the state itself knows the volume.
    async fn node_of(&self, volume: VolumeId) -> Result<u64, Reply> {
        let envelope = Envelope { id: CommandId(volume.0), at: LogTime(0), command: AllocateNode { volume }.into() };
        let entry = self.entry(&envelope).map_err(|error| Reply::Failed(error.to_string()))?;
        match self.commit(entry, Instant::now() + JOIN_PATIENCE).await {
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
        loop {
            if self.leader().is_none_or(|leader| leader.node != self.identity.node) {
                return Reply::NotLeader(self.leader());
            }
            let (members, me) = (self.members(), self.identity.node);
            let planned = plan(change, &members, self.is_half_changed(), me, self.status().last_log_index);
            let (step, is_last) = match planned {
                Ok(Plan::Nothing) => return Reply::Change(Ok(())),
                Ok(Plan::Transfer(to)) => return Reply::Change(self.transfer(to).await),
                // Nobody is added to the new voters: of the two sets they are left.
                Ok(Plan::EndFormer) => (ChangeMembers::AddVoterIds(BTreeSet::new()), false),
                Ok(Plan::Change(step)) => (step, true),
                Err(refusal) => return Reply::Change(Err(refusal)),
            };
            match self.raft.change_membership(step, false).await {
                Ok(_) if is_last => return Reply::Change(Ok(())),
                Ok(_) => {}
                Err(error) => return refused(error).unwrap_or_else(|refusal| Reply::Change(Err(refusal))),
            }
        }
    }

    /// Whether two sets of voters have to agree, as in the midst of a change.
    fn is_half_changed(&self) -> bool {
        self.raft.metrics().borrow_watched().membership_config.membership().get_joint_config().len() > 1
    }

    /// Hands leadership over to a voter, and waits until somebody else leads.
    async fn transfer(&self, to: u64) -> Result<(), ChangeRefusal> {
        let unknown = |error: &dyn std::fmt::Display| ChangeRefusal::Unknown(error.to_string());
        self.raft.trigger().transfer_leader(to).await.map_err(|fatal| unknown(&fatal))?;
        let me = self.identity.node;
        let is_led = |metrics: &openraft::RaftMetrics<Types>| metrics.current_leader.is_some_and(|leader| leader != me);
        let led = self.raft.wait(Some(TRANSFER_PATIENCE)).metrics(is_led, "leadership is handed over").await;
        match led.map_err(|error| unknown(&error))?.current_leader {
            Some(leader) if leader == to => Ok(()),
            other => Err(ChangeRefusal::Unknown(format!("{other:?} leads instead of node {to}"))),
        }
    }
}

/// Why this replica's place was not noted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// No leader noted it in time: try again.
    #[error("no leader noted it: {0}")]
    NoLeader(String),
    /// It is in the cluster no longer.
    #[error(
        "node {0} was removed from its cluster, which goes on without it; to take part again, it needs an empty data \
         folder, with which it joins as a new node"
    )]
    Removed(u64),
    /// The cluster uses what this release does not read.
    #[error(transparent)]
    Later(#[from] LaterLevel),
}

impl From<Member> for MemberRecord {
    fn from(member: Member) -> Self {
        let Member { node, volume, address, is_voter, matched_index, last_contact, reads: _ } = member;
        let last_contact_ms = last_contact.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
        Self { node, volume, address, is_voter, matched_index, last_contact_ms }
    }
}

impl From<MemberRecord> for Member {
    fn from(record: MemberRecord) -> Self {
        let MemberRecord { node, volume, address, is_voter, matched_index, last_contact_ms } = record;
        let last_contact = last_contact_ms.map(Duration::from_millis);
        Self { node, volume, address, is_voter, matched_index, last_contact, reads: Level::FIRST }
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

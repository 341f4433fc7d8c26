//! Letting the leader do what only it can, wherever it is.
//!
//! ```text
//!  propose, linearize, join, change --ask_leader--> leads here:   lead(request) -----------.
//!                                        |          leads there:  message --> lead(request) +--> Reply
//!                                        '-- again, at a leader that is new, until the deadline
//! ```
//!
//! Asking again is harmless: proposals carry an id that is applied once, and the other requests say what is to be, not
//! what is to happen.

use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use tokio::time::{Instant, timeout_at};

use super::config::{Proposal, Types};
use super::group::Group;
use super::messages::{LeaderHint, ProposeReply, Reply, Request};
use crate::encoding::{decode, encode};
use crate::{Envelope, Metadata, Outcome, PeerError, ProposeError, ReadError};

/// The leader is looked for again after this at first, and then after twice as long each time, though nothing seems to have
/// changed: what is told of a replica is a moment behind what it does, so that the one who led may be asked once too often
/// when leadership has just been handed over.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(100);

/// Why the leader did not answer in time.
pub(super) struct Unanswered {
    /// Whether what was asked may have been done, or be done yet.
    pub(super) may_be_done: bool,
    pub(super) why: String,
}

impl Group {
    /// Makes an entry out of a command: nothing comes into the log otherwise, so that it holds nothing that a member
    /// could not read.
    pub(super) fn entry(&self, envelope: &Envelope) -> Result<Bytes, ProposeError> {
        self.shared.levels.permit(&envelope.command, self.level())?;
        let entry = encode(envelope);
        if entry.len() > Metadata::MAX_COMMAND_BYTES {
            return Err(ProposeError::NotDone(format!("a command of {} bytes is too long", entry.len())));
        }
        Ok(entry.into())
    }

    /// Proposes a command and waits until it is applied by the leader and here.
    pub(crate) async fn write(&self, envelope: &Envelope, patience: Duration) -> Result<Outcome, ProposeError> {
        let proposal = self.entry(envelope)?;
        let deadline = Instant::now() + patience;
        let (index, outcome) = match self.ask_leader(Request::Propose(proposal), deadline).await {
            Ok(Reply::Propose(ProposeReply::Done { index, outcome })) => (index, outcome),
            Err(Unanswered { may_be_done: true, why }) => return Err(ProposeError::Unknown(why)),
            Ok(other) => return Err(ProposeError::Unknown(format!("the leader answered with {other:?}"))),
            Err(Unanswered { may_be_done: false, why }) => return Err(ProposeError::NotDone(why)),
        };
        // Whoever goes on here reads what it has changed.
        self.await_applied(index, deadline)
            .await
            .map_err(|why| ProposeError::Unknown(format!("the change was applied by the leader, but {why}")))?;
        decode(&outcome).map_err(|error| ProposeError::Unknown(format!("the outcome cannot be read: {error}")))
    }

    /// Waits until this replica has applied what the leader has committed by now.
    pub(super) async fn read_index(&self, patience: Duration) -> Result<(), ReadError> {
        let deadline = Instant::now() + patience;
        match self.ask_leader(Request::ReadIndex, deadline).await {
            Ok(Reply::ReadIndex(index)) => self.await_applied(index, deadline).await.map_err(ReadError::NoLeader),
            Ok(other) => Err(ReadError::NoLeader(format!("the leader answered with {other:?}"))),
            Err(Unanswered { why, .. }) => Err(ReadError::NoLeader(why)),
        }
    }

    /// Waits until every member that can be reached has applied what this replica has.
    pub(crate) async fn settle(&self, patience: Duration) {
        let index = self.status().applied_index;
        let others = self.members().into_iter().filter(|member| member.node != self.identity.node);
        let asked = others.map(async |member| {
            let request = Request::AwaitApplied(index);
            if let Err(error) = self.peers.ask(Some(member.node), &member.address, request, patience).await {
                tracing::debug!(node = member.node, %error, "a member may be behind for a while");
            }
        });
        futures_util::future::join_all(asked).await;
    }

    pub(super) async fn await_applied(&self, index: u64, deadline: Instant) -> Result<(), String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let applied = self.raft.wait(Some(left)).applied_index_at_least(Some(index), "read").await;
        applied.map(drop).map_err(|error| format!("this replica is behind: {error}"))
    }

    /// Asks the leader, and the next one if it is lost meanwhile or could not do it. Never returns [`Reply::NotLeader`],
    /// [`Reply::Failed`] or [`ProposeReply::Unknown`].
    pub(super) async fn ask_leader(&self, request: Request, deadline: Instant) -> Result<Reply, Unanswered> {
        let mut server = self.raft.server_metrics();
        let mut failed = Unanswered { may_be_done: false, why: "no leader is known".to_owned() };
        let (mut hint, mut pause) = (None, LOOK_AGAIN);
        loop {
            if let Err(fatal) = &self.raft.metrics().borrow_watched().running_state {
                failed.why = format!("this replica has stopped: {fatal}");
                return Err(failed);
            }
            server.borrow_and_update();
            if let Some(leader) = hint.take().or_else(|| self.leader()) {
                match self.ask_at(&leader, request.clone(), deadline).await {
                    Ok(Reply::NotLeader(other)) => {
                        failed.why = format!("node {} does not lead", leader.node);
                        hint = other.filter(|other| *other != leader);
                    }
                    // Its entry may be gone with its term: the next leader knows by the id whether it has been applied.
                    Ok(Reply::Failed(why) | Reply::Propose(ProposeReply::Unknown(why))) => {
                        failed = Unanswered { may_be_done: true, why };
                    }
                    Ok(reply) => return Ok(reply),
                    Err(PeerError::NotSent(why)) => failed.why = format!("the leader was not reached: {why}"),
                    Err(PeerError::Unknown(why)) => failed = Unanswered { may_be_done: true, why },
                }
            }
            if Instant::now() >= deadline {
                return Err(failed);
            }
            if hint.is_none() {
                let again = deadline.min(Instant::now() + pause);
                pause = LOOK_AGAIN_MAX.min(2 * pause);
                // Either way it is time to look again.
                drop(timeout_at(again, server.changed()).await);
            }
        }
    }

    async fn ask_at(&self, leader: &LeaderHint, request: Request, deadline: Instant) -> Result<Reply, PeerError> {
        let asked = async {
            if leader.node == self.identity.node {
                return Ok(self.lead(request, deadline).await);
            }
            let patience = deadline.saturating_duration_since(Instant::now());
            match request {
                Request::Propose(proposal) => self.proposals.propose(&self.peers, leader, proposal, patience).await,
                request => self.peers.ask(Some(leader.node), &leader.address, request, patience).await,
            }
        };
        tokio::select! {
            biased;
            reply = asked => reply,
            () = self.loses(leader.node) => Err(PeerError::Unknown(format!("node {} was lost meanwhile", leader.node))),
            () = tokio::time::sleep_until(deadline) => Err(PeerError::Unknown("it took too long".to_owned())),
        }
    }

    /// The leader, as far as this replica knows.
    pub(super) fn leader(&self) -> Option<LeaderHint> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let node = metrics.current_leader?;
        let address = metrics.membership_config.membership().get_node(&node)?.addr.clone();
        Some(LeaderHint { node, address })
    }

    /// Waits until this replica knows another leader than `node`, which it knew, or none.
    async fn loses(&self, node: u64) {
        let mut server = self.raft.server_metrics();
        let mut known = false;
        loop {
            let leader = server.borrow_and_update().current_leader;
            known |= leader == Some(node);
            if (known && leader != Some(node)) || server.changed().await.is_err() {
                return;
            }
        }
    }

    /// Does what only the leader can; [`Reply::NotLeader`] if this replica is not it.
    pub(super) async fn lead(&self, request: Request, deadline: Instant) -> Reply {
        match request {
            Request::Propose(proposal) => self.commit(proposal, deadline).await,
            Request::ProposeAll(proposals) => {
                let committed = proposals.into_iter().map(|proposal| self.commit(proposal, deadline));
                Reply::ProposeAll(futures_util::future::join_all(committed).await)
            }
            Request::ReadIndex => self.confirm_reads().await,
            Request::Announce { volume, node, address, reads } => {
                let taken_in = timeout_at(deadline, self.take_in(volume, node, address, reads)).await;
                taken_in.unwrap_or_else(|_elapsed| Reply::Failed("it was not agreed in time".to_owned()))
            }
            Request::Change(change) => self.change(change).await,
            Request::Members => self.describe(),
            other => Reply::NotUnderstood(format!("{other:?} is not for a leader")),
        }
    }

    pub(super) async fn commit(&self, proposal: Bytes, deadline: Instant) -> Reply {
        let write = self.raft.client_write(Proposal(proposal));
        let unknown = |why: String| Reply::Propose(ProposeReply::Unknown(why));
        match timeout_at(deadline, write).await {
            Ok(Ok(written)) => match written.data {
                Some(outcome) => {
                    Reply::Propose(ProposeReply::Done { index: written.log_id.index, outcome: encode(&outcome).into() })
                }
                None => unknown("the entry has no outcome".to_owned()),
            },
            // Refused before it came into the log.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => not_leader(forward),
            Ok(Err(error)) => unknown(error.to_string()),
            Err(_elapsed) => unknown("it was not agreed in time".to_owned()),
        }
    }

    pub(super) async fn confirm_reads(&self) -> Reply {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Reply::ReadIndex(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => not_leader(forward),
            Err(error) => Reply::Failed(error.to_string()),
        }
    }
}

/// The answer of a replica that does not lead.
pub(super) fn not_leader(forward: ForwardToLeader<Types>) -> Reply {
    let hint = forward.leader_id.zip(forward.leader_node);
    Reply::NotLeader(hint.map(|(node, at)| LeaderHint { node, address: at.addr }))
}

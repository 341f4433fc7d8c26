//! Answering what other replicas ask.

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use tokio::time::Instant;

use super::config::{LogId, SnapshotMeta, Types};
use super::group::Group;
use super::messages::{
    self, AppendReply, AppendRequest, Message, Reply, Request, SnapshotPiece, SnapshotReply, TransferRefusal, VoteReply,
};
use super::peers::Snapshot;
use super::receive_snapshot::Received;
use super::records::{AppliedRecord, VoteRecord};
use super::rests::REST_MAX;
use crate::encoding::{decode, encode};
use crate::state::Export;
use crate::{Level, Metadata};

/// A replica that lacks so many entries has not caught up yet.
const FAR_BEHIND: u64 = 1_000;

/// What a fatal error of this replica says to others.
fn failed(error: impl std::fmt::Display) -> Reply {
    Reply::Failed(error.to_string())
}

impl Group {
    /// Answers a message of another replica.
    pub(crate) async fn answer(&self, message: &Bytes) -> Bytes {
        let reply = match decode::<Message>(message) {
            Ok(message) => self.reply(message).await,
            Err(error) => Reply::NotUnderstood(error.to_string()),
        };
        encode(&reply).into()
    }

    async fn reply(&self, message: Message) -> Reply {
        let me = self.identity;
        let Message { cluster, to, request } = message;
        if cluster.is_some_and(|cluster| cluster != me.cluster) {
            return Reply::NotForMe("this replica belongs to another cluster".to_owned());
        }
        if to.is_some_and(|to| to != me.node) {
            return Reply::NotForMe(format!("node {} listens here", me.node));
        }
        let request = match request {
            Request::Join { volume, node, address } => Request::Announce { volume, node, address, reads: Level::FIRST },
            request => request,
        };
        match request {
            // Nothing but to be taken in may be asked by whoever is not in the cluster.
            Request::Announce { node, ref address, .. } => {
                if let Some(node) = node {
                    self.peers.note(node, address);
                }
                self.lead(request, Instant::now() + Metadata::WRITE_DEADLINE).await
            }
            _ if cluster.is_none() => Reply::NotForMe("this replica is in a cluster already".to_owned()),
            Request::Append(request) => self.append(request).await,
            Request::Vote(request) => match self.raft.vote(request.into()).await {
                Ok(response) => Reply::Vote(response.into()),
                Err(error) => failed(error),
            },
            Request::PreVote(request) => match self.raft.pre_vote(request.into()).await {
                Ok(response) => Reply::Vote(response.into()),
                Err(error) => failed(error),
            },
            Request::TransferLeader { from, to, last } => {
                let request = TransferLeaderRequest::new(from.into(), to, last.map(Into::into));
                match self.raft.handle_transfer_leader(request).await {
                    Ok(result) => Reply::TransferLeader(result.map_err(Into::into)),
                    Err(error) => failed(error),
                }
            }
            Request::Snapshot(piece) => self.take_snapshot(piece).await,
            Request::AwaitApplied(index) => {
                match self.await_applied(index, Instant::now() + Metadata::SETTLE_DEADLINE).await {
                    Ok(()) => Reply::Applied,
                    Err(why) => Reply::Failed(why),
                }
            }
            Request::Propose(_)
            | Request::ProposeAll(_)
            | Request::ReadIndex
            | Request::Change(_)
            | Request::Members
            | Request::Join { .. } => self.lead(request, Instant::now() + Metadata::WRITE_DEADLINE).await,
        }
    }

    async fn append(&self, request: AppendRequest) -> Reply {
        let (begun, is_large) = (Instant::now(), request.is_large());
        let entries: Result<Vec<_>, _> = request.entries.into_iter().map(super::records::EntryRecord::entry).collect();
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return Reply::NotUnderstood(error),
        };
        let committed = request.committed.map(LogId::from).map_or(0, |committed| committed.index);
        let last = entries.last().map(|last| last.log_id.index);
        let behind = last.filter(|last| is_large && last + FAR_BEHIND < committed);
        let request = AppendEntriesRequest {
            vote: request.vote.into(),
            prev_log_id: request.previous.map(Into::into),
            entries,
            leader_commit: request.committed.map(Into::into),
        };
        let reply = match self.raft.append_entries(request).await {
            Ok(AppendEntriesResponse::Success) => AppendReply::Success,
            Ok(AppendEntriesResponse::PartialSuccess(id)) => AppendReply::PartialSuccess(id.map(Into::into)),
            Ok(AppendEntriesResponse::Conflict) => AppendReply::Conflict,
            Ok(AppendEntriesResponse::HigherVote(vote)) => AppendReply::HigherVote(vote.into()),
            Err(error) => return failed(error),
        };
        if !matches!(reply, AppendReply::HigherVote(_)) {
            self.contact.touch(Instant::now());
        }
        if let Some(last) = behind.filter(|_| !self.is_voter()) {
            // Applying it is most of the work. What does not come to that is no reason to fail.
            let _ = self.await_applied(last, Instant::now() + REST_MAX).await;
            self.rests.rest_after(begun).await;
        }
        Reply::Append(reply)
    }

    async fn take_snapshot(&self, piece: SnapshotPiece) -> Reply {
        // Installed, and its sender has not heard; or the log has brought as much meanwhile.
        if self.has_applied(&piece.state) {
            return Reply::Snapshot(SnapshotReply::Done(self.vote()));
        }
        let (vote, state) = (piece.vote, piece.state.clone());
        let begun = Instant::now();
        match self.snapshots.receive(piece).await {
            Ok(Received::Continue(offset)) => {
                if !self.is_voter() {
                    self.rests.rest_after(begun).await;
                }
                return Reply::Snapshot(SnapshotReply::Continue(offset));
            }
            Ok(Received::NotRead(why)) => return Reply::NotUnderstood(why),
            Ok(Received::Whole) => {}
            Err(error) => return failed(error),
        }
        // Whoever gave up before this leaves the rows to whoever asks again; after it, the core has them.
        let Some(rows) = self.snapshots.take_rows() else { return Reply::Snapshot(SnapshotReply::Installing) };
        let reply = self.install(vote, state, rows).await;
        self.snapshots.forget_whole();
        reply
    }

    async fn install(&self, vote: VoteRecord, state: AppliedRecord, rows: Export) -> Reply {
        // Of these rows nothing may come into the state of a build that does not read them.
        match rows.level().map(|level| self.shared.levels.check(level)) {
            Ok(Ok(())) => {}
            Ok(Err(later)) => return Reply::NotUnderstood(later.to_string()),
            Err(error) => return failed(error),
        }
        let last_log_id = state.applied.map(Into::into);
        let meta = match state.membership() {
            Ok(last_membership) => SnapshotMeta { last_log_id, last_membership },
            Err(error) => return Reply::NotUnderstood(error),
        };
        match self.raft.install_full_snapshot(vote.into(), Snapshot { meta, snapshot: rows }).await {
            Ok(response) => Reply::Snapshot(SnapshotReply::Done(response.vote.into())),
            Err(error) => failed(error),
        }
    }

    fn has_applied(&self, state: &AppliedRecord) -> bool {
        let metrics = self.raft.metrics();
        let applied = metrics.borrow_watched().last_applied;
        applied.map(|id| id.index) >= state.applied.map(|id| LogId::from(id).index)
    }

    fn vote(&self) -> VoteRecord {
        self.raft.metrics().borrow_watched().vote.into()
    }
}

impl From<messages::VoteRequest> for VoteRequest<Types> {
    fn from(record: messages::VoteRequest) -> Self {
        let mut request = Self::new(record.vote.into(), record.last.map(Into::into));
        request.leadership_transfer = record.is_transfer;
        request
    }
}

impl From<openraft::raft::VoteResponse<Types>> for VoteReply {
    fn from(response: openraft::raft::VoteResponse<Types>) -> Self {
        Self { vote: response.vote.into(), granted: response.vote_granted, last: response.last_log_id.map(Into::into) }
    }
}

impl From<TransferLeaderError<Types>> for TransferRefusal {
    fn from(error: TransferLeaderError<Types>) -> Self {
        match error {
            TransferLeaderError::VoteChanged { expected, actual } => {
                Self::VoteChanged { expected: expected.into(), actual: actual.into() }
            }
            TransferLeaderError::LogNotFlushed { expected, actual } => {
                Self::LogNotFlushed { expected: expected.map(Into::into), actual: actual.map(Into::into) }
            }
        }
    }
}

impl From<TransferRefusal> for TransferLeaderError<Types> {
    fn from(refusal: TransferRefusal) -> Self {
        match refusal {
            TransferRefusal::VoteChanged { expected, actual } => {
                Self::VoteChanged { expected: expected.into(), actual: actual.into() }
            }
            TransferRefusal::LogNotFlushed { expected, actual } => {
                Self::LogNotFlushed { expected: expected.map(Into::into), actual: actual.map(Into::into) }
            }
        }
    }
}

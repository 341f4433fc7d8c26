//! What openraft asks of the network, said in messages.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use parking_lot::Mutex;

use super::config::{Types, Vote};
use super::messages::{self, AppendReply, AppendRequest, Message, Reply, Request, TransferRefusal};
use super::send_snapshot::send_snapshot;
use crate::disk::Disk;
use crate::encoding::{decode, encode};
use crate::state::Export;
use crate::{ClusterId, PeerError, PeerTransport};

pub(super) type Snapshot = openraft::alias::SnapshotOf<Types, Export>;

/// How much longer a message that takes its time to arrive, to be written and rested after is waited for: four megabytes
/// take a second at 32 Mb/s.
const LARGE_PATIENCE: Duration = Duration::from_secs(1);

/// The ways to the other members. A group of one has no transport, and nobody to reach.
#[derive(Clone)]
pub(super) struct Peers {
    disk: Arc<dyn Disk>,
    pub(super) cluster: ClusterId,
    pub(super) transport: Option<Arc<dyn PeerTransport>>,
    /// Where members said that they are, since they started. The membership says the same once the group has agreed on
    /// it; but where a majority has moved, it could not agree without this.
    moved: Arc<Mutex<BTreeMap<u64, String>>>,
}

impl Peers {
    pub(super) fn new(disk: Arc<dyn Disk>, cluster: ClusterId, transport: Option<Arc<dyn PeerTransport>>) -> Self {
        Self { disk, cluster, transport, moved: Arc::default() }
    }

    /// Notes where a member is.
    pub(super) fn note(&self, node: u64, address: &str) {
        self.moved.lock().insert(node, address.to_owned());
    }

    /// [`exchange`](Self::exchange), for whom a refusal of the message is as if it had not been sent.
    pub(super) async fn ask(
        &self,
        to: Option<u64>,
        address: &str,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, PeerError> {
        self.exchange(to, address, request, patience).await?.taken()
    }

    /// Asks whoever listens at `address`; or only node `to`, there or where it has said that it is.
    pub(super) async fn exchange(
        &self,
        to: Option<u64>,
        address: &str,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, PeerError> {
        let Some(transport) = &self.transport else {
            return Err(PeerError::NotSent("this is a group of one, which has no way to reach others".to_owned()));
        };
        let moved = to.and_then(|node| self.moved.lock().get(&node).cloned());
        let address = moved.as_deref().unwrap_or(address);
        let message = encode(&Message { cluster: Some(self.cluster), to, request });
        let reply = transport.call(address, message.into(), patience).await?;
        decode_reply(&reply)
    }
}

/// Reads a reply.
pub(super) fn decode_reply(reply: &Bytes) -> Result<Reply, PeerError> {
    decode(reply).map_err(|error| PeerError::Unknown(format!("the answer cannot be read: {error}")))
}

impl Reply {
    /// The reply, unless the message was refused: it was in vain, or may have been.
    pub(super) fn taken(self) -> Result<Self, PeerError> {
        match self {
            Self::NotUnderstood(why) | Self::NotForMe(why) => Err(PeerError::NotSent(why)),
            Self::Failed(why) => Err(PeerError::Unknown(why)),
            reply => Ok(reply),
        }
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer { peers: self.clone(), node: target, address: node.addr.clone() }
    }
}

/// The way to one member.
pub(super) struct Peer {
    peers: Peers,
    node: u64,
    address: String,
}

impl Peer {
    pub(super) async fn ask(&self, request: Request, patience: Duration) -> Result<Reply, RPCError<Types>> {
        match self.peers.ask(Some(self.node), &self.address, request, patience).await {
            Ok(reply) => Ok(reply),
            Err(PeerError::NotSent(why)) => Err(Unreachable::from_string(self.name(&why)).into()),
            Err(PeerError::Unknown(why)) => Err(NetworkError::from_string(self.name(&why)).into()),
        }
    }

    /// Where what is sent to it is read.
    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.peers.disk
    }

    /// An answer to another question.
    pub(super) fn astray(&self, reply: &Reply) -> RPCError<Types> {
        NetworkError::from_string(self.name(&format!("answered with {reply:?}"))).into()
    }

    fn name(&self, what: &str) -> String {
        format!("node {} at {}: {what}", self.node, self.address)
    }

    async fn ask_for_vote(
        &self,
        request: impl FnOnce(messages::VoteRequest) -> Request,
        asked: VoteRequest<Types>,
        patience: Duration,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let VoteRequest { vote, last_log_id, leadership_transfer } = asked;
        let record = messages::VoteRequest {
            vote: vote.into(),
            last: last_log_id.map(Into::into),
            is_transfer: leadership_transfer,
        };
        match self.ask(request(record), patience).await? {
            Reply::Vote(reply) => {
                Ok(VoteResponse::new(Vote::from(reply.vote), reply.last.map(Into::into), reply.granted))
            }
            other => Err(self.astray(&other)),
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Export;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let request = AppendRequest {
            vote: request.vote.into(),
            previous: request.prev_log_id.map(Into::into),
            entries: request.entries.iter().map(Into::into).collect(),
            committed: request.leader_commit.map(Into::into),
        };
        let patience = option.soft_ttl() + if request.is_large() { LARGE_PATIENCE } else { Duration::ZERO };
        match self.ask(Request::Append(request), patience).await? {
            Reply::Append(reply) => Ok(match reply {
                AppendReply::Success => AppendEntriesResponse::Success,
                AppendReply::PartialSuccess(id) => AppendEntriesResponse::PartialSuccess(id.map(Into::into)),
                AppendReply::Conflict => AppendEntriesResponse::Conflict,
                AppendReply::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
            }),
            other => Err(self.astray(&other)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(Request::Vote, request, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(Request::PreVote, request, option.soft_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            sent = tokio::time::timeout(option.soft_ttl(), send_snapshot(self, vote, snapshot)) => match sent {
                Ok(sent) => sent,
                Err(_elapsed) => Err(NetworkError::from_string(self.name("the snapshot took too long")).into()),
            },
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = Request::TransferLeader {
            from: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(Into::into),
        };
        match self.ask(request, option.soft_ttl()).await? {
            Reply::TransferLeader(reply) => Ok(reply.map_err(TransferRefusal::into)),
            other => Err(self.astray(&other)),
        }
    }
}

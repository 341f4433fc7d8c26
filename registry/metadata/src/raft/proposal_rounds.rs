//! Bringing proposals to a leader that is elsewhere: those that come while some are under way go together.
//!
//! A message costs either side more than a proposal in it does, so that a follower that many clients write through would
//! else spend most of its time, and of the leader's, on messages. Whoever comes when little is under way is sent at once
//! and alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared, join_all};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::messages::{LeaderHint, Reply, Request};
use super::peers::Peers;
use crate::PeerError;

/// Rounds under way at once: what comes meanwhile waits for less than an answer takes.
const UNDER_WAY: usize = 2;

/// Proposals of one round at most.
const MAX_PROPOSALS: usize = 64;

/// A round that has so many bytes takes no further proposal. The largest proposal on top of it is far from the longest
/// message.
const FULL_BYTES: usize = 1 << 20;

/// The proposals that wait for their round, and the turns of the rounds.
pub(super) struct ProposalRounds {
    /// The round that has not begun.
    next: Arc<Mutex<Option<Round>>>,
    turns: Arc<Semaphore>,
}

impl Default for ProposalRounds {
    fn default() -> Self {
        Self { next: Arc::default(), turns: Arc::new(Semaphore::new(UNDER_WAY)) }
    }
}

/// What a round is answered, by position.
type Answers = Shared<Answering>;
type Answering = BoxFuture<'static, Arc<[Answer]>>;

/// What came of sending a proposal.
type Answer = Result<Reply, PeerError>;

struct Round {
    leader: LeaderHint,
    proposals: Arc<Mutex<Proposals>>,
    /// Had by those who wait for it alone: with the last of them the round is gone, and what it was to bring is never
    /// sent. A leader that got it much later would apply what has long been done, and undone, since.
    answers: WeakShared<Answering>,
}

#[derive(Default)]
struct Proposals {
    entries: Vec<Bytes>,
    bytes: usize,
    /// Of the proposal that waits longest.
    patience: Duration,
}

impl Proposals {
    fn is_full(&self) -> bool {
        self.entries.len() >= MAX_PROPOSALS || self.bytes >= FULL_BYTES
    }

    /// Its position.
    fn add(&mut self, proposal: Bytes, patience: Duration) -> usize {
        self.bytes += proposal.len();
        self.patience = self.patience.max(patience);
        self.entries.push(proposal);
        self.entries.len() - 1
    }
}

impl ProposalRounds {
    /// Brings a proposal to `leader`, and its reply back. Whoever gives up waiting does not know what became of it.
    pub(super) async fn propose(
        &self,
        peers: &Peers,
        leader: &LeaderHint,
        proposal: Bytes,
        patience: Duration,
    ) -> Result<Reply, PeerError> {
        let (peers, to) = (peers.clone(), leader.clone());
        let (answers, position) = self
            .join(leader, proposal, patience, |proposals| async move { send(&peers, &to, proposals).await }.boxed());
        let missing = || PeerError::Unknown("the leader left a proposal without an answer".to_owned());
        answers.await.get(position).cloned().ok_or_else(missing)??.taken()
    }

    fn join(
        &self,
        leader: &LeaderHint,
        proposal: Bytes,
        patience: Duration,
        send: impl FnOnce(Proposals) -> BoxFuture<'static, Vec<Answer>> + Send + 'static,
    ) -> (Answers, usize) {
        let mut next = self.next.lock();
        // Another leader's round, or one that is full, is left to those who are in it.
        let joined = next.as_ref().filter(|round| round.leader == *leader).and_then(|round| {
            let answers = round.answers.upgrade()?;
            let mut proposals = round.proposals.lock();
            let room = !proposals.is_full();
            room.then(|| (answers, proposals.add(proposal.clone(), patience)))
        });
        joined.unwrap_or_else(|| {
            let (proposals, answers) = self.begin(send);
            let position = proposals.lock().add(proposal, patience);
            // It is not polled yet, so that it is not over.
            *next = answers.downgrade().map(|answers| Round { leader: leader.clone(), proposals, answers });
            (answers, position)
        })
    }

    fn begin(
        &self,
        send: impl FnOnce(Proposals) -> BoxFuture<'static, Vec<Answer>> + Send + 'static,
    ) -> (Arc<Mutex<Proposals>>, Answers) {
        let (next, turns) = (Arc::clone(&self.next), Arc::clone(&self.turns));
        let proposals: Arc<Mutex<Proposals>> = Arc::default();
        let gathered = Arc::clone(&proposals);
        let answers = async move {
            let _turn = turns.acquire().await;
            // Whoever comes from now on is in a later round.
            next.lock().take_if(|round| Arc::ptr_eq(&round.proposals, &gathered));
            let gathered = std::mem::take(&mut *gathered.lock());
            Arc::from(send(gathered).await)
        };
        (proposals, answers.boxed().shared())
    }
}

/// Sends a round: one proposal as every release reads it, more of them together.
async fn send(peers: &Peers, leader: &LeaderHint, proposals: Proposals) -> Vec<Answer> {
    let Proposals { entries, patience, .. } = proposals;
    let ask = async |request| peers.exchange(Some(leader.node), &leader.address, request, patience).await;
    if entries.len() > 1 {
        match ask(Request::ProposeAll(entries.clone())).await {
            Ok(Reply::ProposeAll(replies)) => return replies.into_iter().map(Ok).collect(),
            // A leader of a former release takes them one by one.
            Ok(Reply::NotUnderstood(_)) => {}
            answer => return vec![answer; entries.len()],
        }
    }
    join_all(entries.into_iter().map(|entry| ask(Request::Propose(entry)))).await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::poll;
    use tokio::sync::mpsc;

    use super::*;
    use crate::encoding::{decode, encode};
    use crate::raft::messages::{Message, ProposeReply};
    use crate::{ClusterId, LocalDisk, PeerTransport};

    const PATIENCE: Duration = Duration::from_secs(1);

    fn leader(node: u64) -> LeaderHint {
        LeaderHint { node, address: format!("node-{node}:5001") }
    }

    /// Joins a round whose members are told of here when it is sent, and which is answered with its positions.
    fn join(
        rounds: &ProposalRounds,
        node: u64,
        proposal: &'static [u8],
        sent: &mpsc::UnboundedSender<Vec<Bytes>>,
    ) -> (Answers, usize) {
        let sent = sent.clone();
        rounds.join(&leader(node), Bytes::from_static(proposal), PATIENCE, move |proposals| {
            let count = proposals.entries.len() as u64;
            sent.send(proposals.entries).unwrap();
            async move { (0..count).map(|position| Ok(Reply::ReadIndex(position))).collect() }.boxed()
        })
    }

    /// Takes every turn for as long as what it returns lives.
    fn occupy(rounds: &ProposalRounds) -> Vec<Answers> {
        let busy = |_| {
            let (answers, _) = rounds.join(&leader(1), Bytes::new(), PATIENCE, |_proposals| pending().boxed());
            assert!(answers.clone().now_or_never().is_none(), "it is under way");
            answers
        };
        (0..UNDER_WAY).map(busy).collect()
    }

    #[tokio::test]
    async fn what_comes_when_little_is_under_way_goes_at_once_and_alone() {
        let (rounds, (sent, mut told)) = (ProposalRounds::default(), mpsc::unbounded_channel());
        for proposal in [b"one", b"two"] {
            let (answers, position) = join(&rounds, 1, proposal, &sent);
            assert_eq!(answers.await[position], Ok(Reply::ReadIndex(0)));
            assert_eq!(told.recv().await.unwrap(), [Bytes::from_static(proposal)]);
        }
    }

    #[tokio::test]
    async fn what_comes_meanwhile_goes_together_and_each_gets_its_own_answer() {
        let (rounds, (sent, mut told)) = (ProposalRounds::default(), mpsc::unbounded_channel());
        let mut busy = occupy(&rounds);
        let mut waiting: Vec<_> = [b"one", b"two", b"six"].map(|proposal| join(&rounds, 1, proposal, &sent)).into();
        for (answers, _) in &mut waiting {
            assert!(poll!(answers).is_pending(), "it waits for its turn");
        }
        busy.pop();
        for (expected, (answers, position)) in waiting.into_iter().enumerate() {
            assert_eq!(answers.await[position], Ok(Reply::ReadIndex(expected as u64)));
        }
        assert_eq!(told.recv().await.unwrap(), ["one", "two", "six"].map(Bytes::from));
        assert!(told.is_empty());
    }

    #[tokio::test]
    async fn a_round_is_for_one_leader_and_takes_so_many_proposals() {
        let (rounds, (sent, mut told)) = (ProposalRounds::default(), mpsc::unbounded_channel());
        let busy = occupy(&rounds);
        let full: Vec<_> = (0..MAX_PROPOSALS).map(|_| join(&rounds, 1, b"former", &sent)).collect();
        let one_more = join(&rounds, 1, b"later", &sent);
        let other = join(&rounds, 2, b"other", &sent);
        drop(busy);
        for (answers, position) in full {
            assert_eq!(answers.await[position], Ok(Reply::ReadIndex(position as u64)));
        }
        assert_eq!(told.recv().await.unwrap().len(), MAX_PROPOSALS);
        for (answers, position) in [one_more, other] {
            assert_eq!((answers.await.len(), position), (1, 0));
        }
    }

    #[tokio::test]
    async fn what_everybody_gave_up_is_never_sent_and_holds_nobody_up() {
        let (rounds, (sent, mut told)) = (ProposalRounds::default(), mpsc::unbounded_channel());
        let busy = occupy(&rounds);
        let (mut given_up, _) = join(&rounds, 1, b"given up", &sent);
        assert!(poll!(&mut given_up).is_pending());
        drop((busy, given_up));
        for _ in 0..=UNDER_WAY {
            let (answers, position) = join(&rounds, 1, b"later", &sent);
            assert_eq!((answers.await.len(), position), (1, 0));
            assert_eq!(told.recv().await.unwrap(), [Bytes::from("later")]);
        }
    }

    /// A leader of a release that takes proposals one by one, and tells each back.
    struct Former;

    impl PeerTransport for Former {
        fn call<'a>(&'a self, _: &'a str, message: Bytes, _: Duration) -> BoxFuture<'a, Result<Bytes, PeerError>> {
            let reply = match decode::<Message>(&message).unwrap().request {
                Request::Propose(outcome) => Reply::Propose(ProposeReply::Done { index: 1, outcome }),
                other => Reply::NotUnderstood(format!("{other:?} is unknown")),
            };
            async move { Ok(encode(&reply).into()) }.boxed()
        }
    }

    #[tokio::test]
    async fn a_leader_of_a_former_release_takes_them_one_by_one() {
        let peers = Peers::new(Arc::new(LocalDisk), ClusterId(1), Some(Arc::new(Former)));
        let entries = ["one", "two"].map(Bytes::from);
        let proposals = Proposals { entries: entries.clone().into(), bytes: 6, patience: PATIENCE };
        let answers = send(&peers, &leader(1), proposals).await;
        let done = |outcome| Ok(Reply::Propose(ProposeReply::Done { index: 1, outcome }));
        assert_eq!(answers, entries.map(done));
    }
}

//! Messages between replicas: late, lost, refused, one way only, overtaking each other; each as the seed has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use roadstead_metadata::{Metadata, PeerError, PeerTransport};
use tokio::time::{Instant, sleep_until, timeout};

use super::process::Process;
use crate::bugs::Bugs;
use crate::random::Random;
use crate::trace::Trace;

/// A heartbeat is shorter, a message with an entry longer.
const HEARTBEAT_BYTES: usize = 80;

/// Where a message says what it is, and what it then says: `format | Some | cluster 7 | Some | node | kind`.
const KIND_AT: usize = 5;
const APPEND: u8 = 0;
const PROPOSE: u8 = 5;

/// The answer to a heartbeat that was taken: `format | Append | Success`.
const ACKNOWLEDGED: [u8; 3] = [1, 4, 0];

/// For so long who is out of reach seems to answer, for the bug: longer than an election takes, and not for so long that
/// the leader holds entries for replicated that nobody has.
const BELIEVED: Duration = Duration::from_secs(6);

/// The network of a world.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<Wires>>);

struct Wires {
    random: Random,
    trace: Trace,
    listeners: BTreeMap<String, Listener>,
    /// From whom to whom nothing comes through.
    cut: BTreeSet<(String, String)>,
    /// How many messages of a thousand are lost.
    lost: usize,
    latest: Duration,
    bugs: Bugs,
    /// What was answered last to a heartbeat from one to another: for the bug.
    heard: BTreeMap<(String, String), (Instant, Bytes)>,
    /// Proposals of which it is not known whether they were heard: for the bug.
    proposed: BTreeSet<Bytes>,
}

#[derive(Clone)]
struct Listener {
    process: Arc<Process>,
    metadata: Metadata,
}

/// What chance has in store for one call.
struct Fate {
    listener: Option<Listener>,
    there: Passage,
    back: Passage,
    claimed: Option<Bytes>,
}

/// How a message fares on its way.
#[derive(Clone, Copy)]
pub(super) enum Passage {
    Arrives(Duration),
    /// The sender notices that it does not.
    Breaks(Duration),
    Vanishes,
}

impl Passage {
    pub(super) fn draw(random: &mut Random, lost: bool, latest: Duration) -> Self {
        let (time, is_noticed) = (random.time(Duration::from_micros(200), latest), random.chance(2));
        match (lost, is_noticed) {
            (false, _) => Self::Arrives(time),
            (true, true) => Self::Breaks(time),
            (true, false) => Self::Vanishes,
        }
    }

    /// Takes its time; whether the message is there then.
    pub(super) async fn pass(self) -> bool {
        match self {
            Self::Arrives(time) => pause(time).await,
            Self::Breaks(time) => {
                pause(time).await;
                return false;
            }
            Self::Vanishes => return std::future::pending().await,
        }
        true
    }
}

impl Network {
    pub(crate) fn new(random: Random, trace: Trace, bugs: Bugs) -> Self {
        Self(Arc::new(Mutex::new(Wires {
            random,
            trace,
            listeners: BTreeMap::new(),
            cut: BTreeSet::new(),
            lost: 0,
            latest: Duration::from_millis(4),
            bugs,
            heard: BTreeMap::new(),
            proposed: BTreeSet::new(),
        })))
    }

    /// Lets a process answer at an address; it takes the place of whoever did.
    pub(crate) fn listen(&self, address: &str, process: Arc<Process>, metadata: Metadata) {
        self.0.lock().listeners.insert(address.to_owned(), Listener { process, metadata });
    }

    /// Nobody answers at an address any more.
    pub(crate) fn leave(&self, address: &str) {
        self.0.lock().listeners.remove(address);
    }

    /// Lets nothing through from one to another.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.0.lock().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// How many of a thousand messages are lost, and how late the latest is.
    pub(crate) fn disturb(&self, lost: usize, latest: Duration) {
        let mut wires = self.0.lock();
        wires.lost = lost;
        wires.latest = latest;
    }

    /// Everything comes through again.
    pub(crate) fn heal(&self) {
        let mut wires = self.0.lock();
        wires.cut.clear();
        wires.lost = 0;
        wires.latest = Duration::from_millis(4);
    }

    /// Takes a message from one to another, of which nobody but these two knows what it says; `None` if it does not arrive.
    pub(super) async fn reach(&self, from: &str, to: &str) -> Option<()> {
        let passage = {
            let mut wires = self.0.lock();
            let cut = wires.cut.contains(&(from.to_owned(), to.to_owned()));
            let (lost, latest) = (wires.lost, wires.latest);
            let is_lost = cut || wires.random.permille(lost);
            Passage::draw(&mut wires.random, is_lost, latest)
        };
        passage.pass().await.then_some(())
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.0.lock().cut.contains(&(from.to_owned(), to.to_owned()))
    }

    fn fate(&self, from: &str, to: &str, message: &Bytes) -> Fate {
        let mut wires = self.0.lock();
        let cut = wires.cut.contains(&(from.to_owned(), to.to_owned()));
        let (lost, latest) = (wires.lost, wires.latest);
        let random = &mut wires.random;
        let is_lost = cut || random.permille(lost);
        let there = Passage::draw(random, is_lost, latest);
        let answer_is_lost = random.permille(lost);
        let back = Passage::draw(random, answer_is_lost, latest);
        let is_absent = wires.bugs.answers_for_the_absent && is_lost && is_heartbeat(message);
        let heard = wires.heard.get(&(from.to_owned(), to.to_owned())).filter(|_| is_absent);
        let claimed = heard.filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, answer)| answer.clone());
        let listener = wires.listeners.get(to).filter(|listener| !listener.process.is_dead()).cloned();
        Fate { listener, there, back, claimed }
    }

    /// The bug: gives a proposal that may have been heard before another id. What it was is returned.
    fn forget(&self, message: Bytes) -> (Bytes, Option<Bytes>) {
        let wires = self.0.lock();
        let Some(start) = envelope(&message).filter(|_| wires.bugs.forgets_proposals) else { return (message, None) };
        let proposal = message.slice(start..);
        if !wires.proposed.contains(&proposal) {
            return (message, Some(proposal));
        }
        let mut other = message.to_vec();
        other[start + 1] ^= 1; // behind the format, the id begins
        (other.into(), Some(proposal))
    }

    fn note(&self, from: &str, to: &str, what: &str, bytes: &Bytes) {
        let sum = crc32fast::hash(bytes);
        self.0.lock().trace.note(format_args!("{what} of {} bytes, {sum:08x}, from {from} for {to}", bytes.len()));
    }

    async fn call(&self, from: &Process, to: &str, message: Bytes) -> Result<Bytes, PeerError> {
        let gone = |_| PeerError::NotSent("this process is dead".to_owned());
        from.pass().await.map_err(gone)?;
        let fate = self.fate(&from.name, to, &message);
        if let Some(claimed) = fate.claimed {
            return Ok(claimed);
        }
        let Some(Listener { process, metadata }) = fate.listener else {
            pause(Duration::from_millis(1)).await;
            return Err(PeerError::NotSent(format!("nobody listens at {to}")));
        };
        if !fate.there.pass().await {
            return Err(PeerError::NotSent(format!("no way to {to}")));
        }
        let broken = |_| PeerError::Unknown(format!("the connection to {to} broke"));
        process.pass().await.map_err(broken)?;
        self.note(&from.name, to, "a message", &message);
        let answer = process.unless_dead(metadata.answer(&message)).await.map_err(broken)?;
        process.pass().await.map_err(broken)?;
        if self.is_cut(to, &from.name) {
            return std::future::pending().await;
        }
        if !fate.back.pass().await {
            return Err(PeerError::Unknown(format!("the connection to {to} broke")));
        }
        from.pass().await.map_err(|_| PeerError::Unknown("this process is dead".to_owned()))?;
        self.note(to, &from.name, "an answer", &answer);
        if is_heartbeat(&message) && answer[..] == ACKNOWLEDGED {
            self.0.lock().heard.insert((from.name.clone(), to.to_owned()), (Instant::now(), answer.clone()));
        }
        Ok(answer)
    }
}

fn is_heartbeat(message: &Bytes) -> bool {
    message.get(KIND_AT) == Some(&APPEND) && message.len() < HEARTBEAT_BYTES
}

/// Where the envelope of a proposal begins: behind its length, at the end of the message.
fn envelope(message: &Bytes) -> Option<usize> {
    if message.get(KIND_AT) != Some(&PROPOSE) {
        return None;
    }
    let length = &message[KIND_AT + 1..];
    let bytes = 1 + length.iter().position(|byte| byte & 0x80 == 0)?;
    Some(KIND_AT + 1 + bytes)
}

/// Time passes for a message.
pub(crate) async fn pause(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

/// One replica's end of the network.
pub(crate) struct Wire {
    pub(crate) network: Network,
    pub(crate) process: Arc<Process>,
}

impl PeerTransport for Wire {
    fn call<'a>(
        &'a self,
        address: &'a str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        async move {
            let (message, proposal) = self.network.forget(message);
            let answer = timeout(patience, self.network.call(&self.process, address, message)).await;
            let answer =
                answer.unwrap_or_else(|_elapsed| Err(PeerError::Unknown(format!("no answer from {address} in time"))));
            if let (Err(PeerError::Unknown(_)), Some(proposal)) = (&answer, proposal) {
                self.network.0.lock().proposed.insert(proposal);
            }
            answer
        }
        .boxed()
    }
}

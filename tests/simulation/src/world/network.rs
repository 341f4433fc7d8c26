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
    heard: BTreeMap<(String, String), Bytes>,
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
    arrives: bool,
    refused: bool,
    there: Duration,
    back: Duration,
    answer_arrives: bool,
    /// Whether the sender notices that the answer is lost.
    breaks: bool,
    claimed: Option<Bytes>,
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

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.0.lock().cut.contains(&(from.to_owned(), to.to_owned()))
    }

    fn fate(&self, from: &str, to: &str, message: &Bytes) -> Fate {
        let mut wires = self.0.lock();
        let cut = wires.cut.contains(&(from.to_owned(), to.to_owned()));
        let (lost, latest) = (wires.lost, wires.latest);
        let random = &mut wires.random;
        let arrives = !random.permille(lost) && !cut;
        let (refused, answer_arrives, breaks) = (random.chance(2), !random.permille(lost), random.chance(2));
        let [there, back] = [(); 2].map(|()| random.time(Duration::from_micros(200), latest));
        let absent = wires.bugs.answers_for_the_absent && !arrives && is_heartbeat(message);
        let claimed = wires.heard.get(&(from.to_owned(), to.to_owned())).filter(|_| absent).cloned();
        let listener = wires.listeners.get(to).filter(|listener| !listener.process.is_dead()).cloned();
        Fate { listener, arrives, refused, there, back, answer_arrives, breaks, claimed }
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
            pause(fate.there).await;
            return Err(PeerError::NotSent(format!("nobody listens at {to}")));
        };
        if !fate.arrives {
            if fate.refused {
                pause(fate.there).await;
                return Err(PeerError::NotSent(format!("no way to {to}")));
            }
            return std::future::pending().await;
        }
        pause(fate.there).await;
        let broken = |_| PeerError::Unknown(format!("the connection to {to} broke"));
        process.pass().await.map_err(broken)?;
        self.note(&from.name, to, "a message", &message);
        let answer = process.unless_dead(metadata.answer(&message)).await.map_err(broken)?;
        process.pass().await.map_err(broken)?;
        let is_lost = !fate.answer_arrives || self.is_cut(to, &from.name);
        if is_lost && !fate.breaks {
            return std::future::pending().await;
        }
        pause(fate.back).await;
        if is_lost {
            return Err(PeerError::Unknown(format!("the connection to {to} broke")));
        }
        from.pass().await.map_err(|_| PeerError::Unknown("this process is dead".to_owned()))?;
        self.note(to, &from.name, "an answer", &answer);
        if is_heartbeat(&message) {
            self.0.lock().heard.insert((from.name.clone(), to.to_owned()), answer.clone());
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
            let answer = answer.unwrap_or_else(|_elapsed| {
                Err(PeerError::Unknown(format!("no answer from {address} in time")))
            });
            if let (Err(PeerError::Unknown(_)), Some(proposal)) = (&answer, proposal) {
                self.network.0.lock().proposed.insert(proposal);
            }
            answer
        }
        .boxed()
    }
}

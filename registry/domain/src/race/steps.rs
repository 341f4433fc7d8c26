//! Who goes on next is drawn from a seed: every task waits before each proposal, and before or after each call of the
//! store, until it is let go on; then all others wait.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use roadstead_blobs::{Fault, Gate, Moment};
use tokio::sync::{Notify, oneshot};

thread_local! {
    /// Of the world that runs on this thread; a world without steps just runs.
    static STEPS: RefCell<Option<Arc<Steps>>> = const { RefCell::new(None) };
}

/// A task that was let go on has come to its next step when the runtime has been round so often without one: it takes
/// a wake of two or three tasks after each other.
const QUIET_ROUNDS: u32 = 12;

pub(crate) struct Steps {
    state: Mutex<State>,
    idle: Notify,
}

struct State {
    random: Random,
    waiting: Vec<Waiting>,
    /// Proposals and read indexes under way.
    busy: usize,
    /// Grows whenever something happens.
    events: u64,
}

enum Waiting {
    Step(oneshot::Sender<()>),
    Store(Gate),
}

/// The metadata works for somebody, in threads of its own.
pub(crate) struct Busy(Arc<Steps>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.busy -= 1;
        state.events += 1;
        self.0.idle.notify_one();
    }
}

/// Waits for its turn to propose something.
pub(crate) async fn step() -> Option<Busy> {
    let steps = current()?;
    let (go, turn) = oneshot::channel();
    steps.wait(Waiting::Step(go));
    let _ended = turn.await;
    Some(steps.busy())
}

/// Says that the metadata is asked for something that changes nothing.
pub(crate) fn busy() -> Option<Busy> {
    Some(current()?.busy())
}

/// Lets a call of the store wait for its turn, before or after its effect.
pub(crate) fn store_step() -> Option<Fault> {
    let steps = current()?;
    let gate = Gate::default();
    steps.wait(Waiting::Store(gate.clone()));
    let moment = if steps.draw(|random| random.chance(2)) { Moment::Before } else { Moment::After };
    Some(Fault::Hang(moment, gate))
}

fn current() -> Option<Arc<Steps>> {
    STEPS.with_borrow(Clone::clone)
}

impl Steps {
    /// Steps for the world on this thread, until [`Self::end`].
    pub(super) fn begin(seed: u64) -> Arc<Self> {
        let state = State { random: Random::new(seed), waiting: Vec::new(), busy: 0, events: 0 };
        let steps = Arc::new(Self { state: Mutex::new(state), idle: Notify::new() });
        STEPS.set(Some(Arc::clone(&steps)));
        steps
    }

    pub(super) fn end() {
        STEPS.set(None);
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state.lock().random)
    }

    /// Waits until every task waits, for its turn or for another task.
    pub(super) async fn settle(&self) {
        let mut quiet = 0;
        let mut seen = 0;
        while quiet < QUIET_ROUNDS {
            let (busy, events) = {
                let state = self.state.lock();
                (state.busy, state.events)
            };
            if busy > 0 {
                self.idle.notified().await;
            } else {
                tokio::task::yield_now().await;
            }
            quiet = if busy == 0 && events == mem::replace(&mut seen, events) { quiet + 1 } else { 0 };
        }
    }

    /// Lets one of those that wait go on; `false` if nobody waits.
    pub(super) fn advance(&self) -> bool {
        let chosen = {
            let mut state = self.state.lock();
            state.waiting.retain(|waiting| !matches!(waiting, Waiting::Step(go) if go.is_closed()));
            if state.waiting.is_empty() {
                return false;
            }
            let (count, events) = (state.waiting.len(), state.events + 1);
            state.events = events;
            let chosen = state.random.below(count);
            state.waiting.swap_remove(chosen)
        };
        match chosen {
            Waiting::Step(go) => drop(go.send(())),
            Waiting::Store(gate) => gate.open(),
        }
        true
    }

    fn wait(&self, waiting: Waiting) {
        let mut state = self.state.lock();
        state.waiting.push(waiting);
        state.events += 1;
    }

    fn busy(self: &Arc<Self>) -> Busy {
        self.state.lock().busy += 1;
        Busy(Arc::clone(self))
    }
}

/// `SplitMix64`: the same numbers on every machine.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// `true` once in `of` draws.
    pub(super) fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

//! One run of a replica: alive, stalled, or dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A process. Everything by which it touches the world asks here first, so that a dead one touches nothing, and a stalled
/// one (as by SIGSTOP) nothing until it goes on.
///
/// Its tasks cannot be taken away from openraft's core; what is left of a dead process runs out against a disk, a network
/// and a bucket that fail.
pub(crate) struct Process {
    pub(crate) name: String,
    dead: CancellationToken,
    stalled_until: Mutex<Option<Instant>>,
    stalls: AtomicU64,
    stopping: AtomicBool,
}

/// The process is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead;

impl Process {
    pub(crate) fn start(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            dead: CancellationToken::new(),
            stalled_until: Mutex::default(),
            stalls: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    pub(crate) fn kill(&self) {
        self.dead.cancel();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// It has been told to stop.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether nobody expects it to go on.
    pub(crate) fn is_ending(&self) -> bool {
        self.stopping.load(Ordering::Relaxed) || self.is_dead()
    }

    /// Waits until it is dead.
    pub(crate) async fn death(&self) {
        self.dead.cancelled().await;
    }

    /// Stalls it.
    pub(crate) fn stall(&self, time: Duration) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
        *self.stalled_until.lock() = Some(Instant::now() + time);
    }

    /// How often it was stalled so far.
    pub(crate) fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Ends a stall.
    pub(crate) fn resume(&self) {
        *self.stalled_until.lock() = None;
    }

    /// How long it does nothing from now on.
    pub(crate) fn rest(&self) -> Duration {
        let until = *self.stalled_until.lock();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Waits while it is stalled.
    pub(crate) async fn pass(&self) -> Result<(), Dead> {
        loop {
            if self.is_dead() {
                return Err(Dead);
            }
            let Some(until) = *self.stalled_until.lock() else { return Ok(()) };
            if until <= Instant::now() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.death() => return Err(Dead),
                () = sleep_until(until) => {}
            }
        }
    }

    /// Does something that ends at once if the process dies.
    pub(crate) async fn unless_dead<T>(&self, work: impl Future<Output = T>) -> Result<T, Dead> {
        tokio::select! {
            biased;
            () = self.death() => Err(Dead),
            done = work => Ok(done),
        }
    }
}

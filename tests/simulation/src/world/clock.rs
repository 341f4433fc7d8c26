//! What time it is: the truth, and what each replica takes for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roadstead_domain::Clock;
use tokio::time::Instant;

/// When every world begins, by a right clock.
const BEGINNING: Duration = Duration::from_secs(1_700_000_000);

/// The time that has really passed: the runtime's, and what is left out of it since hours in which nothing happens are
/// of interest only to leases and graces.
pub(crate) struct Time {
    began: Instant,
    left_out: AtomicU64,
}

impl Time {
    pub(crate) fn begin() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), left_out: AtomicU64::new(0) })
    }

    /// Since the world began.
    pub(crate) fn passed(&self) -> Duration {
        self.began.elapsed() + Duration::from_millis(self.left_out.load(Ordering::Relaxed))
    }

    /// Since an earlier moment of that time.
    pub(crate) fn since(&self, earlier: Duration) -> Duration {
        self.passed().saturating_sub(earlier)
    }

    /// Lets time pass at once.
    pub(crate) fn pass(&self, time: Duration) {
        self.left_out.fetch_add(u64::try_from(time.as_millis()).expect("some hours"), Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + BEGINNING + self.passed()
    }
}

/// A replica's clocks. The wall clock may be wrong, and jump.
pub(crate) struct SimulatedClock {
    pub(crate) time: Arc<Time>,
    /// By how many milliseconds the wall clock is ahead.
    ahead: AtomicI64,
    /// The bug: time that passes is read off the wall clock, so nothing keeps a jump of it out of the log.
    trusts_the_wall: bool,
}

impl SimulatedClock {
    pub(crate) fn new(time: Arc<Time>, trusts_the_wall: bool) -> Self {
        Self { time, ahead: AtomicI64::new(0), trusts_the_wall }
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_ahead(&self, milliseconds: i64) {
        self.ahead.store(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let offset = Duration::from_millis(ahead.unsigned_abs());
        if ahead < 0 { self.time.now() - offset } else { self.time.now() + offset }
    }

    fn monotonic(&self) -> Duration {
        if self.trusts_the_wall {
            return self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        }
        self.time.passed()
    }
}

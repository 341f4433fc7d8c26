//! The wall clock and the source of randomness of the running process: the only place that touches either. Everything
//! else takes a [`Clock`] or an [`Entropy`].

use std::time::{Duration, SystemTime};

use rand::TryRngCore as _;
use rand::rngs::OsRng;
use roadstead_domain::{Clock, Entropy};
use tokio::time::Instant;

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Clocks whose monotonic time begins now.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "wall time enters the process here and nowhere else")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = OsRng.try_fill_bytes(bytes) {
            // Linux fails here only before its generator is seeded at boot, or if a sandbox forbids the call. Names and
            // keys that could be guessed are worse than no registry.
            tracing::error!(reason = %error, "the operating system gives no random bytes, and the process ends: {error}");
            std::process::abort();
        }
    }
}

use std::time::Duration;

/// What a measured load came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Body bytes of the answers.
    pub(crate) bytes: u64,
    /// How long each request took, sorted.
    latencies: Vec<Duration>,
}

impl Tally {
    pub(super) fn new(elapsed: Duration, bytes: u64, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self { elapsed, bytes, latencies }
    }

    /// Answered requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Bytes a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency, in seconds, that the fraction `quantile` of the requests did not exceed.
    pub(crate) fn latency(&self, quantile: f64) -> f64 {
        // From 0 to the number of requests.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of the list")]
        let rank = (self.latencies.len() as f64 * quantile).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).or(self.latencies.last()).map_or(f64::NAN, Duration::as_secs_f64)
    }
}

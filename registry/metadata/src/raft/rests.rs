//! A replica that is being taken in leaves the machine and the leader to those that serve clients.
//!
//! It works off what it lacks as fast as it can otherwise, and so does the leader that sends it: their clients would wait for
//! both. Nobody waits for a replica without a vote. The rests are bounded in all, so that it comes to an end however much is
//! written meanwhile.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

/// How much longer than some work took a rest after it is; how long at most, once and in all.
pub(super) const REST: u32 = 3;
pub(super) const REST_MAX: Duration = Duration::from_millis(200);
pub(super) const RESTS_MAX: Duration = Duration::from_secs(10);

/// The rests that a replica may take until it is told that it has a vote.
pub(super) struct Rests {
    left: Mutex<Duration>,
}

impl Default for Rests {
    fn default() -> Self {
        Self { left: Mutex::new(RESTS_MAX) }
    }
}

impl Rests {
    /// Rests after work that was begun then.
    pub(super) async fn rest_after(&self, begun: Instant) {
        let pause = self.take(begun.elapsed());
        if !pause.is_zero() {
            sleep_until(Instant::now() + pause).await;
        }
    }

    fn take(&self, work: Duration) -> Duration {
        let mut left = self.left.lock();
        let pause = REST_MAX.min(REST * work).min(*left);
        *left -= pause;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_follows_the_work_and_all_of_them_are_bounded() {
        let rests = Rests::default();
        assert_eq!(rests.take(Duration::from_millis(20)), REST * Duration::from_millis(20));
        assert_eq!(rests.take(Duration::from_secs(9)), REST_MAX);
        let mut rested = REST * Duration::from_millis(20) + REST_MAX;
        for _ in 0..RESTS_MAX.as_millis() / REST_MAX.as_millis() {
            rested += rests.take(Duration::from_secs(1));
        }
        assert_eq!((rested, rests.take(Duration::from_secs(1))), (RESTS_MAX, Duration::ZERO));
    }
}

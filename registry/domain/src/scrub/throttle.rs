//! A token bucket for bytes, told what time it is.

use std::time::Duration;

/// What may be read at once after a pause, in time: short, so that a disk hardly notices.
const BURST: Duration = Duration::from_millis(100);

/// Shorter waits are put together: a timer of its own for each piece would cost more than it brings.
const LEAST_WAIT: Duration = Duration::from_millis(10);

pub(super) struct Throttle {
    /// Bytes a second; 0 for no bound.
    rate: u64,
    /// When all that was taken is paid for.
    paid: Duration,
}

impl Throttle {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate, paid: Duration::ZERO }
    }

    /// Takes `bytes` at `now`, and says how long to wait after it.
    pub(super) fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid = self.paid.max(now.saturating_sub(BURST)).saturating_add(cost);
        let wait = self.paid.saturating_sub(now);
        if wait < LEAST_WAIT { Duration::ZERO } else { wait }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is taken whenever, no stretch of time sees more than the rate, one burst and one piece.
        #[test]
        fn no_more_than_the_rate(
            rate in 1_000..1_000_000_000_u64,
            steps in proptest::collection::vec((0..5_000_000_u64, 0..2_000_u64), 1..50),
        ) {
            let mut throttle = Throttle::new(rate);
            let (mut now, mut taken) = (Duration::ZERO, Vec::new());
            for (bytes, idle) in steps {
                now += Duration::from_millis(idle);
                taken.push((now, bytes));
                now += throttle.take(bytes, now);
            }
            for (index, (begin, _)) in taken.iter().enumerate() {
                let after = &taken[index..];
                for end in 1..after.len() {
                    let bytes: u64 = after[..end].iter().map(|(_, bytes)| bytes).sum();
                    let time = after[end].0.saturating_sub(*begin) + BURST + LEAST_WAIT;
                    let most = time.as_nanos() * u128::from(rate) / 1_000_000_000 + 1;
                    // Each cost is rounded down by less than a nanosecond's worth of bytes.
                    let rounded = u128::from(rate) * end as u128 / 1_000_000_000 + 1;
                    prop_assert!(u128::from(bytes) <= most + rounded, "{bytes} in {time:?}");
                }
            }
        }
    }

    #[test]
    fn the_rate_is_reached() {
        let mut throttle = Throttle::new(1 << 20);
        let mut now = Duration::ZERO;
        for _ in 0..1_000 {
            now += throttle.take(64 << 10, now);
        }
        // 1,000 pieces of 1/16 s each.
        assert!((62..=63).contains(&now.as_secs()), "{now:?}");
        assert_eq!(Throttle::new(0).take(u64::MAX, now), Duration::ZERO);
    }
}

//! The log's own clock.
//!
//! Entries are stamped with it, and ages are judged by it: leases, graces, expiry. It follows the wall clock, but at
//! most at twice and at least at half the speed of time that really passes, and never behind what was applied:
//!
//! ```text
//!   log time --> log time + (wall - log time), but within [elapsed / 2, elapsed * 2] --> never below the applied time
//! ```
//!
//! So a replica whose wall clock is a year ahead collects nothing early, and one whose clock is behind does not stop
//! time: of a grace at least half really passes, whoever stamps. A cluster whose clock was wrong comes back to the right
//! time by itself. Without entries (nobody runs) log time stands still, which only delays.

use std::time::Duration;

use parking_lot::Mutex;

use crate::LogTime;

/// The clock of one replica.
#[derive(Debug, Default)]
pub(crate) struct LogClock(Mutex<Option<Reading>>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    time: LogTime,
    monotonic: Duration,
}

impl LogClock {
    /// What time it is: `applied` is the time of the newest entry applied here, `wall` the wall clock's time, and
    /// `monotonic` any clock that only passes.
    pub(crate) fn read(&self, applied: LogTime, wall: LogTime, monotonic: Duration) -> LogTime {
        let mut last = self.0.lock();
        let time = match *last {
            Some(last) => {
                let elapsed = u64::try_from(monotonic.saturating_sub(last.monotonic).as_millis()).unwrap_or(u64::MAX);
                let earliest = last.time.0.saturating_add(elapsed / 2);
                let latest = last.time.0.saturating_add(elapsed.saturating_mul(2));
                LogTime(wall.0.clamp(earliest, latest)).max(applied)
            }
            // A log without entries begins with the wall clock; all others go on from where they are.
            None if applied == LogTime(0) => wall,
            None => applied,
        };
        // Of less than two milliseconds, half would be lost by rounding each time.
        if last.is_none_or(|last| time != last.time) {
            *last = Some(Reading { time, monotonic });
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YEAR: u64 = 365 * 24 * 3_600_000;

    fn after(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_right_clock_is_followed() {
        let clock = LogClock::default();
        for now in [0, 1, 5, 1_000, 5_000_000] {
            let wall = LogTime(YEAR + now);
            assert_eq!(clock.read(LogTime(0), wall, after(now)), wall);
        }
    }

    #[test]
    fn a_clock_a_year_ahead_hurries_time_by_no_more_than_twice() {
        let clock = LogClock::default();
        assert_eq!(clock.read(LogTime(YEAR), LogTime(2 * YEAR), after(0)), LogTime(YEAR));
        assert_eq!(clock.read(LogTime(YEAR), LogTime(2 * YEAR), after(500)), LogTime(YEAR + 1_000));
        assert_eq!(clock.read(LogTime(YEAR), LogTime(2 * YEAR), after(1_500)), LogTime(YEAR + 3_000));
    }

    #[test]
    fn a_clock_that_is_behind_does_not_stop_time() {
        let clock = LogClock::default();
        assert_eq!(clock.read(LogTime(YEAR), LogTime(0), after(0)), LogTime(YEAR));
        for now in 1..=1_000 {
            clock.read(LogTime(YEAR), LogTime(0), after(now));
        }
        assert_eq!(clock.read(LogTime(YEAR), LogTime(0), after(1_000)), LogTime(YEAR + 500));
    }

    proptest! {
        #[test]
        fn whatever_the_walls_say_replicas_together_hurry_time_by_no_more_than_twice(
            steps in proptest::collection::vec((0..3_usize, 0..2 * YEAR, 0..10_000_u64), 1..100)
        ) {
            let (clocks, mut applied, mut now) = ([(); 3].map(|()| LogClock::default()), LogTime(YEAR), 0);
            for clock in &clocks {
                clock.read(applied, LogTime(YEAR), after(0));
            }
            for (replica, wall, passes) in steps {
                now += passes;
                let stamped = clocks[replica].read(applied, LogTime(wall), after(now));
                prop_assert!(stamped >= applied, "time never goes back");
                prop_assert!(stamped.0 <= YEAR + 2 * now);
                applied = stamped;
            }
        }
    }
}

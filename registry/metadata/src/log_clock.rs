//! The log's own clock.
//!
//! Entries are stamped with it, and ages are judged by it: leases, graces, expiry. It follows the wall clock, but at
//! most at twice and at least at half the speed of time that really passes, and never behind what was applied:
//!
//! ```text
//!   log time --> log time + (wall - log time), but within [elapsed / 2, elapsed * 2]
//!            --> never above the applied time + 2 * (for how long that has been it) + LEAD, nor below it
//! ```
//!
//! So a replica whose wall clock is a year ahead collects nothing early, and one whose clock is behind does not stop
//! time: of a grace at least half really passes (less [`LEAD`]), whoever stamps. The second line is for what nobody else
//! knows: where hours pass without an entry, replicas come to different times, and what one of them then stamps must not
//! be old by the clock of another. It needs every replica to look at the clock every few seconds, and one that hears
//! nothing of a leader does not know for how long the applied time has been what it is. What is left open: a replica that
//! heard nobody for hours in which no entry was made, and stamps the first one itself, may stamp the time of the entry
//! before, which is hours old by the others' clocks. A cluster whose clock was wrong
//! comes back to the right time by itself. Without entries (nobody runs) log time stands still, which only delays.

use std::time::Duration;

use parking_lot::Mutex;

use crate::LogTime;

/// How far a replica's time may be ahead of what is applied: longer than a proposal takes, so that those under way hold
/// nothing up.
const LEAD: Duration = Duration::from_secs(10);

/// The clock of one replica.
#[derive(Debug, Default)]
pub(crate) struct LogClock(Mutex<Option<Reading>>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    /// What it was, and when.
    time: LogTime,
    monotonic: Duration,
    /// The newest look at the clock, whether time had moved or not.
    looked: Duration,
    /// The newest at which a leader was heard of.
    heard: Duration,
    /// The applied time, and when it was not this one yet.
    applied: LogTime,
    since: Duration,
}

impl LogClock {
    /// What time it is: `applied` is the time of the newest entry applied here, `wall` the wall clock's time, and
    /// `monotonic` any clock that only passes. `hears` says whether a leader is heard of, or a quorum of its followers.
    pub(crate) fn read(&self, applied: LogTime, wall: LogTime, monotonic: Duration, hears: bool) -> LogTime {
        let mut last = self.0.lock();
        let Some(known) = &mut *last else {
            // A log without entries begins with the wall clock; all others go on from where they are.
            let time = if applied == LogTime(0) { wall } else { applied };
            *last = Some(Reading { time, monotonic, looked: monotonic, heard: monotonic, applied, since: monotonic });
            return time;
        };
        if hears {
            known.heard = monotonic;
            known.since = if applied == known.applied { known.since } else { known.looked };
        } else {
            known.since = monotonic;
        }
        known.applied = applied;
        known.looked = monotonic;
        let elapsed = milliseconds(monotonic, known.monotonic);
        let earliest = known.time.0.saturating_add(elapsed / 2);
        let latest = known.time.0.saturating_add(elapsed.saturating_mul(2));
        let lead =
            milliseconds(monotonic, known.since).saturating_mul(2).saturating_add(milliseconds(LEAD, Duration::ZERO));
        // Before the first entry there is nothing to be ahead of.
        let most = if applied == LogTime(0) { u64::MAX } else { applied.0.saturating_add(lead) };
        let time = LogTime(wall.0.clamp(earliest, latest).min(most)).max(applied);
        // Of less than two milliseconds, half would be lost by rounding each time.
        if time != known.time {
            known.time = time;
            known.monotonic = monotonic;
        }
        time
    }

    /// For how long no leader has been heard of, as far as the clock was looked at.
    pub(crate) fn silence(&self, monotonic: Duration) -> Duration {
        self.0.lock().map_or(Duration::ZERO, |known| monotonic.saturating_sub(known.heard))
    }
}

fn milliseconds(now: Duration, before: Duration) -> u64 {
    u64::try_from(now.saturating_sub(before).as_millis()).unwrap_or(u64::MAX)
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
            assert_eq!(clock.read(LogTime(0), wall, after(now), true), wall);
        }
    }

    #[test]
    fn a_clock_a_year_ahead_hurries_time_by_no_more_than_twice() {
        let clock = LogClock::default();
        assert_eq!(clock.read(LogTime(YEAR), LogTime(2 * YEAR), after(0), true), LogTime(YEAR));
        assert_eq!(clock.read(LogTime(YEAR), LogTime(2 * YEAR), after(500), true), LogTime(YEAR + 1_000));
        assert_eq!(clock.read(LogTime(YEAR), LogTime(2 * YEAR), after(1_500), true), LogTime(YEAR + 3_000));
    }

    #[test]
    fn a_clock_that_is_behind_does_not_stop_time() {
        let clock = LogClock::default();
        assert_eq!(clock.read(LogTime(YEAR), LogTime(0), after(0), true), LogTime(YEAR));
        for now in 1..=1_000 {
            clock.read(LogTime(YEAR), LogTime(0), after(now), true);
        }
        assert_eq!(clock.read(LogTime(YEAR), LogTime(0), after(1_000), true), LogTime(YEAR + 500));
    }

    proptest! {
        #[test]
        fn whatever_the_walls_say_replicas_together_hurry_time_by_no_more_than_twice(
            steps in proptest::collection::vec((0..3_usize, 0..2 * YEAR, 0..10_000_u64), 1..100)
        ) {
            let (clocks, mut applied, mut now) = ([(); 3].map(|()| LogClock::default()), LogTime(YEAR), 0);
            for clock in &clocks {
                clock.read(applied, LogTime(YEAR), after(0), true);
            }
            for (replica, wall, passes) in steps {
                now += passes;
                let stamped = clocks[replica].read(applied, LogTime(wall), after(now), true);
                prop_assert!(stamped >= applied, "time never goes back");
                prop_assert!(stamped.0 <= YEAR + 2 * now);
                applied = stamped;
            }
        }

        /// Each step, all look at the clock, at most ten seconds apart: a change is dated up to so much too early, and used
        /// up to so much later, both at twice the speed of time: with [`LEAD`] 50 s, and a little for rounding. Of what they
        /// see, only some is stamped into an entry, and not all hear of it.
        #[test]
        fn what_one_replica_stamps_is_not_old_by_the_clock_of_another(
            steps in proptest::collection::vec((0..3_usize, 0..3_u8, 0..2 * YEAR, 0..10_000_u64), 1..200)
        ) {
            let clocks = [(); 3].map(|()| LogClock::default());
            let (mut applied, mut now, mut history, mut seen) = (LogTime(YEAR), 0, Vec::new(), [LogTime(YEAR); 3]);
            for (replica, what, wall, passes) in steps {
                now += passes;
                // The third hears of nobody most of the time, and then has what it had. It stamps nothing: right after a
                // silence its time may be as late as the silence was long (see the module).
                let hears = [true, true, what == 2];
                for (clock, (seen, hears)) in clocks.iter().zip(seen.iter_mut().zip(hears)) {
                    *seen = if hears { applied } else { *seen };
                    clock.read(*seen, LogTime(wall), after(now), hears);
                }
                if what > 0 && replica < 2 {
                    applied = applied.max(clocks[replica].read(seen[replica], LogTime(wall), after(now), true));
                    history.push((now, applied));
                }
                for (then, stamped) in &history {
                    let age = applied.0 - stamped.0;
                    prop_assert!(age <= 2 * (now - then) + 50_100, "{age} ms old after {} ms", now - then);
                }
            }
        }
    }
}

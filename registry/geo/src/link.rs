//! What a mirror takes of the link to its home: a bucket of bytes for all connections together, and who goes first.
//!
//! ```text
//!  demand (somebody waits for it) --> bucket
//!  bulk --while no demand was served for a moment--^
//!
//!  a pull waits ----> nothing else is asked for
//!    still, after 600 ms: what else is on its way is given up, since it fills the link
//! ```

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

use crate::limits::{BUCKET_TIME, DEMAND_MOMENT};

/// What bytes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A pull waits for them.
    Demand,
    /// They are copied ahead.
    Bulk,
}

/// A link of which so much may be used.
pub(crate) struct Link {
    /// Any number of bytes a second, without.
    bytes_per_second: Option<u64>,
    state: Mutex<State>,
    /// Counts what [`Link::press`] is called for.
    presses: watch::Sender<u64>,
}

struct State {
    /// When what was taken so far has been carried.
    free: Instant,
    /// Bulk waits until then.
    demand: Option<Instant>,
    /// Pulls that wait.
    waiting: usize,
    /// When one has ceased to last.
    waited: Option<Instant>,
}

impl Link {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        let state = State { free: Instant::now(), demand: None, waiting: 0, waited: None };
        Self { bytes_per_second, state: Mutex::new(state), presses: watch::Sender::new(0) }
    }

    /// A pull waits for bytes, as long as what is returned is held.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.state.lock().waiting += 1;
        Waiting(self)
    }

    /// Until when nothing is to be asked for that no pull waits for.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let state = self.state.lock();
        let since = if state.waiting > 0 { Some(now) } else { state.waited };
        since.map(|since| since + DEMAND_MOMENT).filter(|until| *until > now)
    }

    /// A pull has waited in vain: what is on its way that no pull waits for is given up.
    pub(crate) fn press(&self) {
        self.presses.send_modify(|count| *count += 1);
    }

    /// Changes with each [`Link::press`].
    pub(crate) fn presses(&self) -> watch::Receiver<u64> {
        self.presses.subscribe()
    }

    /// Waits until so many bytes, which have come, may have come.
    pub(crate) async fn take(&self, bytes: u64, class: Class) {
        let Some(rate) = self.bytes_per_second else { return };
        loop {
            let now = Instant::now();
            let until = {
                let mut state = self.state.lock();
                match (class, state.demand.filter(|demand| *demand > now)) {
                    (Class::Bulk, Some(demand)) => Err(demand),
                    (Class::Bulk, None) => Ok(state.add(bytes, rate, now)),
                    (Class::Demand, _) => {
                        state.demand = Some(state.free.max(now) + DEMAND_MOMENT);
                        Ok(state.add(bytes, rate, now))
                    }
                }
            };
            match until {
                Ok(carried) => return sleep_until(carried).await,
                Err(demand) => sleep_until(demand).await,
            }
        }
    }
}

/// A pull that waits.
pub(crate) struct Waiting<'link>(&'link Link);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.waiting -= 1;
        state.waited = Some(Instant::now());
    }
}

impl State {
    fn add(&mut self, bytes: u64, rate: u64, now: Instant) -> Instant {
        // A link that was not used is not saved up, but for a moment's share.
        let begins = if self.free + BUCKET_TIME >= now { self.free } else { now };
        self.free = begins + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1));
        self.free
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    const RATE: u64 = 1_000_000;
    const PIECE: u64 = 50_000;

    /// Takes pieces for so long; how many bytes those were.
    async fn take_for(link: Arc<Link>, class: Class, time: Duration) -> u64 {
        let until = Instant::now() + time;
        let mut taken = 0;
        while Instant::now() < until {
            link.take(PIECE, class).await;
            taken += PIECE;
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn claim_16_all_connections_together_keep_within_the_rate() {
        let link = Arc::new(Link::new(Some(RATE)));
        let mut connections = JoinSet::new();
        for _ in 0..8 {
            connections.spawn(take_for(Arc::clone(&link), Class::Bulk, Duration::from_secs(20)));
        }
        let mut total = 0;
        while let Some(taken) = connections.join_next().await {
            total += taken.unwrap();
        }
        let most = 20 * RATE;
        assert!((most * 95 / 100..=most * 105 / 100).contains(&total), "{total} of {most}");
    }

    #[tokio::test(start_paused = true)]
    async fn claim_16_demand_has_the_link_within_a_second_and_bulk_has_it_again_afterwards() {
        let link = Arc::new(Link::new(Some(RATE)));
        let mut bulk = JoinSet::new();
        for _ in 0..8 {
            bulk.spawn(take_for(Arc::clone(&link), Class::Bulk, Duration::from_secs(30)));
        }
        sleep_until(Instant::now() + Duration::from_secs(5)).await;
        let began = Instant::now();
        link.take(PIECE, Class::Demand).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let demanded = take_for(Arc::clone(&link), Class::Demand, Duration::from_secs(5)).await;
        assert!(demanded >= 5 * RATE * 95 / 100, "{demanded}");
        let mut total = demanded;
        while let Some(taken) = bulk.join_next().await {
            total += taken.unwrap();
        }
        assert!((30 * RATE * 95 / 100..=32 * RATE).contains(&total), "{total}");
    }

    #[tokio::test(start_paused = true)]
    async fn claim_16_nothing_is_asked_for_while_a_pull_waits_and_for_a_moment_after_that() {
        let link = Link::new(None);
        assert_eq!(link.held_until(), None);
        let (one, two) = (link.wait(), link.wait());
        drop(one);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(link.held_until(), Some(Instant::now() + DEMAND_MOMENT));
        drop(two);
        tokio::time::advance(DEMAND_MOMENT / 2).await;
        assert_eq!(link.held_until(), Some(Instant::now() + DEMAND_MOMENT / 2));
        tokio::time::advance(DEMAND_MOMENT / 2).await;
        assert_eq!(link.held_until(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_without_a_cap_holds_nothing_up() {
        let began = Instant::now();
        Link::new(None).take(u64::MAX, Class::Bulk).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

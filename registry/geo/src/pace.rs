//! How much is asked for at once, and over how many connections: as the link turns out to be.
//!
//! ```text
//!  bytes as they come --each half second--> rate --> a request: what a connection brings in half a second
//!                                            '-----> connections: one more as long as that brings more
//! ```
//!
//! So a fast and long link is kept full, and on a slow one no more is on its way than a pull can wait for.

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::limits::{
    AHEAD_STREAMS, CHUNK_BYTES, FIRST_REQUEST_BYTES, FIRST_STREAMS, MEASURED_TIME, MIN_STREAMS, PIECE_BYTES,
    REQUEST_TIME, STREAMS_HELD, STREAMS_PER_BLOB,
};

/// What is known of the link, from what all connections together bring.
pub(crate) struct Pace {
    /// What a request asks for before anything is known.
    first_request: u64,
    state: Mutex<State>,
    streams: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// Connections that bring something.
    busy: usize,
    /// When the measurement began, if one is made, and what came since.
    since: Option<Instant>,
    bytes: u64,
    /// Some of that came as fast as a client sends it: how many connections the link needs cannot be seen then.
    is_sent_by_client: bool,
    /// Bytes a second, once that is known.
    rate: Option<u64>,
    /// The shortest that an answer took to begin, lately.
    round_trip: Duration,
    search: Search,
}

impl Pace {
    /// That of a link of which so many bytes a second may be used, or all. With a cap, what is asked for at first is no more
    /// than it lets through in [`REQUEST_TIME`]: all of that crosses the link at once, however slowly it is taken in.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        let first_request = bytes_per_second
            .map_or(FIRST_REQUEST_BYTES, |rate| request_of(rate, REQUEST_TIME, FIRST_STREAMS).min(FIRST_REQUEST_BYTES));
        Self { first_request, state: Mutex::default(), streams: watch::Sender::new(FIRST_STREAMS) }
    }

    /// How many connections bring one blob at once.
    pub(crate) fn streams(&self) -> watch::Receiver<usize> {
        self.streams.subscribe()
    }

    /// Bytes that one request asks for.
    pub(crate) fn request_bytes(&self) -> u64 {
        let state = self.state.lock();
        let Some(rate) = state.rate else { return self.first_request };
        // Where the way is long, as much as it holds, several times over.
        let time = REQUEST_TIME.max(state.round_trip * 3);
        request_of(rate, time, state.busy)
    }

    /// How many connections bring one upload ahead: of requests as small as they may be, as many as the link carries at once.
    pub(crate) fn streams_ahead(&self) -> usize {
        let state = self.state.lock();
        let Some(rate) = state.rate else { return FIRST_STREAMS };
        let time = REQUEST_TIME.max(state.round_trip * 3);
        let pieces = u128::from(rate) * time.as_millis() / 1_000 / u128::from(PIECE_BYTES);
        usize::try_from(pieces).unwrap_or(usize::MAX).clamp(MIN_STREAMS, AHEAD_STREAMS)
    }

    /// A connection brings something, as long as what is returned is held.
    pub(crate) fn begin(&self) -> Busy<'_> {
        let mut state = self.state.lock();
        if state.busy == 0 {
            // What did not come while nobody asked for it says nothing.
            (state.since, state.bytes) = (None, 0);
        }
        state.busy += 1;
        drop(state);
        Busy(self)
    }

    /// An answer has begun, so long after it was asked for.
    pub(crate) fn answered(&self, took: Duration) {
        let mut state = self.state.lock();
        // A way that has become longer is noticed in the end.
        let former = if state.round_trip.is_zero() { took } else { state.round_trip + state.round_trip / 20 };
        state.round_trip = took.min(former);
    }

    /// So many bytes have come of an upload that goes on at home.
    pub(crate) fn brought_ahead(&self, bytes: u64) {
        self.state.lock().is_sent_by_client = true;
        self.brought(bytes);
    }

    /// So many bytes have come.
    pub(crate) fn brought(&self, bytes: u64) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let Some(since) = state.since else {
            (state.since, state.bytes) = (Some(now), 0);
            return;
        };
        state.bytes += bytes;
        let time = now - since;
        if time < MEASURED_TIME {
            return;
        }
        let measured = u64::try_from(u128::from(state.bytes) * 1_000_000 / time.as_micros().max(1)).unwrap_or(u64::MAX);
        (state.since, state.bytes) = (Some(now), 0);
        let is_sent_by_client = std::mem::take(&mut state.is_sent_by_client);
        // A moment in which little came says less than one in which much did.
        let rate = state.rate.map_or(measured, |rate| measured.max(u64::midpoint(rate, measured)));
        state.rate = Some(rate);
        if state.busy >= *self.streams.borrow() && !is_sent_by_client {
            let streams = state.search.observe(measured);
            drop(state);
            self.streams.send_if_modified(|former| std::mem::replace(former, streams) != streams);
        }
    }
}

/// Whole pieces that each of so many connections brings in this time.
fn request_of(rate: u64, time: Duration, connections: usize) -> u64 {
    let all = u128::from(rate) * time.as_millis() / 1_000;
    let each = u64::try_from(all).unwrap_or(u64::MAX) / connections.max(1) as u64;
    (each / PIECE_BYTES * PIECE_BYTES).clamp(PIECE_BYTES, CHUNK_BYTES)
}

/// A connection that brings something.
pub(crate) struct Busy<'pace>(&'pace Pace);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state.lock().busy -= 1;
    }
}

/// The search for the fewest connections that bring as much as more would.
struct Search {
    streams: usize,
    /// The number before the last step, and what it brought.
    former: Option<(usize, u64)>,
    /// Which way the next step goes.
    goes_up: bool,
    /// Measurements until it is made.
    held: u32,
}

impl Default for Search {
    fn default() -> Self {
        Self { streams: FIRST_STREAMS, former: None, goes_up: true, held: 1 }
    }
}

impl Search {
    /// What the present number of connections brings; how many there are to be from now on.
    fn observe(&mut self, rate: u64) -> usize {
        match self.former.take() {
            Some((former, brought)) if !Self::pays(former, brought, self.streams, rate) => {
                (self.streams, self.goes_up, self.held) = (former, !self.goes_up, STREAMS_HELD);
            }
            None if self.held > 0 => self.held -= 1,
            // On in the same direction, or for the first time.
            Some(_) | None => self.step(rate),
        }
        self.streams
    }

    fn step(&mut self, rate: u64) {
        let next = if self.goes_up { self.streams + 1 } else { self.streams - 1 };
        if (MIN_STREAMS..=STREAMS_PER_BLOB).contains(&next) {
            self.former = Some((self.streams, rate));
            self.streams = next;
        } else {
            (self.goes_up, self.held) = (!self.goes_up, STREAMS_HELD);
        }
    }

    /// Whether a step was worth while: one more connection brings a third of its share, or one less costs next to nothing.
    fn pays(former: usize, brought: u64, streams: usize, rate: u64) -> bool {
        let (brought, rate, former) = (u128::from(brought), u128::from(rate), former as u128);
        if streams as u128 > former {
            rate * 3 * former >= brought * (3 * former + 1)
        } else {
            rate * 100 >= brought * 97
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Where the search goes on a link that carries so much, of which one connection gets so much at most.
    fn found(link: u64, connection: u64) -> Vec<usize> {
        let mut search = Search::default();
        let mut streams = search.streams;
        let mut visited = Vec::new();
        for _ in 0..400 {
            streams = search.observe(link.min(connection * streams as u64));
            visited.push(streams);
        }
        visited.split_off(200)
    }

    #[test]
    fn a_connection_is_added_as_long_as_it_brings_more() {
        // Each is held back by its window: all that there may be.
        assert!(
            found(1_000_000_000, 1_000_000)
                .iter()
                .all(|streams| (STREAMS_PER_BLOB - 1..=STREAMS_PER_BLOB).contains(streams))
        );
        // Eight of them fill the link.
        assert!(found(8_000_000, 1_000_000).iter().all(|streams| (7..=9).contains(streams)));
        // One would do.
        assert!(found(1_000_000, 1_000_000).iter().all(|streams| (MIN_STREAMS..=MIN_STREAMS + 1).contains(streams)));
    }

    /// A pace after so many seconds in which so much came, over so many connections.
    async fn paced(rate: u64, connections: usize) -> u64 {
        let pace = Pace::new(None);
        let _busy: Vec<_> = (0..connections).map(|_| pace.begin()).collect();
        pace.answered(Duration::from_millis(100));
        for _ in 0..100 {
            advance(Duration::from_millis(50)).await;
            pace.brought(rate / 20);
        }
        pace.request_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn claim_16_what_is_on_its_way_is_half_a_second_of_the_link() {
        assert_eq!(Pace::new(None).request_bytes(), FIRST_REQUEST_BYTES);
        let capped = [1_000_000, 5_000_000, 1_000_000_000].map(|rate| Pace::new(Some(rate)).request_bytes());
        assert_eq!(capped, [PIECE_BYTES, PIECE_BYTES, FIRST_REQUEST_BYTES], "nor before anything is known of it");
        assert_eq!(paced(1_000_000, 1).await, PIECE_BYTES);
        assert_eq!(paced(25_000_000, 6).await, 7 * PIECE_BYTES);
        assert_eq!(paced(125_000_000, 6).await, CHUNK_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_comes_over_as_many_connections_as_the_link_fills() {
        assert_eq!(Pace::new(None).streams_ahead(), FIRST_STREAMS);
        for (rate, streams) in [(500_000, MIN_STREAMS), (2_400_000, 4), (25_000_000, AHEAD_STREAMS)] {
            let pace = Pace::new(None);
            let _busy = pace.begin();
            for _ in 0..100 {
                advance(Duration::from_millis(50)).await;
                pace.brought_ahead(rate / 20);
            }
            assert_eq!(pace.streams_ahead(), streams);
            assert_eq!(*pace.streams().borrow(), FIRST_STREAMS, "nothing shows of how many others need");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_was_not_used_is_not_taken_for_a_slow_one() {
        let pace = Pace::new(None);
        for _ in 0..4 {
            let busy = pace.begin();
            for _ in 0..30 {
                advance(Duration::from_millis(50)).await;
                pace.brought(5_000_000);
            }
            drop(busy);
            advance(Duration::from_secs(100)).await;
        }
        assert_eq!(pace.request_bytes(), CHUNK_BYTES);
    }
}

//! The way between a mirror and its home: far, and at times broken, in one direction or both.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::network::{Passage, pause};
use crate::random::Random;

/// How soon a connection goes on whose way has come back: what was lost is sent again.
const RESENT: Duration = Duration::from_millis(100);

/// One way, for one mirror.
#[derive(Clone)]
pub(crate) struct Wan(Arc<Mutex<Way>>);

struct Way {
    random: Random,
    /// How long one direction takes at least, and at most.
    time: (Duration, Duration),
    /// How many connections of a thousand break at each piece that they carry.
    breaking: usize,
    home_is_cut: bool,
    mirror_is_cut: bool,
    /// Whether who sends is told that there is no way.
    refuses: bool,
}

/// Where something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Home,
    Mirror,
}

/// Why nothing came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken;

impl Wan {
    /// One on which nothing is wrong.
    pub(crate) fn new(mut random: Random) -> Self {
        let longest = if random.chance(3) { 500 } else { 80 };
        let least = random.time(Duration::from_millis(1), Duration::from_millis(longest));
        Self(Arc::new(Mutex::new(Way {
            time: (least, least + least / 4 + Duration::from_millis(1)),
            random,
            breaking: 0,
            home_is_cut: false,
            mirror_is_cut: false,
            refuses: false,
        })))
    }

    /// Lets nothing through in these directions.
    pub(crate) fn cut(&self, directions: &[Direction], refuses: bool) {
        let mut way = self.0.lock();
        way.home_is_cut = directions.contains(&Direction::Home);
        way.mirror_is_cut = directions.contains(&Direction::Mirror);
        way.refuses = refuses;
    }

    /// How many connections of a thousand break at each piece, and how long the longest way takes.
    pub(crate) fn disturb(&self, breaking: usize, latest: Duration) {
        let mut way = self.0.lock();
        way.breaking = breaking;
        way.time.1 = way.time.0 + latest;
    }

    /// All is well again.
    pub(crate) fn heal(&self) {
        let mut way = self.0.lock();
        way.breaking = 0;
        way.time.1 = way.time.0 + way.time.0 / 4 + Duration::from_millis(1);
        (way.home_is_cut, way.mirror_is_cut) = (false, false);
    }

    /// Carries a piece. While there is no way, it waits, as what is not acknowledged is sent again.
    pub(crate) async fn carry(&self, to: Direction) -> Result<(), Broken> {
        loop {
            let passage = {
                let way = &mut *self.0.lock();
                let is_cut = if to == Direction::Home { way.home_is_cut } else { way.mirror_is_cut };
                match (is_cut, way.refuses) {
                    (true, true) => Some(Passage::Breaks(way.time.0)),
                    (true, false) => None,
                    (false, _) => {
                        let (time, breaks) =
                            (way.random.time(way.time.0, way.time.1), way.random.permille(way.breaking));
                        Some(if breaks { Passage::Breaks(time) } else { Passage::Arrives(time) })
                    }
                }
            };
            match passage {
                Some(passage) => return if passage.pass().await { Ok(()) } else { Err(Broken) },
                None => pause(RESENT).await,
            }
        }
    }
}

//! Which pieces of a blob have come, and which are asked for next. No I/O.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::limits::{AHEAD_BYTES, MAX_DEMANDED, PIECE_BYTES};

/// The pieces of a blob from some place on.
#[derive(Default)]
pub(super) struct Pieces {
    /// Where they begin; what is before was kept by an earlier process.
    base: u64,
    size: u64,
    all: Vec<Piece>,
    /// All before it are begun.
    first_idle: usize,
    /// Those that did not come to their end yet.
    open: usize,
    /// Those that pulls wait for and nobody brings.
    demanded: VecDeque<usize>,
    /// Where each pull waited last.
    reading: BTreeMap<u64, usize>,
}

#[derive(Clone, Copy, Default)]
struct Piece {
    is_begun: bool,
    /// Bytes from its start.
    filled: u32,
}

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// What a pull waits for and nobody brings.
    Demanded,
    /// That, or what a pull reads next.
    Ahead,
    /// Anything, those two first.
    Any,
}

impl Pieces {
    /// Those of a blob of `size` bytes from `base` on.
    pub(super) fn new(base: u64, size: u64) -> Self {
        let count = usize::try_from((size - base).div_ceil(PIECE_BYTES)).unwrap_or(usize::MAX);
        Self { base, size, all: vec![Piece::default(); count], open: count, ..Self::default() }
    }

    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    pub(super) const fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether all of them have come.
    pub(super) const fn are_complete(&self) -> bool {
        self.open == 0
    }

    /// How far the bytes at this place have come without a gap, within their piece; at most `at` if they have not.
    pub(super) fn filled_to(&self, at: u64) -> u64 {
        let number = self.number(at);
        self.all.get(number).map_or(at, |piece| self.start(number) + u64::from(piece.filled))
    }

    /// A pull waits for the bytes at this place; whether somebody has to ask for them who does not yet.
    pub(super) fn demand(&mut self, pull: u64, at: u64) -> bool {
        let number = self.number(at);
        if self.reading.len() < MAX_DEMANDED || self.reading.contains_key(&pull) {
            self.reading.insert(pull, number);
        }
        let is_begun = self.all.get(number).is_none_or(|piece| piece.is_begun);
        if is_begun || self.demanded.contains(&number) {
            return false;
        }
        if self.demanded.len() == MAX_DEMANDED {
            // Whoever waits for it looks again whenever something has come.
            self.demanded.pop_front();
        }
        self.demanded.push_back(number);
        true
    }

    /// A pull reads no more.
    pub(super) fn forget(&mut self, pull: u64) {
        self.reading.remove(&pull);
        if self.reading.is_empty() {
            self.demanded.clear();
        }
    }

    /// What is to be asked for next: at most `most` bytes, or a piece.
    pub(super) fn next(&mut self, choice: Choice, most: u64) -> Option<Range<u64>> {
        let number = self.choose(choice)?;
        let start = self.filled_to(self.start(number));
        let mut end = number;
        while self.all.get(end).is_some_and(|piece| !piece.is_begun)
            // What came before a stretch was given up is not asked for again.
            && (end == number || (self.all[end].filled == 0 && self.start(end + 1) - start <= most))
        {
            self.all[end].is_begun = true;
            end += 1;
        }
        while self.all.get(self.first_idle).is_some_and(|piece| piece.is_begun) {
            self.first_idle += 1;
        }
        Some(start..self.start(end))
    }

    fn choose(&mut self, choice: Choice) -> Option<usize> {
        while let Some(number) = self.demanded.pop_front() {
            if self.is_idle(number) {
                return Some(number);
            }
        }
        if choice == Choice::Demanded {
            return None;
        }
        let ahead = self.reading.values().find_map(|reading| {
            let end = reading.saturating_add(pieces_in(AHEAD_BYTES)).min(self.all.len());
            (*reading..end).find(|number| self.is_idle(*number))
        });
        if ahead.is_some() || choice == Choice::Ahead {
            return ahead;
        }
        (self.first_idle < self.all.len()).then_some(self.first_idle)
    }

    fn is_idle(&self, number: usize) -> bool {
        self.all.get(number).is_some_and(|piece| !piece.is_begun)
    }

    /// Bytes have come.
    pub(super) fn fill(&mut self, at: u64, bytes: u64) {
        let end = at + bytes;
        let mut at = at;
        while at < end {
            let number = self.number(at);
            let stop = self.start(number + 1).min(end);
            let is_whole = stop == self.start(number + 1);
            let Some(piece) = self.all.get_mut(number) else { return };
            piece.filled = u32::try_from(u64::from(piece.filled) + stop - at).unwrap_or(u32::MAX);
            self.open -= usize::from(is_whole);
            at = stop;
        }
    }

    /// Nobody brings the rest of a stretch any more, of which all came up to `at`.
    pub(super) fn give_up(&mut self, at: u64, end: u64) {
        if at >= end {
            return;
        }
        let (first, behind) = (self.number(at), self.number(end - 1) + 1);
        for piece in self.all.iter_mut().take(behind).skip(first) {
            piece.is_begun = false;
        }
        self.first_idle = self.first_idle.min(first);
    }

    /// Whether what comes at this place is what a pull reads now or next.
    pub(super) fn is_wanted_now(&self, at: u64) -> bool {
        let number = self.number(at);
        let is_near = |reading: &usize| {
            // A piece of the same request that is just before it is past in a moment.
            number + 1 >= *reading && number < reading.saturating_add(pieces_in(AHEAD_BYTES))
        };
        self.reading.values().any(is_near)
    }

    fn number(&self, at: u64) -> usize {
        pieces_in(at.saturating_sub(self.base))
    }

    /// Where a piece begins, or the last one ends.
    fn start(&self, number: usize) -> u64 {
        (self.base + number as u64 * PIECE_BYTES).min(self.size)
    }
}

/// How many whole pieces so many bytes are.
fn pieces_in(bytes: u64) -> usize {
    usize::try_from(bytes / PIECE_BYTES).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = PIECE_BYTES;

    #[test]
    fn all_is_asked_for_once_in_stretches_of_the_size_that_is_wanted() {
        let (base, size) = (1_000, 1_000 + 5 * PIECE + 7);
        let mut pieces = Pieces::new(base, size);
        let mut asked = Vec::new();
        while let Some(stretch) = pieces.next(Choice::Any, 2 * PIECE) {
            assert!(!pieces.are_complete());
            pieces.fill(stretch.start, stretch.end - stretch.start);
            asked.push(stretch);
        }
        let ends: Vec<_> = asked.iter().map(|stretch| stretch.end).collect();
        assert_eq!(ends, [base + 2 * PIECE, base + 4 * PIECE, size]);
        assert!(asked[0].start == base && asked.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert!(pieces.are_complete());
        assert!(Pieces::new(7, 7).are_complete());
    }

    #[test]
    fn what_a_pull_waits_for_goes_first_and_what_it_reads_next_after_that() {
        let mut pieces = Pieces::new(0, 1_000 * PIECE);
        assert_eq!(pieces.next(Choice::Demanded, PIECE), None);
        assert_eq!(pieces.next(Choice::Ahead, PIECE), None);
        assert!(pieces.demand(1, 500 * PIECE + 3));
        assert!(!pieces.demand(2, 500 * PIECE + 9), "it is known");
        assert_eq!(pieces.next(Choice::Any, PIECE), Some(500 * PIECE..501 * PIECE));
        assert_eq!(pieces.next(Choice::Demanded, PIECE), None);
        assert_eq!(pieces.next(Choice::Ahead, 3 * PIECE), Some(501 * PIECE..504 * PIECE));
        assert!(pieces.is_wanted_now(499 * PIECE) && pieces.is_wanted_now(510 * PIECE));
        assert!(!pieces.is_wanted_now(0) && !pieces.is_wanted_now(900 * PIECE));
        assert_eq!(pieces.next(Choice::Any, AHEAD_BYTES), Some(504 * PIECE..504 * PIECE + AHEAD_BYTES));
        assert_eq!(pieces.next(Choice::Ahead, PIECE), None, "far enough ahead");
        assert_eq!(pieces.next(Choice::Any, PIECE), Some(0..PIECE));
        pieces.forget(1);
        assert!(pieces.is_wanted_now(500 * PIECE));
        pieces.forget(2);
        assert!(!pieces.is_wanted_now(500 * PIECE));
        // A stretch ends before what is begun already.
        assert_eq!(pieces.next(Choice::Any, 999 * PIECE), Some(PIECE..500 * PIECE));
    }

    #[test]
    fn the_rest_of_a_stretch_that_was_given_up_is_asked_for_again_and_no_byte_twice() {
        let mut pieces = Pieces::new(0, 4 * PIECE);
        assert_eq!(pieces.next(Choice::Any, 4 * PIECE), Some(0..4 * PIECE));
        pieces.fill(0, PIECE + 10);
        assert_eq!((pieces.filled_to(0), pieces.filled_to(PIECE + 3)), (PIECE, PIECE + 10));
        pieces.give_up(PIECE + 10, 4 * PIECE);
        assert!(pieces.demand(1, 3 * PIECE));
        assert_eq!(pieces.next(Choice::Any, 4 * PIECE), Some(3 * PIECE..4 * PIECE));
        assert_eq!(pieces.next(Choice::Any, 4 * PIECE), Some(PIECE + 10..3 * PIECE));
        assert_eq!(pieces.next(Choice::Any, 4 * PIECE), None);
        pieces.fill(3 * PIECE, PIECE);
        pieces.fill(PIECE + 10, 2 * PIECE - 10);
        assert!(pieces.are_complete());
        // What is given up at its end is not.
        pieces.give_up(4 * PIECE, 4 * PIECE);
        assert_eq!(pieces.next(Choice::Any, PIECE), None);
    }

    #[test]
    fn no_number_of_pulls_fills_the_memory() {
        let mut pieces = Pieces::new(0, (MAX_DEMANDED as u64 + 9) * PIECE);
        for number in 0..MAX_DEMANDED as u64 + 9 {
            pieces.demand(number, number * PIECE);
        }
        assert_eq!((pieces.demanded.len(), pieces.reading.len()), (MAX_DEMANDED, MAX_DEMANDED));
    }
}

//! Whether there is one order of some operations that explains every answer: the search of Wing and Gong, with Lowe's
//! memory of what was tried.
//!
//! The crate porcupine-rs does the same. It brings 33 packages of a benchmark framework along with it, and takes an
//! operation whose end is not known for one that must have happened.

use std::collections::HashSet;
use std::hash::Hash;

/// What operations do to a state.
pub trait Model {
    /// What there is.
    type State: Clone + Eq + Hash;
    /// Something done to it, with its answer.
    type Operation;

    /// The state after an operation with its answer, or `None` if it would have been answered otherwise.
    fn apply(state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// An operation as its client saw it, in any unit of time. What begins at the moment at which another one ends overlaps it.
#[derive(Clone, Copy, Debug)]
pub struct Call<O> {
    /// When it was asked for.
    pub begins: u64,
    /// When it was answered. `None`: it may have happened at any time since, or never.
    pub ends: Option<u64>,
    /// What was asked, and answered.
    pub operation: O,
}

/// Whether there is an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is one.
    Linearizable,
    /// There is none.
    NotLinearizable,
    /// There were more orders to try than was allowed.
    Undecided,
}

/// Entries of the history in their order, as a list from which operations are taken and put back.
struct Entries {
    /// The operation, and whether the entry is its beginning.
    all: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Of each operation: its beginning, and its end.
    of: Vec<(usize, Option<usize>)>,
}

/// Where the list begins: before the first entry, which has number 1.
const HEAD: usize = 0;

impl Entries {
    fn new<O>(calls: &[Call<O>]) -> Self {
        let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(calls.len() * 2);
        for (index, call) in calls.iter().enumerate() {
            moments.push((call.begins, false, index));
            moments.extend(call.ends.map(|ends| (ends, true, index)));
        }
        moments.sort_unstable();
        let mut of = vec![(HEAD, None); calls.len()];
        for (at, (_, ends, index)) in (1..).zip(&moments) {
            if *ends {
                of[*index].1 = Some(at);
            } else {
                of[*index].0 = at;
            }
        }
        let count = moments.len() + 2;
        Self {
            all: moments.into_iter().map(|(_, ends, index)| (index, !ends)).collect(),
            next: (1..=count).collect(),
            previous: (0..count).map(|at: usize| at.saturating_sub(1)).collect(),
            of,
        }
    }

    fn get(&self, at: usize) -> Option<(usize, bool)> {
        self.all.get(at - 1).copied()
    }

    fn take(&mut self, operation: usize) {
        let (begin, end) = self.of[operation];
        for at in [Some(begin), end].into_iter().flatten() {
            let (previous, next) = (self.previous[at], self.next[at]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    fn put_back(&mut self, operation: usize) {
        let (begin, end) = self.of[operation];
        for at in [end, Some(begin)].into_iter().flatten() {
            let (previous, next) = (self.previous[at], self.next[at]);
            self.next[previous] = at;
            self.previous[next] = at;
        }
    }
}

/// Which operations have their place.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Placed(Vec<u64>);

impl Placed {
    fn flip(&mut self, operation: usize) {
        self.0[operation / 64] ^= 1 << (operation % 64);
    }
}

/// Looks for an order, within so many steps.
pub fn check<M: Model>(start: M::State, calls: &[Call<M::Operation>], most_steps: u64) -> Verdict {
    let mut entries = Entries::new(calls);
    let mut state = start;
    let mut placed = Placed(vec![0; calls.len().div_ceil(64)]);
    let mut tried: HashSet<(Placed, M::State)> = HashSet::new();
    let mut stack: Vec<(usize, M::State)> = Vec::new();
    let mut left = calls.iter().filter(|call| call.ends.is_some()).count();
    let mut at = entries.next[HEAD];
    for _ in 0..most_steps {
        if left == 0 {
            return Verdict::Linearizable;
        }
        if let Some((operation, true)) = entries.get(at) {
            at = entries.next[at];
            let Some(after) = M::apply(&state, &calls[operation].operation) else { continue };
            placed.flip(operation);
            if !tried.insert((placed.clone(), after.clone())) {
                placed.flip(operation);
                continue;
            }
            entries.take(operation);
            left -= usize::from(calls[operation].ends.is_some());
            stack.push((operation, std::mem::replace(&mut state, after)));
            at = entries.next[HEAD];
        } else {
            // It has ended, so something that was placed before it has to be elsewhere.
            let Some((operation, before)) = stack.pop() else { return Verdict::NotLinearizable };
            state = before;
            placed.flip(operation);
            entries.put_back(operation);
            left += usize::from(calls[operation].ends.is_some());
            at = entries.next[entries.of[operation].0];
        }
    }
    Verdict::Undecided
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Register;

    #[derive(Clone, Debug)]
    enum Access {
        Write(u32),
        Read(u32),
    }

    impl Model for Register {
        type State = u32;
        type Operation = Access;

        fn apply(state: &u32, operation: &Access) -> Option<u32> {
            match operation {
                Access::Write(value) => Some(*value),
                Access::Read(value) => (state == value).then_some(*state),
            }
        }
    }

    type Record = (u64, Option<u64>, Access);

    fn judge(calls: &[Record]) -> Verdict {
        let call =
            |(begins, ends, operation): &Record| Call { begins: *begins, ends: *ends, operation: operation.clone() };
        let calls: Vec<_> = calls.iter().map(call).collect();
        check::<Register>(0, &calls, 10_000)
    }

    #[test]
    fn what_one_order_explains_is_linearizable_and_nothing_else() {
        use Access::{Read, Write};
        let cases: [(&[Record], bool); 11] = [
            (&[], true),
            (&[(1, Some(2), Write(1)), (3, Some(4), Read(1))], true),
            (&[(1, Some(2), Write(1)), (3, Some(4), Read(0))], false),
            // While it is being written, either may be read, but not the old value after the new one.
            (&[(1, Some(10), Write(1)), (2, Some(3), Read(0)), (4, Some(5), Read(1))], true),
            (&[(1, Some(10), Write(1)), (2, Some(3), Read(1)), (4, Some(5), Read(0))], false),
            // A write of which nobody knows happens late, or never.
            (&[(1, None, Write(1)), (2, Some(3), Read(0)), (4, Some(5), Read(1))], true),
            (&[(1, None, Write(1)), (2, Some(3), Read(0)), (4, Some(5), Read(0))], true),
            (&[(1, None, Write(1)), (2, Some(3), Read(1)), (4, Some(5), Read(0))], false),
            // What meets at a moment overlaps.
            (&[(1, Some(2), Write(1)), (2, Some(3), Read(0))], true),
            (&[(1, Some(2), Write(1)), (2, Some(3), Read(0)), (3, Some(4), Read(0))], false),
            // A value comes back only if it was written again.
            (&[(1, Some(2), Write(1)), (3, Some(4), Write(2)), (5, Some(6), Read(2)), (7, Some(8), Read(1))], false),
        ];
        for (calls, expected) in cases {
            let expected = if expected { Verdict::Linearizable } else { Verdict::NotLinearizable };
            assert_eq!(judge(calls), expected, "{calls:?}");
        }
    }

    #[test]
    fn a_search_that_takes_too_long_says_so() {
        let calls: Vec<_> = (0..6).map(|number| (number + 1, Some(100 + number), Access::Write(1))).collect();
        let impossible = (200, Some(201), Access::Read(7));
        assert_eq!(judge(&[calls, vec![impossible]].concat()), Verdict::NotLinearizable);
        let calls: Vec<_> = (0..40)
            .map(|number| {
                let write = Access::Write(u32::try_from(number).expect("small"));
                Call { begins: number + 1, ends: Some(100 + number), operation: write }
            })
            .chain([Call { begins: 200, ends: Some(201), operation: Access::Read(77) }])
            .collect();
        assert_eq!(check::<Register>(0, &calls, 1_000), Verdict::Undecided);
    }
}

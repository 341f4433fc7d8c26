//! Whether what clients saw of one tag can be told as one story (Wing and Gong's search, with Lowe's memory of what was
//! tried already).
//!
//! A tag is a register that holds a manifest or nothing. An operation takes effect at one moment between its call and its
//! answer; one whose answer is not known takes effect at any moment after its call, or never.

use std::collections::HashSet;

use tokio::time::Instant;

/// A manifest, by its number in this run.
pub(super) type Value = u32;

/// What a tag holds.
pub(super) type State = Option<Value>;

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Write(Value),
    /// `If-None-Match: *`.
    Create(Value),
    /// `If-Match`.
    Swap {
        from: Value,
        to: Value,
    },
    /// `If-Match: *`.
    Update(Value),
    Delete,
}

/// What it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// A precondition did not hold, or there was nothing to delete.
    Refused,
    Shown(State),
}

/// A request and what became of it. Reads without an answer are left out: they say nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) call: Call,
    pub(super) called: Instant,
    /// `None`: it may have been done, may be done yet, or never.
    pub(super) answer: Option<(Answer, Instant)>,
}

impl Operation {
    /// What the tag holds after it, if it can be answered so when the tag holds `state`.
    fn effect(&self, state: State) -> Option<State> {
        let answer = self.answer.map(|(answer, _)| answer);
        let (may_be_done, done) = match self.call {
            Call::Read => return (answer == Some(Answer::Shown(state))).then_some(state),
            Call::Write(value) => (true, Some(value)),
            Call::Create(value) => (state.is_none(), Some(value)),
            Call::Swap { from, to } => (state == Some(from) || state == Some(to), Some(to)),
            Call::Update(value) => (state.is_some(), Some(value)),
            Call::Delete => (state.is_some(), None),
        };
        match answer {
            Some(Answer::Refused) => (!may_be_done).then_some(state),
            _ => may_be_done.then_some(done),
        }
    }
}

/// Some operations of a history, by their numbers in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Set([u64; WORDS]);

const WORDS: usize = 8;
const BITS: usize = u64::BITS as usize;

/// The most operations on one tag that are judged together.
pub(super) const MOST: usize = WORDS * BITS;

impl Set {
    fn has(&self, at: usize) -> bool {
        self.0[at / BITS] & 1 << (at % BITS) != 0
    }

    fn with(mut self, at: usize) -> Self {
        self.0[at / BITS] |= 1 << (at % BITS);
        self
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, other)| own & other == *own)
    }
}

/// Whether some order explains the history of a tag that was absent when it began.
pub(super) fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() <= MOST, "{} operations on one tag", history.len());
    let answered = history.iter().enumerate().filter(|(_, operation)| operation.answer.is_some());
    let answered = answered.fold(Set::default(), |set, (at, _)| set.with(at));
    let mut tried = HashSet::new();
    let mut open = vec![(Set::default(), State::None)];
    while let Some((ordered, state)) = open.pop() {
        if answered.is_within(&ordered) {
            return true;
        }
        if !tried.insert((ordered, state)) {
            continue;
        }
        let left = |at: usize| !ordered.has(at);
        // Whatever is called after another one was answered comes after it.
        let answers = history.iter().enumerate().filter(|(at, _)| left(*at));
        let first_answer = answers.filter_map(|(_, operation)| Some(operation.answer?.1)).min();
        let next = history
            .iter()
            .enumerate()
            .filter(|(at, operation)| left(*at) && first_answer.is_none_or(|answered| operation.called <= answered));
        // What was answered is tried first, as it is pushed last.
        let (maybe, certain): (Vec<_>, Vec<_>) = next.partition(|(_, operation)| operation.answer.is_none());
        for (at, operation) in maybe.into_iter().chain(certain) {
            open.extend(operation.effect(state).map(|after| (ordered.with(at), after)));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::Duration;

    use super::*;

    /// Moments are seconds after this.
    fn at(moment: u64) -> Instant {
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(moment)
    }

    fn answered(call: Call, called: u64, answer: Answer, moment: u64) -> Operation {
        Operation { call, called: at(called), answer: Some((answer, at(moment))) }
    }

    fn done(call: Call, called: u64, moment: u64) -> Operation {
        answered(call, called, Answer::Done, moment)
    }

    fn refused(call: Call, called: u64, moment: u64) -> Operation {
        answered(call, called, Answer::Refused, moment)
    }

    fn shown(state: State, called: u64, moment: u64) -> Operation {
        answered(Call::Read, called, Answer::Shown(state), moment)
    }

    #[test]
    fn what_overlaps_may_be_in_any_order() {
        for state in [None, Some(1)] {
            assert!(is_linearizable(&[done(Call::Write(1), 0, 5), shown(state, 1, 2)]));
        }
        assert!(is_linearizable(&[done(Call::Write(1), 0, 5), done(Call::Write(2), 0, 5), shown(Some(1), 6, 7)]));
    }

    #[test]
    fn a_read_of_something_older_than_what_was_acknowledged_is_found() {
        let (first, second) = (done(Call::Write(1), 0, 1), done(Call::Write(2), 2, 3));
        assert!(is_linearizable(&[first, second, shown(Some(2), 4, 5)]));
        assert!(!is_linearizable(&[first, second, shown(Some(1), 4, 5)]));
        // One read sees the new value, a later one the old one, while the write is under way.
        let slow = done(Call::Write(2), 2, 9);
        assert!(!is_linearizable(&[first, slow, shown(Some(2), 3, 4), shown(Some(1), 5, 6)]));
        assert!(is_linearizable(&[first, slow, shown(Some(1), 3, 4), shown(Some(2), 5, 6)]));
    }

    #[test]
    fn a_write_without_an_answer_is_done_at_any_time_or_never() {
        let unanswered = Operation { call: Call::Write(2), called: at(2), answer: None };
        let first = done(Call::Write(1), 0, 1);
        assert!(is_linearizable(&[first, unanswered, shown(Some(1), 3, 4), shown(Some(2), 5, 6)]));
        assert!(is_linearizable(&[first, unanswered, shown(Some(1), 3, 4)]));
        assert!(!is_linearizable(&[first, unanswered, shown(Some(2), 3, 4), shown(Some(1), 5, 6)]));
        assert!(!is_linearizable(&[first, shown(Some(2), 1, 1), unanswered]), "nor before it is called");
    }

    #[test]
    fn only_one_of_two_that_exclude_each_other_is_done() {
        let swap = |to: Value| Call::Swap { from: 1, to };
        let begun = done(Call::Create(1), 0, 1);
        assert!(is_linearizable(&[begun, done(swap(2), 2, 4), refused(swap(3), 2, 4)]));
        assert!(!is_linearizable(&[begun, done(swap(2), 2, 4), done(swap(3), 2, 4)]));
        assert!(!is_linearizable(&[begun, refused(swap(2), 2, 3)]), "refused, though it holds");
        assert!(!is_linearizable(&[begun, done(Call::Create(4), 2, 3)]));
        let deleted = done(Call::Delete, 2, 3);
        assert!(is_linearizable(&[begun, deleted, done(Call::Create(4), 4, 5), done(Call::Delete, 6, 7)]));
        assert!(!is_linearizable(&[begun, deleted, shown(Some(1), 4, 5)]));
        assert!(is_linearizable(&[begun, done(Call::Update(4), 2, 3), shown(Some(4), 4, 5)]));
        assert!(!is_linearizable(&[begun, deleted, done(Call::Update(4), 4, 5)]));
        assert!(!is_linearizable(&[begun, refused(Call::Update(4), 2, 3)]), "refused, though there is something");
        // A compare-and-set that was applied twice, the first time unseen.
        assert!(!is_linearizable(&[begun, refused(swap(2), 2, 3), shown(Some(2), 4, 5)]));
    }
}

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
            Call::Swap { from, to } => (state == Some(from), Some(to)),
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
    use std::time::Duration;

    use super::*;

    /// A history of `(call, from, answer and to)`.
    fn judge(operations: &[(Call, u64, Option<(Answer, u64)>)]) -> bool {
        let start = Instant::now();
        let at = |moment: u64| start + Duration::from_secs(moment);
        let operation = |(call, called, answer): &(Call, u64, Option<(Answer, u64)>)| Operation {
            call: *call,
            called: at(*called),
            answer: answer.map(|(answer, moment)| (answer, at(moment))),
        };
        is_linearizable(&operations.iter().map(operation).collect::<Vec<_>>())
    }

    fn shows(state: State, moment: u64) -> Option<(Answer, u64)> {
        Some((Answer::Shown(state), moment))
    }

    fn done(moment: u64) -> Option<(Answer, u64)> {
        Some((Answer::Done, moment))
    }

    fn refused(moment: u64) -> Option<(Answer, u64)> {
        Some((Answer::Refused, moment))
    }

    #[test]
    fn what_overlaps_may_be_in_any_order() {
        for shown in [None, Some(1)] {
            assert!(judge(&[(Call::Write(1), 0, done(5)), (Call::Read, 1, shows(shown, 2))]));
        }
        assert!(judge(&[
            (Call::Write(1), 0, done(5)),
            (Call::Write(2), 0, done(5)),
            (Call::Read, 6, shows(Some(1), 7))
        ]));
    }

    #[test]
    fn a_read_of_something_older_than_what_was_acknowledged_is_found() {
        let stale = [(Call::Write(1), 0, done(1)), (Call::Write(2), 2, done(3)), (Call::Read, 4, shows(Some(1), 5))];
        assert!(!judge(&stale));
        // One read sees the new value, a later one the old one, while the write is under way.
        let back = [
            (Call::Write(1), 0, done(1)),
            (Call::Write(2), 2, done(9)),
            (Call::Read, 3, shows(Some(2), 4)),
            (Call::Read, 5, shows(Some(1), 6)),
        ];
        assert!(!judge(&back));
    }

    #[test]
    fn a_write_without_an_answer_is_done_at_any_time_or_never() {
        let unanswered = (Call::Write(2), 2, None);
        let before = (Call::Write(1), 0, done(1));
        assert!(judge(&[before, unanswered, (Call::Read, 3, shows(Some(1), 4)), (Call::Read, 5, shows(Some(2), 6))]));
        assert!(judge(&[before, unanswered, (Call::Read, 3, shows(Some(1), 4))]));
        let undone = [before, unanswered, (Call::Read, 3, shows(Some(2), 4)), (Call::Read, 5, shows(Some(1), 6))];
        assert!(!judge(&undone));
        assert!(!judge(&[before, (Call::Read, 1, shows(Some(2), 1)), unanswered]), "nor before it is called");
    }

    #[test]
    fn only_one_of_two_that_exclude_each_other_is_done() {
        let swap = |to: Value| Call::Swap { from: 1, to };
        let begun = (Call::Create(1), 0, done(1));
        assert!(judge(&[begun, (swap(2), 2, done(4)), (swap(3), 2, refused(4))]));
        assert!(!judge(&[begun, (swap(2), 2, done(4)), (swap(3), 2, done(4))]));
        assert!(!judge(&[begun, (swap(2), 2, refused(3))]), "refused, though it holds");
        assert!(!judge(&[begun, (Call::Create(4), 2, done(3))]));
        assert!(judge(&[begun, (Call::Delete, 2, done(3)), (Call::Create(4), 4, done(5)), (Call::Delete, 6, done(7))]));
        assert!(!judge(&[begun, (Call::Delete, 2, done(3)), (Call::Read, 4, shows(Some(1), 5))]));
        // A compare-and-set that was applied twice, the first time unseen.
        assert!(!judge(&[begun, (swap(2), 2, refused(3)), (Call::Read, 4, shows(Some(2), 5))]));
    }
}

//! Whether what clients saw of one tag can be told as one story: by the search that judges the simulation too.
//!
//! A tag is a register that holds a manifest or nothing. An operation takes effect at one moment between its call and its
//! answer; one whose answer is not known takes effect at any moment after its call, or never.

use std::time::Duration;

use roadstead_simulation::linearizability::{self, Model, Verdict};
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

/// What a search may cost: far above what it does.
const MOST_STEPS: u64 = 3_000_000;

/// A tag that clients meet on.
struct Register;

impl Model for Register {
    type State = State;
    type Operation = Operation;

    fn apply(state: &State, operation: &Operation) -> Option<State> {
        operation.effect(*state)
    }
}

/// Whether some order explains the history of a tag that was absent when it began.
pub(super) fn is_linearizable(history: &[Operation]) -> bool {
    let start = history.iter().map(|operation| operation.called).min();
    let nanos = |at: Instant| {
        let since = start.map_or(Duration::ZERO, |start| at - start);
        u64::try_from(since.as_nanos()).expect("a test ends within centuries")
    };
    let calls = history.iter().map(|operation| linearizability::Call {
        begins: nanos(operation.called),
        ends: operation.answer.map(|(_, at)| nanos(at)),
        operation: *operation,
    });
    match linearizability::check::<Register>(None, &calls.collect::<Vec<_>>(), MOST_STEPS) {
        Verdict::Linearizable => true,
        Verdict::NotLinearizable => false,
        Verdict::Undecided => panic!("whether an order explains {} operations was not found out", history.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

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

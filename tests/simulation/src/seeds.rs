//! The seeds that run in each test.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::history::Tally;
use crate::run::{Ended, Plan, run};

/// A minute's worth on two cores.
const SEEDS: u64 = 24;

/// Each with a runtime of its own.
const THREADS: u64 = 2;

/// Seeds of which two runs are compared.
const SEEDS_TWICE: u64 = 3;

pub(crate) fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// Says how to see it again.
fn explain(seed: u64) {
    eprintln!(
        "seed {seed} failed. To run it again, with every event in trace-{seed}.txt:\n    ROADSTEAD_SEED={seed} \
         ROADSTEAD_TRACE=1 cargo test --workspace --test simulation -- --nocapture every_promise_holds"
    );
}

/// Runs a seed; ends the test if a promise was broken.
fn hold(seed: u64) -> Tally {
    let keep_lines = number("ROADSTEAD_TRACE").is_some();
    let ended = catch_unwind(AssertUnwindSafe(|| run(Plan { keep_lines, ..Plan::of(seed) })));
    let Ended { violations, story, lines, tally } = ended.unwrap_or_else(|panic| {
        explain(seed);
        resume_unwind(panic)
    });
    if keep_lines {
        std::fs::write(format!("trace-{seed}.txt"), lines.join("\n")).expect("the trace is kept");
        eprintln!("seed {seed}: {story:?}");
    }
    if !violations.is_empty() {
        explain(seed);
        panic!("seed {seed}: {}", violations.join("\n"));
    }
    tally
}

#[test]
fn every_promise_holds_whatever_goes_wrong() {
    let (first, count) = match number("ROADSTEAD_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("ROADSTEAD_SEEDS").unwrap_or(SEEDS)),
    };
    let lane = move |thread: u64| {
        let mut tally = Tally::default();
        (first..first + count).filter(|seed| seed % THREADS == thread).for_each(|seed| tally.add(&hold(seed)));
        tally
    };
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || lane(thread))).collect();
        for lane in lanes {
            all.add(&lane.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    let rare: Vec<_> = all.fields().into_iter().filter(|(_, times)| **times < count).map(|(name, _)| name).collect();
    eprintln!("{count} seeds: {}", all.fields().map(|(name, times)| format!("{times} {name}")).join(", "));
    assert!(
        count < SEEDS || rare.len() <= RARE.len() && rare.iter().all(|name| RARE.contains(name)),
        "seldom: {rare:?}"
    );
}

/// What need not happen once in each seed.
const RARE: [&str; 3] = ["stale reads", "pushes given up", "conditions failed"];

#[test]
fn two_runs_of_a_seed_tell_the_same_story() {
    for seed in 0..SEEDS_TWICE {
        let plan = Plan { keep_lines: true, ..Plan::of(seed) };
        let (one, other) = (run(plan), run(plan));
        let differ = one.lines.iter().zip(&other.lines).position(|(one, other)| one != other);
        if let Some(at) = differ {
            let context = |lines: &[String]| lines[at.saturating_sub(5)..(at + 3).min(lines.len())].join("\n");
            panic!("seed {seed}: event {at} differs:\n{}\n---\n{}", context(&one.lines), context(&other.lines));
        }
        assert_eq!(one.story, other.story, "seed {seed}");
        assert!(one.story.events > 1_000, "a world in which little happens shows little: {:?}", one.story);
    }
}

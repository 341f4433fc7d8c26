//! The seeds that run in each test.

use std::time::Duration;

use crate::history::Tally;
use crate::run::{Ended, Plan, run};

/// As many as take a minute and a half on two cores.
const SEEDS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

fn fail(seed: u64, violations: &[String]) -> ! {
    panic!(
        "seed {seed}: {}\nto run it again:\n    ROADSTEAD_SEED={seed} cargo test --workspace --test simulation -- \
         every_promise_holds --nocapture",
        violations.join("\n")
    )
}

#[test]
fn every_promise_holds_whatever_goes_wrong() {
    let (first, count) = match number("ROADSTEAD_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("ROADSTEAD_SEEDS").unwrap_or(SEEDS)),
    };
    let mut all = Tally::default();
    for seed in first..first + count {
        let plan = Plan { keep_lines: number("ROADSTEAD_TRACE").is_some(), ..Plan::of(seed) };
        let Ended { violations, lines, tally, .. } = run(plan);
        if !lines.is_empty() {
            std::fs::write(format!("trace-{seed}.txt"), lines.join("\n")).expect("the trace is kept");
        }
        if !violations.is_empty() {
            fail(seed, &violations);
        }
        all.add(&tally);
    }
    let tally = all.fields().map(|(name, count)| format!("{count} {name}")).join(", ");
    eprintln!("{count} seeds: {tally}");
    let _ = Duration::ZERO;
}

#[test]
fn two_runs_of_a_seed_tell_the_same_story() {
    for seed in 0..4 {
        let plan = Plan { keep_lines: true, ..Plan::of(seed) };
        let (one, other) = (run(plan), run(plan));
        let differ = one.lines.iter().zip(&other.lines).position(|(one, other)| one != other);
        if let Some(at) = differ {
            let context = |lines: &[String]| lines[at.saturating_sub(5)..(at + 3).min(lines.len())].join("\n");
            panic!("seed {seed}: event {at} differs:\n{}\n---\n{}", context(&one.lines), context(&other.lines));
        }
        assert_eq!(one.story, other.story, "seed {seed}");
    }
}

//! The seeds of regions that run in each test.

use std::fs::{File, OpenOptions, read_to_string};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use super::run::{RegionsEnded, RegionsPlan, run};
use crate::history::{MirrorTally, Tally};
use crate::seeds::number;

/// Half a minute's worth on two cores.
const SEEDS: u64 = 8;

/// Each with a runtime of its own.
const THREADS: u64 = 2;

/// Seeds of which two runs are compared.
const SEEDS_TWICE: u64 = 1;

/// Says how to see it again.
fn explain(seed: u64) {
    eprintln!(
        "seed {seed} failed. To run it again, with every event in trace-regions-{seed}.txt:\n    ROADSTEAD_SEED={seed} \
         ROADSTEAD_TRACE=1 cargo test --workspace --test simulation -- --nocapture mirrors_are_whole_and_in_order"
    );
}

/// Runs a seed; ends the test if a promise was broken.
fn hold(seed: u64) -> (Tally, MirrorTally) {
    let keep_lines = number("ROADSTEAD_TRACE").is_some();
    let ended = catch_unwind(AssertUnwindSafe(|| run(RegionsPlan { keep_lines, ..RegionsPlan::of(seed) })));
    let RegionsEnded { violations, story, lines, tally, at_mirrors } = ended.unwrap_or_else(|panic| {
        explain(seed);
        resume_unwind(panic)
    });
    if keep_lines {
        std::fs::write(format!("trace-regions-{seed}.txt"), lines.join("\n")).expect("the trace is kept");
        eprintln!("seed {seed}: {story:?}");
    }
    if !violations.is_empty() {
        explain(seed);
        panic!("seed {seed}: {}", violations.join("\n"));
    }
    (tally, at_mirrors)
}

/// Seeds that have held before, which need not run again: a file with one a line (`ROADSTEAD_HELD`).
struct Held(Option<Mutex<File>>, Vec<u64>);

impl Held {
    fn open() -> Self {
        let Some(path) = std::env::var_os("ROADSTEAD_HELD").map(PathBuf::from) else { return Self(None, Vec::new()) };
        let former = read_to_string(&path).unwrap_or_default();
        let seeds = former.lines().filter_map(|line| line.parse().ok()).collect();
        let file = OpenOptions::new().create(true).append(true).open(&path).expect("the file of seeds that have held");
        Self(Some(Mutex::new(file)), seeds)
    }

    fn note(&self, seed: u64) {
        if let Some(file) = &self.0 {
            writeln!(file.lock(), "{seed}").expect("the seed is noted");
        }
    }
}

#[test]
fn mirrors_are_whole_and_in_order_whatever_goes_wrong() {
    let (first, count) = match number("ROADSTEAD_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("ROADSTEAD_SEEDS").unwrap_or(SEEDS)),
    };
    let (held, began) = (Held::open(), Instant::now());
    let most = number("ROADSTEAD_SECONDS").map(Duration::from_secs);
    let lane = |thread: u64| {
        let (mut tally, mut at_mirrors, mut ran) = (Tally::default(), MirrorTally::default(), 0);
        for seed in (first..first + count).filter(|seed| seed % THREADS == thread && !held.1.contains(seed)) {
            if most.is_some_and(|most| began.elapsed() > most) {
                break;
            }
            let (its, its_mirrors) = hold(seed);
            tally.add(&its);
            at_mirrors.add(its_mirrors);
            ran += 1;
            held.note(seed);
        }
        (tally, at_mirrors, ran)
    };
    let (mut all, mut at_mirrors, mut ran) = (Tally::default(), MirrorTally::default(), 0);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || lane(thread))).collect();
        for lane in lanes {
            let (its, its_mirrors, its_ran) = lane.join().unwrap_or_else(|panic| resume_unwind(panic));
            all.add(&its);
            at_mirrors.add(its_mirrors);
            ran += its_ran;
        }
    });
    let rare = at_mirrors.fields().into_iter().filter(|(name, times)| **times < ran && !RARE.contains(name));
    let rare: Vec<_> = rare.map(|(name, _)| name).collect();
    let (home, mirrors) = (all.fields().map(|(name, times)| format!("{times} {name}")), at_mirrors.fields());
    let mirrors = mirrors.map(|(name, times)| format!("{times} {name}"));
    eprintln!("{ran} seeds in {:?}: {}; at mirrors {}", began.elapsed(), home.join(", "), mirrors.join(", "));
    assert!(ran < SEEDS || rare.is_empty(), "seldom: {rare:?}");
}

/// What need not happen once in each seed.
const RARE: [&str; 5] = [
    "manifests not known yet",
    "pulls broken off",
    "pulls given up",
    "comparisons with home",
    "requests for what was here",
];

#[test]
fn two_runs_of_a_seed_of_regions_tell_the_same_story() {
    for seed in 0..SEEDS_TWICE {
        let plan = RegionsPlan { keep_lines: true, ..RegionsPlan::of(seed) };
        let (one, other) = (run(plan), run(plan));
        let differ = one.lines.iter().zip(&other.lines).position(|(one, other)| one != other);
        if let Some(at) = differ {
            let context = |lines: &[String]| lines[at.saturating_sub(5)..(at + 3).min(lines.len())].join("\n");
            panic!("seed {seed}: event {at} differs:\n{}\n---\n{}", context(&one.lines), context(&other.lines));
        }
        assert_eq!(one.story, other.story, "seed {seed}");
        assert!(one.story.events > 1_000, "a world in which little happens shows little: {:?}", one.story);
        assert!(one.at_mirrors.images > 0, "nothing was pulled: {:?}", one.at_mirrors);
    }
}

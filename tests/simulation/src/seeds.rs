//! The seeds that run in each test.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, read_to_string};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::history::Tally;
use crate::run::{Ended, Plan, run};

/// A minute's worth on two cores.
const SEEDS: u64 = 24;

/// Each with a runtime of its own.
const THREADS: u64 = 2;

/// Seeds of which two runs are compared.
const SEEDS_TWICE: u64 = 3;

/// Worlds that are made alike.
pub(crate) trait Kind {
    /// The test that runs their seeds.
    const TEST: &'static str;
    /// What the files are called that their traces are kept in, before the seed.
    const TRACE: &'static str;
    /// What is counted in them.
    type Tally: Default + Send;

    fn run(seed: u64, keep_lines: bool) -> Ended<Self::Tally>;

    fn add(all: &mut Self::Tally, one: Self::Tally);
}

/// How the worlds of a test ended.
pub(crate) struct Ran<T> {
    pub(crate) seeds: u64,
    pub(crate) took: Duration,
    pub(crate) tally: T,
}

pub(crate) fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// Says how to see it again.
fn explain<K: Kind>(seed: u64) {
    eprintln!(
        "seed {seed} failed. To run it again, with every event in {}-{seed}.txt:\n    ROADSTEAD_SEED={seed} \
         ROADSTEAD_TRACE=1 cargo test --workspace --test simulation -- --nocapture {}",
        K::TRACE,
        K::TEST
    );
}

/// Runs a seed; ends the test if a promise was broken.
fn hold<K: Kind>(seed: u64) -> K::Tally {
    let keep_lines = number("ROADSTEAD_TRACE").is_some();
    let ended = catch_unwind(AssertUnwindSafe(|| K::run(seed, keep_lines)));
    let Ended { violations, story, lines, tally } = ended.unwrap_or_else(|panic| {
        explain::<K>(seed);
        resume_unwind(panic)
    });
    if keep_lines {
        std::fs::write(format!("{}-{seed}.txt", K::TRACE), lines.join("\n")).expect("the trace is kept");
        eprintln!("seed {seed}: {story:?}");
    }
    if !violations.is_empty() {
        explain::<K>(seed);
        panic!("seed {seed}: {}", violations.join("\n"));
    }
    tally
}

/// Seeds that have held before, which need not run again: a file with one a line (`ROADSTEAD_HELD`).
#[derive(Default)]
struct Held {
    file: Option<Mutex<File>>,
    before: BTreeSet<u64>,
}

impl Held {
    fn open() -> Self {
        let Some(path) = std::env::var_os("ROADSTEAD_HELD").map(PathBuf::from) else { return Self::default() };
        let former = read_to_string(&path).unwrap_or_default();
        let before = former.lines().filter_map(|line| line.parse().ok()).collect();
        let file = OpenOptions::new().create(true).append(true).open(&path).expect("the file of seeds that have held");
        Self { file: Some(Mutex::new(file)), before }
    }

    fn note(&self, seed: u64) {
        if let Some(file) = &self.file {
            writeln!(file.lock(), "{seed}").expect("the seed is noted");
        }
    }
}

/// Runs so many seeds, or those that the environment names.
pub(crate) fn run_all<K: Kind>(seeds: u64) -> Ran<K::Tally> {
    let (first, count) = match number("ROADSTEAD_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("ROADSTEAD_SEEDS").unwrap_or(seeds)),
    };
    let (held, began) = (Held::open(), Instant::now());
    let most = number("ROADSTEAD_SECONDS").map(Duration::from_secs);
    let all = Mutex::new(Ran { seeds: 0, took: Duration::ZERO, tally: K::Tally::default() });
    let lane = |thread: u64| {
        for seed in (first..first + count).filter(|seed| seed % THREADS == thread && !held.before.contains(seed)) {
            if most.is_some_and(|most| began.elapsed() > most) {
                break;
            }
            let tally = hold::<K>(seed);
            let mut all = all.lock();
            K::add(&mut all.tally, tally);
            all.seeds += 1;
            held.note(seed);
        }
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || lane(thread))).collect();
        for lane in lanes {
            lane.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    Ran { took: began.elapsed(), ..all.into_inner() }
}

/// Runs a seed twice; how the first run ended, if the other told the same story.
pub(crate) fn run_twice<K: Kind>(seed: u64) -> Ended<K::Tally> {
    let (one, other) = (K::run(seed, true), K::run(seed, true));
    let differ = one.lines.iter().zip(&other.lines).position(|(one, other)| one != other);
    if let Some(at) = differ {
        let context = |lines: &[String]| lines[at.saturating_sub(5)..(at + 3).min(lines.len())].join("\n");
        panic!("seed {seed}: event {at} differs:\n{}\n---\n{}", context(&one.lines), context(&other.lines));
    }
    assert_eq!(one.story, other.story, "seed {seed}");
    assert!(one.story.events > 1_000, "a world in which little happens shows little: {:?}", one.story);
    one
}

/// What was counted, in words.
pub(crate) fn words<const N: usize>(fields: [(&'static str, &mut u64); N]) -> String {
    fields.map(|(name, times)| format!("{times} {name}")).join(", ")
}

/// Homes of three or five replicas.
struct Clusters;

impl Kind for Clusters {
    const TEST: &'static str = "every_promise_holds";
    const TRACE: &'static str = "trace";
    type Tally = Tally;

    fn run(seed: u64, keep_lines: bool) -> Ended<Tally> {
        run(Plan { keep_lines, ..Plan::of(seed) })
    }

    fn add(all: &mut Tally, one: Tally) {
        all.add(one);
    }
}

#[test]
fn every_promise_holds_whatever_goes_wrong() {
    let Ran { seeds, took, mut tally } = run_all::<Clusters>(SEEDS);
    let rare: Vec<_> = tally.fields().into_iter().filter(|(_, times)| **times < seeds).map(|(name, _)| name).collect();
    eprintln!("{seeds} seeds in {took:?}: {}", words(tally.fields()));
    assert!(
        seeds < SEEDS || rare.len() <= RARE.len() && rare.iter().all(|name| RARE.contains(name)),
        "seldom: {rare:?}"
    );
}

/// What need not happen once in each seed.
const RARE: [&str; 3] = ["stale reads", "pushes given up", "conditions failed"];

#[test]
fn two_runs_of_a_seed_tell_the_same_story() {
    for seed in 0..SEEDS_TWICE {
        run_twice::<Clusters>(seed);
    }
}

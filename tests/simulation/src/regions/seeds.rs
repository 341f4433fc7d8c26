//! The seeds of regions that run in each test.

use super::run::{RegionsPlan, RegionsTally, run};
use crate::run::Ended;
use crate::seeds::{Kind, Ran, run_all, run_twice, words};

/// Half a minute's worth on two cores.
const SEEDS: u64 = 8;

/// Seeds of which two runs are compared.
const SEEDS_TWICE: u64 = 1;

/// A home and its mirrors.
struct Regions;

impl Kind for Regions {
    const TEST: &'static str = "mirrors_are_whole_and_in_order";
    const TRACE: &'static str = "trace-regions";
    type Tally = RegionsTally;

    fn run(seed: u64, keep_lines: bool) -> Ended<RegionsTally> {
        run(RegionsPlan { keep_lines, ..RegionsPlan::of(seed) })
    }

    fn add(all: &mut RegionsTally, one: RegionsTally) {
        all.home.add(one.home);
        all.at_mirrors.add(one.at_mirrors);
    }
}

#[test]
fn mirrors_are_whole_and_in_order_whatever_goes_wrong() {
    let Ran { seeds, took, tally: RegionsTally { mut home, mut at_mirrors } } = run_all::<Regions>(SEEDS);
    let rare = at_mirrors.fields().into_iter().filter(|(name, times)| **times < seeds && !RARE.contains(name));
    let rare: Vec<_> = rare.map(|(name, _)| name).collect();
    eprintln!("{seeds} seeds in {took:?}: {}; at mirrors {}", words(home.fields()), words(at_mirrors.fields()));
    assert!(seeds < SEEDS || rare.is_empty(), "seldom: {rare:?}");
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
        let tally = run_twice::<Regions>(seed).tally;
        assert!(tally.at_mirrors.images > 0, "nothing was pulled: {:?}", tally.at_mirrors);
    }
}

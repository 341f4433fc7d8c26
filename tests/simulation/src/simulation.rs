//! Whole clusters in one thread, with the real facts, verbs and uploads; each run repeats itself by its seed.
//!
//! ```text
//! clients --> verbs of domain --> metadata (openraft, redb) --> SimulatedDisk         adversary: kills, power cuts,
//!    |              |                  '-- SimulatedNetwork <--> other replicas       stalls, partitions, clocks,
//!  history          '-- BucketOf --> faulty store --> memory                          bucket faults, members
//!    '--> promises: one file each, checked at every answer and when everything has healed
//! ```
//!
//! `ROADSTEAD_SEED` runs one seed, `ROADSTEAD_SEEDS` so many from the first on. They go on where they ended: `ROADSTEAD_HELD`
//! names a file of the seeds that have held, and `ROADSTEAD_SECONDS` says how long they may run.

// The futures of whole worlds are that deep.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on ends by saying why"
)]

mod adversary;
mod bugs;
mod client;
mod history;
mod mutants;
mod promises;
mod random;
mod regions;
mod run;
mod scenarios;
mod seeds;
mod trace;
mod universe;
mod upgrades;
mod world;

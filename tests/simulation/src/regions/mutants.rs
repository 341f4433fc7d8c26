//! Each bug of mirrors that was put back is caught, and by the promise that it breaks.

use super::adversary::Mishap;
use super::run::{RegionsPlan, run};
use crate::bugs::Bugs;
use crate::mutants::is_caught_in;

/// Worlds in which a bug may stay hidden.
const SEEDS: u64 = 30;

/// Runs worlds that are fond of what brings the bug to light, until a violation of this promise.
fn is_caught(name: &str, bugs: Bugs, fond_of: Mishap, promise: &str) {
    let violations = |seed| run(RegionsPlan { bugs, fond_of: Some(fond_of), ..RegionsPlan::of(seed) }).violations;
    is_caught_in(SEEDS, name, &[promise], violations);
}

#[test]
fn p8_a_tag_that_is_shown_before_its_blobs_are_there_is_caught() {
    let bugs = Bugs { announces_no_blobs: true, ..Bugs::default() };
    is_caught("a tag shown before its blobs", bugs, Mishap::Cut, "P8");
}

#[test]
fn p9_a_deletion_that_is_applied_after_a_newer_push_is_caught() {
    let bugs = Bugs { hears_deletions_late: true, ..Bugs::default() };
    is_caught("a deletion applied late", bugs, Mishap::Cut, "P9");
}

#[test]
fn p9_a_cursor_that_is_ahead_of_what_is_durable_is_caught() {
    let bugs = Bugs { hands_over_once: true, ..Bugs::default() };
    is_caught("a cursor ahead of its effects", bugs, Mishap::Kill, "P9");
}

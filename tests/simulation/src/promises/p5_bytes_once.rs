//! P5: memory for content in transit is bounded, and no byte of it goes to the bucket twice but the tails of requests.

use std::sync::atomic::Ordering;

use crate::run::World;
use crate::world::replica::{MEMORY_BUDGET, PART_SIZE};

pub(super) fn check(world: &World) -> Result<(), String> {
    for traffic in world.cluster.traffic() {
        let peak = traffic.peak.load(Ordering::Relaxed);
        if peak > MEMORY_BUDGET {
            return Err(format!("P5: {peak} bytes were on their way at once, and {MEMORY_BUDGET} may be"));
        }
    }
    let written: u64 = world.cluster.traffic().iter().map(|traffic| traffic.written.load(Ordering::Relaxed)).sum();
    // A request writes what it brings, and again at most the tail that the one before it left.
    let most = world.history.with(|records| records.sent + records.requests * PART_SIZE);
    if written > most {
        return Err(format!("P5: {written} bytes were written of requests that can account for {most}"));
    }
    Ok(())
}

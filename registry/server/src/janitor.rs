//! When the registry cleans up behind pushes. What that means is in `domain`.

use std::sync::Arc;
use std::time::Duration;

use roadstead_domain::{Registry, Swept};
use roadstead_metadata::Role;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::tasks::TaskResult;

/// The bytes of a push that failed are promised to be gone within a minute.
const SWEEP: Duration = Duration::from_secs(10);

/// Between full batches of 64: some 15,000 deletes a minute, and pushes get their turns in between.
const NEXT_BATCH: Duration = Duration::from_millis(250);

/// Multipart uploads that no fact names are a day old before they are touched; an hour more is nothing.
const SWEEP_MULTIPARTS: Duration = Duration::from_hours(1);

/// Sweeps until `stop`. A failure ends the run: the supervisor makes the next one.
pub(crate) async fn run(registry: Arc<Registry>, metrics: Arc<Metrics>, stop: CancellationToken) -> TaskResult {
    let [mut sweeps, mut multiparts] = [SWEEP, SWEEP_MULTIPARTS].map(|period| {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    loop {
        registry.look_at_the_clock();
        // What nothing names here may be another registry's.
        if !registry.owns_store() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = sweeps.tick() => continue,
            }
        }
        let swept = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = sweeps.tick() => if leads(&registry) { registry.sweep().await? } else { Swept::default() },
            _ = multiparts.tick(), if leads(&registry) => match registry.sweep_multiparts().await {
                Ok(swept) => swept,
                // Some stores do not let us list; the other sweeps go on.
                Err(error) => {
                    warn!(reason = %error, "multipart uploads that no fact names were not looked for: {error}");
                    Swept::default()
                }
            },
        };
        let Swept { unlinked, condemned, objects, multiparts, more } = swept;
        metrics.collected_blobs.inc_by(condemned.into());
        metrics.deleted_objects.inc_by(objects as u64);
        if u64::from(unlinked) + u64::from(condemned) + objects as u64 + multiparts as u64 > 0 {
            info!(unlinked, condemned, objects, multiparts, "swept what nothing names any more");
        }
        if more {
            sweeps.reset_after(NEXT_BATCH);
        }
    }
}

/// One replica is enough to sweep for all.
fn leads(registry: &Registry) -> bool {
    registry.metadata().status().role == Role::Leader
}

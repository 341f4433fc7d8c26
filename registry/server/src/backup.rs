//! When the backup is written. What that means is in `domain`.

use std::sync::Arc;
use std::time::Duration;

use roadstead_domain::{ClaimError, Registry, ShipError, Shipped};
use roadstead_metadata::Role;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::tasks::TaskResult;

/// Between the beginnings of two objects of the log, unless the first is full: what is applied is in the store within a
/// second if that takes a quarter of one, and a month of steady work costs some three million writes.
const PACE: Duration = Duration::from_millis(750);

/// A segment of this many bytes is full enough that the next one goes at once: the store is slower than the work is.
const FULL: u64 = 1 << 20;

/// After a failure, or where there is nothing to ship from: the store has its own retries.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often it is asked whether a snapshot is due.
const SNAPSHOTS: Duration = Duration::from_secs(10);

/// What the retention lets go is looked for beside each snapshot, too.
const PRUNE: Duration = Duration::from_hours(1);

/// How often it is looked whether the store is still this registry's: a restore is noticed within a minute.
const WATCH: Duration = Duration::from_secs(30);

/// The same until it was found out.
const FIRST_WATCH: Duration = Duration::from_secs(2);

/// Ships what is applied until `stop`, on the leader.
pub(crate) async fn ship(registry: Arc<Registry>, metrics: Arc<Metrics>, stop: CancellationToken) -> TaskResult {
    let mut applied = registry.metadata().subscribe_applied();
    let mut failing = false;
    while !stop.is_cancelled() {
        let began = Instant::now();
        if !leads(&registry) || !registry.owns_store() {
            if leads(&registry) {
                registry.await_store();
            } else {
                registry.forget_shipped();
            }
            rest(began + LOOK_AGAIN, &stop).await;
            continue;
        }
        applied.borrow_and_update();
        match registry.ship().await {
            Ok(shipped) => {
                if std::mem::take(&mut failing) {
                    info!("the backup goes on");
                }
                count(&metrics, shipped);
                pause(shipped, began, &mut applied, &stop).await;
            }
            Err(error @ ShipError::SetBack { .. }) => return Err(error.into()),
            Err(error) => {
                metrics.backup_failures.inc();
                if !std::mem::replace(&mut failing, true) {
                    warn!(reason = %error, "the backup cannot be written, and what it has to say waits in the log: {error}");
                }
                rest(began + LOOK_AGAIN, &stop).await;
            }
        }
    }
    Ok(())
}

/// One replica is enough to write for all.
fn leads(registry: &Registry) -> bool {
    registry.metadata().status().role == Role::Leader
}

fn count(metrics: &Metrics, shipped: Shipped) {
    if let Some(bytes) = shipped.written {
        metrics.backup_segments.inc();
        metrics.backup_bytes.inc_by(bytes);
    }
}

/// Until there is more to ship, and it is time for it.
async fn pause(shipped: Shipped, began: Instant, applied: &mut watch::Receiver<u64>, stop: &CancellationToken) {
    if shipped.more && shipped.written.is_none_or(|bytes| bytes >= FULL) {
        return;
    }
    if shipped.written.is_some() {
        rest(began + PACE, stop).await;
    }
    if !shipped.more {
        tokio::select! {
            () = stop.cancelled() => {}
            // An error is a replica that has ended, which stops the process.
            changed = applied.changed() => if changed.is_err() { stop.cancelled().await },
        }
    }
}

async fn rest(until: Instant, stop: &CancellationToken) {
    // Either way it is time to look again.
    let _ = timeout_at(until, stop.cancelled()).await;
}

/// Ships what was applied since, at the end of the process.
pub(crate) async fn ship_rest(registry: &Registry) {
    if !registry.owns_store() || !leads(registry) {
        return;
    }
    loop {
        match registry.ship().await {
            Ok(Shipped { more: true, .. }) => {}
            Ok(_) => return,
            Err(error) => {
                warn!(reason = %error, "the last changes are not in the backup yet; the next start ships them: {error}");
                return;
            }
        }
    }
}

/// Writes snapshots as they become due, and deletes what the retention lets go, until `stop`.
pub(crate) async fn snapshots(registry: Arc<Registry>, metrics: Arc<Metrics>, stop: CancellationToken) -> TaskResult {
    let [mut looks, mut prunes] = [SNAPSHOTS, PRUNE].map(|period| {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = looks.tick() => if !leads(&registry) || !registry.snapshot_is_due().await? { continue },
            _ = prunes.tick(), if leads(&registry) => {
                registry.prune_backup().await?;
                continue;
            }
        }
        let taken = tokio::select! {
            // A snapshot may take longer than the process may take to end; the next start takes another one.
            () = stop.cancelled() => return Ok(()),
            taken = registry.take_snapshot() => taken?,
        };
        metrics.backup_snapshots.inc();
        metrics.backup_bytes.inc_by(taken.size);
        registry.prune_backup().await?;
    }
}

/// Ends with an error when the store has become another registry's, so that the process stops.
pub(crate) async fn watch_store(registry: Arc<Registry>) -> TaskResult {
    loop {
        let period = if registry.owns_store() { WATCH } else { FIRST_WATCH };
        let mut ticks = interval(period);
        ticks.tick().await; // at once
        ticks.tick().await;
        match registry.check_store().await {
            Ok(()) => {}
            // It is away, and whoever uses it says so.
            Err(ClaimError::Fault(fault)) if fault.is_transient() => {
                debug!(reason = %fault, "the store was not looked at");
            }
            Err(ClaimError::Fault(fault)) => warn!(reason = %fault, "the store could not be looked at: {fault}"),
            Err(error) => return Err(format!("{error}; {}", error.advice()).into()),
        }
    }
}

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::r01_mirror::{in_sync, with_mirror};
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{OPERATOR, World};

/// What the operator does not do in this time, it does not do.
const WATCHED: Duration = Duration::from_mins(1);

#[tokio::test]
#[ignore = "make e2e"]
async fn b11_in_steady_state_nothing_is_written_but_the_lease() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("11 steady state");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b11", "home");
    registry.create().await?;
    registry.has_voters(3).await?;
    watch.lap("three voters");
    let of_one = with_mirror(&Registry::new(&world, "b11", "single"));
    registry.change(json!({"mirrors": of_one["spec"]["mirrors"]})).await?;
    in_sync(&Registry::new(&world, "b11", "home-near")).await?;
    watch.lap("and a mirror that is in sync");
    // Once it has nothing left to say of how it came to be so.
    let mut tick = tokio::time::interval(WATCHED / 4);
    tick.tick().await;
    tick.tick().await;
    let before = writes(&world)?;
    for _ in 0..4 {
        tick.tick().await;
    }
    let after = writes(&world)?;
    let new = after.into_iter().filter_map(|(what, count)| {
        let more = count - before.get(&what).copied().unwrap_or_default();
        (more > 0).then_some((what, more))
    });
    let (leases, others): (BTreeMap<_, _>, BTreeMap<_, _>) = new.partition(|(what, _)| what.contains(" leases/"));
    watch.lap(&format!("{} writes of the Lease, and {others:?}", leases.values().sum::<usize>()));
    ensure!(!leases.is_empty(), "the audit log has none of the operator's writes");
    ensure!(others.is_empty(), "written in {WATCHED:?}: {others:?}");
    world.remove_namespace("b11").await
}

/// What the operator has written so far, by the audit log.
fn writes(world: &World) -> Result<BTreeMap<String, usize>> {
    let account = format!("system:serviceaccount:{OPERATOR}:roadstead");
    let mut writes = BTreeMap::new();
    let log = std::fs::read_to_string(world.cluster.site().audit_log())?;
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if event["user"]["username"] == account.as_str() {
            let object = &event["objectRef"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let what = format!(
                "{} {}/{} {}",
                text(&event["verb"]),
                text(&object["resource"]),
                text(&object["subresource"]),
                text(&object["name"])
            );
            *writes.entry(what).or_default() += 1;
        }
    }
    Ok(writes)
}

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::figures::Figures;
use crate::r01_mirror::{in_sync, with_mirror};
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{OPERATOR, World};

/// What the operator does not do in this time, it does not do.
const WATCHED: Duration = Duration::from_mins(1);

/// Of the time that is watched.
const QUARTERS: u32 = 4;

/// What is asked of the API server for one look.
const MOST_CALLS: f64 = 12.0;

/// After so many, there has been no time without writes.
const MOST_QUARTERS: u32 = 20;

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
    // A pod that is slow to answer its probe on a busy machine is written of, rightly; what is written again and again leaves
    // no such minute.
    let mut tick = tokio::time::interval(WATCHED / QUARTERS);
    tick.tick().await;
    let (mut quiet, mut quarters, mut leases) = (0, 0, 0);
    let mut before = writes(&world)?;
    let mut looked = Figures::now(&world).await?;
    while quiet < QUARTERS {
        tick.tick().await;
        quarters += 1;
        let after = writes(&world)?;
        let (of_the_lease, others) = between(&before, &after);
        (quiet, leases) = if others.is_empty() { (quiet + 1, leases + of_the_lease) } else { (0, 0) };
        if quiet == 0 {
            looked = Figures::now(&world).await?;
        }
        ensure!(quarters < MOST_QUARTERS, "no minute without writes, at last of {others:?}");
        before = after;
    }
    let seen = Figures::now(&world).await?.since(&looked);
    let (looks, calls) = (seen.looks(), seen.calls() / seen.looks());
    watch.lap(&format!(
        "in {WATCHED:?} {leases} writes of the Lease, and no other; {looks} looks of {calls:.1} API calls each"
    ));
    ensure!(looks > 0.0 && calls <= MOST_CALLS, "{calls} API calls for each of {looks} looks at a Registry");
    ensure!(leases > 0, "the audit log has none of the operator's writes");
    world.remove_namespace("b11").await
}

/// How often the Lease was written in between, and what else was.
fn between(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> (usize, BTreeMap<String, usize>) {
    let more = |(what, count): (&String, &usize)| {
        let more = count - before.get(what).copied().unwrap_or_default();
        (more > 0).then(|| (what.clone(), more))
    };
    let (leases, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        after.iter().filter_map(more).partition(|(what, _)| what.contains(" leases/"));
    (leases.values().sum(), others)
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

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn b04_scaling_to_five_and_back_loses_nothing_and_uses_no_node_id_twice() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("4 scale 3-5-3 under load");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b04", "home");
    registry.create().await?;
    watch.lap("three voters");
    let ledger = Ledger::new(registry.client().await?);
    // Node id -> the volume that has it, over all times.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for replicas in [3, 5, 3, 5, 3] {
        let scaled = ledger.during(async {
            registry.change(json!({"replicas": replicas})).await?;
            registry.has_voters(replicas).await
        });
        let members = scaled.await?.members();
        ensure!(members.len() == replicas, "the members are {members:?}");
        for (node, pod) in members {
            let volume = volume_of(&world, &registry, &pod).await?;
            let first = seen.entry(node.clone()).or_insert_with(|| volume.clone());
            ensure!(*first == volume, "node {node} was on volume {first}, and is on {volume}");
        }
        watch.lap(&format!("{replicas} voters; {}", ledger.figures()));
    }
    // Whoever left came back as somebody else.
    ensure!(seen.len() == 7, "the nodes over all times are {seen:?}");
    world.remove_namespace("b04").await
}

async fn volume_of(world: &World, registry: &Registry<'_>, pod: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/data-{pod}", registry.namespace);
    Ok(world.cluster.api().get(&path).await?["metadata"]["uid"].to_string())
}

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::until;
use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

/// How often it is scaled up and down.
const CYCLES: usize = 10;

#[tokio::test]
#[ignore = "make e2e"]
async fn b04_scaling_to_five_and_back_ten_times_loses_nothing_and_uses_no_node_id_twice() {
    report(cycles().await);
}

async fn cycles() -> Result<()> {
    let mut watch = Stopwatch::start("4 scale 3-5-3 ten times under load");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b04", "home");
    registry.create().await?;
    watch.lap("three voters");
    let ledger = Ledger::new(registry.client().await?);
    // Node id -> the volume that has it, over all times.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for cycle in 1..=CYCLES {
        let scaled = ledger.during(async {
            for replicas in [5, 3] {
                registry.change(json!({"replicas": replicas})).await?;
                let members = registry.has_voters(replicas).await?.members();
                ensure!(members.len() == replicas, "the members are {members:?}");
                for (node, pod) in members {
                    let volume = volume_of(&world, &registry, &pod).await?;
                    let first = seen.entry(node.clone()).or_insert_with(|| volume.clone());
                    ensure!(*first == volume, "node {node} was on volume {first}, and is on {volume}");
                }
            }
            Ok(())
        });
        scaled.await?;
        watch.lap(&format!("cycle {cycle}: {} nodes so far; {}", seen.len(), ledger.figures()));
        // Whoever left came back as somebody else.
        ensure!(seen.len() == 3 + 2 * cycle, "after {cycle} cycles the nodes over all times are {seen:?}");
    }
    world.remove_namespace("b04").await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn b04_replicas_scaled_by_hand_are_put_right_and_nothing_is_lost() {
    report(by_hand().await);
}

async fn by_hand() -> Result<()> {
    let mut watch = Stopwatch::start("4 the StatefulSet of the voters scaled by hand, under load");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b04-hand", "home");
    registry.create().await?;
    let before = registry.has_voters(3).await?;
    let volumes = volumes(&world, &registry, &before).await?;
    watch.lap("three voters");
    let ledger = Ledger::new(registry.client().await?);
    for replicas in [5, 1, 0] {
        let generation = set(&world, &registry).await?["metadata"]["generation"].as_u64().context("a generation")?;
        ledger
            .during(async {
                let scale = format!("scale statefulset home --namespace b04-hand --replicas {replicas}");
                world.cluster.kubectl()?.args(&scale).output().await?;
                until("it has three replicas again", PATIENCE, async || put_right(&world, &registry, generation).await)
                    .await?;
                registry.has_voters(3).await
            })
            .await?;
        let after = registry.has_voters(3).await?;
        let members = (before.members(), after.members());
        ensure!(members.0 == members.1, "the members were {:?}, and are {:?}", members.0, members.1);
        ensure!(after.cluster_id() == before.cluster_id(), "it is another cluster");
        let now = self::volumes(&world, &registry, &after).await?;
        ensure!(now == volumes, "the volumes were {volumes:?}, and are {now:?}");
        watch.lap(&format!("scaled to {replicas}, and put right: the same nodes; {}", ledger.figures()));
    }
    let claims = world.cluster.api().list("/api/v1/namespaces/b04-hand/persistentvolumeclaims").await?.len();
    ensure!(claims == 3, "there are {claims} volumes");
    world.remove_namespace("b04-hand").await
}

/// Whether the StatefulSet was scaled, by hand and back, and what it had to do of that is done.
async fn put_right(world: &World, registry: &Registry<'_>, generation: u64) -> Result<()> {
    let set = set(world, registry).await?;
    let (now, seen) = (&set["metadata"]["generation"], &set["status"]["observedGeneration"]);
    ensure!(
        now == seen && now.as_u64() > Some(generation + 1),
        "it is at {now}, was at {generation}, and seen at {seen}"
    );
    ensure!(set["spec"]["replicas"] == 3, "it has {} replicas", set["spec"]["replicas"]);
    let pods = registry.pods().await?;
    let serves = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let is_ready = |is: &Value| is["type"] == "Ready" && is["status"] == "True";
        pod["metadata"]["deletionTimestamp"].is_null() && conditions.into_iter().flatten().any(is_ready)
    };
    let serving = pods.iter().filter(|pod| serves(pod)).count();
    ensure!(pods.len() == 3 && serving == 3, "{serving} of {} pods serve", pods.len());
    Ok(())
}

async fn set(world: &World, registry: &Registry<'_>) -> Result<Value> {
    let path = format!("/apis/apps/v1/namespaces/{}/statefulsets/{}", registry.namespace, registry.name);
    world.cluster.api().get(&path).await
}

/// The volume of each member.
async fn volumes(world: &World, registry: &Registry<'_>, status: &Status) -> Result<BTreeMap<String, String>> {
    let mut volumes = BTreeMap::new();
    for (node, pod) in status.members() {
        volumes.insert(node, volume_of(world, registry, &pod).await?);
    }
    Ok(volumes)
}

async fn volume_of(world: &World, registry: &Registry<'_>, pod: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/data-{pod}", registry.namespace);
    Ok(world.cluster.api().get(&path).await?["metadata"]["uid"].to_string())
}

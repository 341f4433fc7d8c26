use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::Site;

use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

#[tokio::test]
#[ignore = "make e2e"]
async fn b07_two_drains_at_once_cost_no_quorum_and_the_second_one_waits() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("7 two nodes are drained at once under load");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b07", "home");
    registry.create().await?;
    registry.has_voters(3).await?;
    watch.lap("three voters, one on each node");
    let ledger = Ledger::new(registry.client().await?);
    let drained = ledger
        .during(async {
            tokio::select! {
                drained = drain(&world, 1) => { drained?; both(&world, &registry, 1, 2).await }
                drained = drain(&world, 2) => { drained?; both(&world, &registry, 2, 1).await }
            }
        })
        .await;
    // Whatever came of it, other tests need the nodes.
    for node in world.cluster.nodes() {
        uncordon(&world, node).await?;
    }
    drained?;
    watch.lap(&format!("both were drained, one after the other; {}", ledger.figures()));
    registry.has_voters(3).await?;
    watch.lap("uncordoned: three voters");
    world.remove_namespace("b07").await
}

/// One is drained. The other one must not be until the first one's replica votes again.
async fn both(world: &World, registry: &Registry<'_>, first: u8, second: u8) -> Result<()> {
    let replicas = registry.pods().await?;
    let on_second = replicas.iter().filter(|pod| pod["spec"]["nodeName"] == Site::node_name(second).as_str());
    let stays = on_second.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).count();
    ensure!(stays == 1, "the second drain did not wait: {stays} replicas stay on node {second}");
    let why = registry.event("DrainWaits").await?;
    ensure!(why.contains(&Site::node_name(second)) && why.contains("serves again"), "it is told why: {why}");
    uncordon(world, first).await?;
    drain(world, second).await.context("the second drain goes on once it is safe")
}

/// The volumes of replicas are on their nodes, so that a replica waits for its node to come back.
async fn drain(world: &World, node: u8) -> Result<()> {
    let within = format!("--timeout={}s", PATIENCE.as_secs());
    let drain = world.cluster.kubectl()?.args("drain --ignore-daemonsets --delete-emptydir-data --force").arg(within);
    drain.arg(Site::node_name(node)).output().await.map(drop)
}

async fn uncordon(world: &World, node: u8) -> Result<()> {
    world.cluster.kubectl()?.arg("uncordon").arg(Site::node_name(node)).output().await.map(drop)
}

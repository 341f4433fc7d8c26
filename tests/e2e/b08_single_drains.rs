use anyhow::{Context as _, Result};
use serde_json::json;

use crate::r01_mirror::pulls;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn b08_the_node_of_a_single_replica_drains() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("8 the node of a registry of one replica is drained");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b08", "home");
    world.namespace("b08", "restricted").await?;
    let mut object = registry.eight_lines();
    object["spec"]["replicas"] = json!(1);
    registry.apply(&object).await?;
    registry.has_voters(1).await?;
    let client = registry.client().await?;
    let digest = client.push("app", "1", b"alone").await?;
    watch.lap("one voter, an image pushed");
    let pods = registry.pods().await?;
    let node = pods.first().and_then(|pod| pod["spec"]["nodeName"].as_str()).context("it is on a node")?;
    let drain =
        world.cluster.kubectl()?.args("drain --ignore-daemonsets --delete-emptydir-data --force --timeout=120s");
    let drained = drain.arg(node).output().await;
    world.cluster.kubectl()?.arg("uncordon").arg(node).output().await?;
    drained?;
    watch.lap("its node is drained, and uncordoned");
    // The status may be that of before for a moment: whether it serves, a client knows.
    pulls(&client, "app", "1", &digest).await?;
    registry.has_voters(1).await?;
    watch.lap("it is Ready again, and has what it had");
    world.remove_namespace("b08").await
}

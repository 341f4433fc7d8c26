use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn b14_a_paused_registry_is_left_alone_and_its_status_goes_on() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("14 paused");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b14", "home");
    registry.create().await?;
    registry.has_voters(3).await?;
    watch.lap("three voters");
    registry.change(json!({"paused": true, "replicas": 5})).await?;
    registry
        .until("is seen paused", |status| status.condition("Paused").is_some_and(|is| is["status"] == "True"))
        .await?;
    let lost = format!("/api/v1/namespaces/b14/pods/{}-2", registry.name);
    // Its volume is on that node: it stays away until the node takes pods again.
    let cordoned = cordon(&world, &lost).await?;
    world.cluster.api().delete_with(&lost, &json!({"gracePeriodSeconds": 0})).await?;
    let seen = registry.until("says that a pod is lost", |status| status.0["status"]["readyReplicas"] == 2).await;
    world.cluster.kubectl()?.arg("uncordon").arg(cordoned).output().await?;
    seen?;
    registry.until("says that it is back", |status| status.0["status"]["readyReplicas"] == 3).await?;
    ensure!(registry.pods().await?.len() == 3, "it was scaled while it was paused");
    watch.lap("five are asked for, and it stays with three; the status follows a pod that is lost and comes back");
    registry.change(json!({"paused": false})).await?;
    registry.has_voters(5).await?;
    watch.lap("not paused any more: five voters");
    world.remove_namespace("b14").await
}

/// Lets no pod come to the node that a pod is on, and gives the node's name.
async fn cordon(world: &World, pod: &str) -> Result<String> {
    let pod = world.cluster.api().get(pod).await?;
    let node = pod["spec"]["nodeName"].as_str().context("the pod has a node")?.to_owned();
    world.cluster.kubectl()?.arg("cordon").arg(&node).output().await?;
    Ok(node)
}

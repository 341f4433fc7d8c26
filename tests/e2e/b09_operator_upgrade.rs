use anyhow::{Result, ensure};
use roadstead_cluster::Image;
use serde_json::{Value, json};

use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{OPERATOR, World};

#[tokio::test]
#[ignore = "make e2e"]
async fn b09_an_upgrade_of_the_operator_restarts_no_replica() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("9 the operator is upgraded");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b09", "home");
    registry.create().await?;
    let before = lives(&registry).await?;
    watch.lap("three voters");
    // The same content under another name is another image, as far as a cluster can tell.
    world.cluster.load(&Image::roadstead("next")?).await?;
    world.install_operator("next").await?;
    let pods = world.pods(OPERATOR, "app.kubernetes.io/component=operator").await?;
    let is_next = |pod: &Value| pod["spec"]["containers"][0]["image"] == "lab.local/roadstead:next";
    ensure!(pods.iter().any(is_next), "the operator was not upgraded");
    watch.lap("helm upgrade to another image of the operator");
    // The new operator has done its work when it has seen a change through.
    registry.change(json!({"auth": {"anonymous": "None"}, "paused": true})).await?;
    registry
        .until("is seen paused", |status| status.condition("Paused").is_some_and(|is| is["status"] == "True"))
        .await?;
    registry.change(json!({"paused": false})).await?;
    registry.has_voters(3).await?;
    ensure!(lives(&registry).await? == before, "replicas were {before:?} and are {:?}", lives(&registry).await?);
    watch.lap("it has taken over, and every replica is the process that it was");
    world.install_operator("dev").await?;
    world.remove_namespace("b09").await
}

/// What changes when a replica is restarted in any way.
async fn lives(registry: &Registry<'_>) -> Result<Vec<String>> {
    let life = |pod: &Value| {
        let container = &pod["status"]["containerStatuses"][0];
        format!("{} {} {}", pod["metadata"]["uid"], container["containerID"], container["restartCount"])
    };
    Ok(registry.pods().await?.iter().map(life).collect())
}

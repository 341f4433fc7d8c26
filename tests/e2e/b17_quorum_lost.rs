use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

/// What the operator does not do by itself in this time, it does not do.
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::test]
#[ignore = "make e2e"]
async fn b17_a_lost_quorum_is_told_and_mended_by_one_command_and_never_by_itself() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("17 the quorum is lost for good");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b17", "home");
    registry.create().await?;
    let before = registry.has_voters(3).await?;
    let client = registry.client().await?;
    let digest = client.push("app", "1", &vec![17; 100_000]).await?;
    watch.lap("three voters, an image pushed");

    let leader = registry.status().await?.leader().to_owned();
    let pods: Vec<String> = before.members().into_iter().map(|(_, pod)| pod).filter(|pod| *pod != leader).collect();
    ensure!(pods.len() == 2, "two others than {leader}: {pods:?}");
    let namespace = "/api/v1/namespaces/b17";
    for pod in &pods {
        world.cluster.api().delete(&format!("{namespace}/persistentvolumeclaims/data-{pod}")).await?;
    }
    let (first, second) = (format!("{namespace}/pods/{}", pods[0]), format!("{namespace}/pods/{}", pods[1]));
    let at_once = json!({ "gracePeriodSeconds": 0 });
    let (first, second) = tokio::join!(
        world.cluster.api().delete_with(&first, &at_once),
        world.cluster.api().delete_with(&second, &at_once),
    );
    first.and(second)?;
    let lost = registry.until("says that its quorum is lost", is_lost).await?;
    let told = registry.event("QuorumLost").await?;
    watch.lap("two replicas are lost with their volumes: Ready is False with QuorumLost, and an Event says so");

    let mut tick = tokio::time::interval(WATCHED);
    tick.tick().await;
    tick.tick().await;
    let still = registry.status().await?;
    ensure!(
        is_lost(&still) && still.cluster_id() == before.cluster_id(),
        "it went on by itself: {}",
        still.0["status"]
    );
    watch.lap("nothing was done by itself");

    let message = lost.condition("Ready").and_then(|ready| ready["message"].as_str()).context("a message")?;
    ensure!(message == told, "the Event says {told}, and the condition {message}");
    let (_, command) = message.split_once(": kubectl ").context("the command is named")?;
    ensure!(command.contains(&format!("={leader}/{}", before.cluster_id())), "{command}");
    world.cluster.kubectl()?.args(command).output().await?;
    let after = registry.until("goes on", |status| {
        status.is_ready() && status.voters() == "3/3" && status.cluster_id() != before.cluster_id()
    });
    after.await?;
    ensure!(client.pull("app", "1").await? == digest, "the image is another one");
    client.push("app", "2", b"goes on").await?;
    watch.lap("the command that it names: three voters of another cluster, with the image, and it takes pushes");
    world.remove_namespace("b17").await
}

fn is_lost(status: &Status) -> bool {
    let is = |kind: &str| {
        status.condition(kind).is_some_and(|found| found["status"] == "False" && found["reason"] == "QuorumLost")
    };
    is("Ready") && is("QuorumHealthy")
}

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn b05_a_replica_that_is_lost_with_its_volume_is_replaced_under_a_new_id() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("5 a pod and its volume are lost");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b05", "home");
    registry.create().await?;
    watch.lap("three voters");
    let before = registry.status().await?.members();
    let (lost, pod) = before.iter().find(|(_, pod)| pod.ends_with("-1")).context("a second replica")?.clone();
    let ledger = Ledger::new(registry.client().await?);
    let replaced = ledger.during(async {
        let api = world.cluster.api();
        let namespace = format!("/api/v1/namespaces/{}", registry.namespace);
        api.delete(&format!("{namespace}/persistentvolumeclaims/data-{pod}")).await?;
        api.delete_with(&format!("{namespace}/pods/{pod}"), &json!({"gracePeriodSeconds": 0})).await?;
        registry
            .until("has a voter in the lost one's place", |status| {
                let members = status.members();
                status.is_ready() && status.voters() == "3/3" && !members.iter().any(|(node, _)| *node == lost)
            })
            .await
    });
    let after = replaced.await?.members();
    let node = after.iter().find(|(_, of)| *of == pod).map(|(node, _)| node.clone()).context("the pod is a member")?;
    ensure!(!before.iter().any(|(known, _)| *known == node), "node {node} was somebody before");
    watch.lap(&format!("node {lost} is replaced by {node}; {}", ledger.figures()));
    world.remove_namespace("b05").await
}

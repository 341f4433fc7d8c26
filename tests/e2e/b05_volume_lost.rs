use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::until;
use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

#[tokio::test]
#[ignore = "make e2e"]
async fn b05_a_replica_that_is_lost_with_its_volume_is_replaced_under_a_new_id() {
    report(volume().await);
}

async fn volume() -> Result<()> {
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

#[tokio::test]
#[ignore = "make e2e"]
async fn b05_a_replica_whose_node_is_taken_away_for_good_is_replaced_on_another_one() {
    report(node().await);
}

async fn node() -> Result<()> {
    let mut watch = Stopwatch::start("5 a node is taken away for good, with the volume that is on it");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b05-node", "home");
    registry.create().await?;
    let before = registry.status().await?.members();
    watch.lap("three voters");
    let pod = registry.pods().await?.last().cloned().context("a replica")?;
    let name = pod["metadata"]["name"].as_str().context("its name")?.to_owned();
    let taken = pod["spec"]["nodeName"].as_str().context("its node")?.to_owned();
    let lost = before.iter().find(|(_, pod)| *pod == name).context("it is a member")?.0.clone();
    let path = format!("/api/v1/nodes/{taken}");
    let node = world.cluster.api().get(&path).await?;
    let ledger = Ledger::new(registry.client().await?);
    let replaced = ledger
        .during(async {
            world.cluster.api().delete(&path).await?;
            registry
                .until("has a voter in the place of the one whose node is gone", |status| {
                    let members = status.members();
                    status.is_ready() && status.voters() == "3/3" && !members.iter().any(|(node, _)| *node == lost)
                })
                .await
        })
        .await;
    // Whatever came of it, other tests need the node: its kubelet goes on with it.
    give_back(&world, &node).await?;
    let after = replaced?.members();
    let new = after.iter().find(|(_, of)| *of == name).map(|(node, _)| node.clone()).context("the pod is a member")?;
    ensure!(!before.iter().any(|(known, _)| *known == new), "node {new} was somebody before");
    let pods = registry.pods().await?;
    let elsewhere = pods.iter().all(|pod| pod["spec"]["nodeName"] != taken.as_str());
    ensure!(pods.len() == 3 && elsewhere, "there is a replica on {taken}");
    watch.lap(&format!("{taken} deleted: node {lost} is replaced by {new} on another one; {}", ledger.figures()));
    world.remove_namespace("b05-node").await
}

/// Lets a node that was deleted be one of the cluster again, and waits until it is ready.
async fn give_back(world: &World, node: &Value) -> Result<()> {
    let name = node["metadata"]["name"].as_str().context("a name")?;
    let again = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": node["metadata"]["labels"]},
        "spec": {"podCIDR": node["spec"]["podCIDR"], "podCIDRs": node["spec"]["podCIDRs"]},
    });
    world.cluster.api().create("/api/v1/nodes", &again).await?;
    until(&format!("{name} is ready again"), PATIENCE, async || {
        let node = world.cluster.api().get(&format!("/api/v1/nodes/{name}")).await?;
        let conditions = node["status"]["conditions"].as_array();
        let is_ready = |is: &Value| is["type"] == "Ready" && is["status"] == "True";
        ensure!(conditions.into_iter().flatten().any(is_ready), "it is {}", node["status"]["conditions"]);
        ensure!(node["spec"]["taints"].is_null(), "it is tainted: {}", node["spec"]["taints"]);
        Ok(())
    })
    .await
}

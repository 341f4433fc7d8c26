use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::until;
use serde_json::Value;

use crate::client::Client;
use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

const NAMESPACE: &str = "frontends";

#[tokio::test]
#[ignore = "make e2e"]
async fn frontends_come_and_go_by_scale_and_change_no_voter() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("frontends: 0 to 5 and back by `kubectl scale`, under load");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, NAMESPACE, "home");
    registry.create().await?;
    let before = registry.status().await?;
    watch.lap("three voters");

    let ledger = Ledger::new(registry.client().await?);
    ledger.during(scale(&world, &registry, 5)).await?;
    watch.lap(&format!("five frontends serve; {}", ledger.figures()));
    let client = registry.client().await?;
    let digest = client.push("app", "1", b"from a voter").await?;
    let (user, password) = registry.credential().await?;
    for pod in frontends(&world).await? {
        let address = pod["status"]["podIP"].as_str().context("a frontend has an address")?;
        let direct = Client::careless(&format!("{address}:5000"), &user, &password)?;
        ensure!(direct.pull("app", "1").await? == digest, "{address} has another image");
    }
    let budget = "/apis/policy/v1/namespaces/frontends/poddisruptionbudgets/home-frontend";
    let budget = world.cluster.api().get(budget).await?;
    ensure!(budget["spec"]["maxUnavailable"] == "25%", "the budget is {}", budget["spec"]);
    watch.lap("each of them has what was just pushed to another replica");

    ledger.during(scale(&world, &registry, 0)).await?;
    watch.lap(&format!("none any more; {}", ledger.figures()));
    until("the cluster has forgotten them", PATIENCE, async || {
        let asked = "exec home-0 --namespace frontends -- /roadstead members --data /data";
        let members = world.cluster.kubectl()?.args(asked).output().await?;
        ensure!(!members.contains("learner"), "{members}");
        Ok(())
    })
    .await?;
    let after = registry.has_voters(3).await?;
    ensure!(
        after.members() == before.members(),
        "the voters were {:?}, and are {:?}",
        before.members(),
        after.members()
    );
    ensure!(after.cluster_id() == before.cluster_id(), "it is another cluster");
    watch.lap("the cluster has forgotten them, and its voters are who they were");
    world.remove_namespace(NAMESPACE).await
}

/// As people and autoscalers do, and waits until so many serve.
async fn scale(world: &World, registry: &Registry<'_>, replicas: usize) -> Result<()> {
    let scale = format!("scale registries.roadstead.dev home --namespace {NAMESPACE} --replicas {replicas}");
    world.cluster.kubectl()?.args(&scale).output().await?;
    registry
        .until(&format!("has {replicas} frontends"), |status| {
            let frontends = &status.0["status"]["frontends"];
            status.is_ready() && frontends["replicas"] == replicas && frontends["readyReplicas"] == replicas
        })
        .await?;
    let found = frontends(world).await?.len();
    ensure!(found == replicas, "there are {found} pods");
    Ok(())
}

async fn frontends(world: &World) -> Result<Vec<Value>> {
    world.pods(NAMESPACE, "app.kubernetes.io/component=frontend").await
}

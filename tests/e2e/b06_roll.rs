use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::{Image, until};
use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

/// What the replicas run afterwards.
const NEXT: &str = "lab.local/roadstead:next";

#[tokio::test]
#[ignore = "make e2e"]
async fn b06_a_roll_under_load_fails_no_client_and_does_the_leader_last() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("6 all replicas are rolled under load");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b06", "home");
    registry.create().await?;
    let status = registry.has_voters(3).await?;
    let mut leader = status.leader().to_owned();
    watch.lap(&format!("three voters, {leader} leads"));
    let (before, term) = (ids(&registry).await?, term(&world).await?);
    // The same content under another name is another image, as far as a cluster can tell.
    world.cluster.load(&Image::roadstead("next")?).await?;
    let ledger = Ledger::new(registry.client().await?);
    let rolled = ledger.during(async {
        registry.change(json!({"image": NEXT, "pod": {"annotations": {"example.com/roll": "1"}}})).await?;
        let mut order = Vec::new();
        until("every replica is another pod", PATIENCE, async || {
            // An election of their own may make another one lead, until none but the leader is left to be rolled.
            let now = registry.status().await?.leader().to_owned();
            if order.len() < 2 && !now.is_empty() {
                leader = now;
            }
            for (name, id) in ids(&registry).await? {
                if !before.contains(&(name.clone(), id)) && !order.contains(&name) {
                    order.push(name);
                }
            }
            ensure!(order.len() == 3, "those that were rolled are {order:?}");
            Ok(())
        })
        .await?;
        registry.has_voters(3).await?;
        Ok(order)
    });
    let order = rolled.await?;
    let elections = self::term(&world).await? - term;
    watch.lap(&format!("rolled in the order {}, elections: {elections}; {}", order.join(", "), ledger.figures()));
    ensure!(elections <= 1, "{elections} elections");
    ensure!(order.last() == Some(&leader), "{leader} led, and the order was {order:?}");
    for pod in registry.pods().await? {
        let annotation = &pod["metadata"]["annotations"]["example.com/roll"];
        let image = &pod["spec"]["containers"][0]["image"];
        ensure!(annotation == "1" && image == NEXT, "{} has {annotation} and {image}", pod["metadata"]["name"]);
    }
    world.remove_namespace("b06").await
}

async fn ids(registry: &Registry<'_>) -> Result<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a pod has it");
    let pods = registry.pods().await?;
    pods.iter().map(|pod| Ok((text(&pod["metadata"]["name"])?, text(&pod["metadata"]["uid"])?))).collect()
}

/// In which term it is led: each election begins another one.
async fn term(world: &World) -> Result<u64> {
    let asked = "exec home-0 --namespace b06 -- /roadstead members --data /data --json";
    let members: Value = serde_json::from_str(&world.cluster.kubectl()?.args(asked).output().await?)?;
    members["term"].as_u64().context("the members say their term")
}

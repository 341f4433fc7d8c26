use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::until;
use serde_json::json;

use crate::client::Client;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

#[tokio::test]
#[ignore = "make e2e"]
async fn node_port_is_reached_at_the_nodes_that_status_names() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("NodePort");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "node-port", "home");
    world.namespace("node-port", "restricted").await?;
    let mut wanted = registry.eight_lines();
    wanted["spec"]["replicas"] = json!(1);
    wanted["spec"]["expose"] = json!({"service": {"type": "NodePort"}});
    registry.apply(&wanted).await?;
    registry.has_voters(1).await?;
    let told = registry.until("names a node", |status| !status.0["status"]["nodeEndpoints"][0].is_null()).await?;
    let endpoint = told.0["status"]["nodeEndpoints"][0].as_str().context("text")?.to_owned();
    watch.lap(&format!("Ready, and the status names {endpoint}"));
    let (user, password) = registry.credential().await?;
    let client = Client::new(&endpoint, &registry.authority().await?, &user, &password)?;
    // The replica reads the certificate for that address when its kubelet has brought it.
    until("the certificate is for the node, too", PATIENCE, async || client.knocks().await).await?;
    let digest = client.push("app", "1", b"by way of a node").await?;
    ensure!(client.pull("app", "1").await? == digest, "the image is another one");
    watch.lap("an image is pushed and pulled there, with the CA that status names");
    world.remove_namespace("node-port").await
}

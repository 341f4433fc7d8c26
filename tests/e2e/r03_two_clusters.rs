use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::{Cluster, Site};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::Client;
use crate::kubelets::{login, pull_with, push_tools_to};
use crate::node_mirror::NodeMirror;
use crate::r01_mirror::{in_sync, pulls};
use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::wan::Wan;
use crate::world::World;

/// What images are called by; nobody resolves it.
const HOST: &str = "home.far.example.test";

/// The port of home's node, and that of the link's near end.
const HOME_PORT: u16 = 30_500;
const LINK_PORT: u16 = 7_443;

/// Half of a round trip of 80 ms.
const DELAY: Duration = Duration::from_millis(40);

#[tokio::test]
#[ignore = "make e2e"]
async fn r03_pods_of_another_cluster_pull_from_their_own_endpoint_and_go_on_without_home() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("r3 a home in one cluster, its mirror in another");
    let world = World::with_operator().await;
    let second = world.cluster.site().second()?;
    let far = bring_up(&world, &second).await?;
    watch.lap("a second cluster is up, with the operator; a link of 80 ms joins its hub to the first one's");

    // The second cluster is home, so that it can be taken away.
    let home = Registry::new(&far, "r03", "home");
    far.namespace("r03", "restricted").await?;
    home.apply(&home_of(&home, &world, &second)).await?;
    home.is_ready().await?;
    let joined = home.until("has minted the join Secret", |status| {
        status.0["status"]["mirrors"][0]["joinSecret"] == "home-join-near"
    });
    joined.await?;
    watch.lap("home is Ready, and has minted the join Secret");

    let target = SocketAddr::from((second.node_address(1), HOME_PORT));
    let near_end = SocketAddr::from((world.cluster.site().hub_address(), LINK_PORT));
    let link = Wan::open(near_end, target, DELAY).await?;
    let mirror = Registry::new(&world, "r03", "mirror");
    world.namespace("r03", "restricted").await?;
    carry_over(&far, &world).await?;
    mirror.apply(&mirror_of(&mirror)).await?;
    mirror.is_ready().await?;
    in_sync(&mirror).await?;
    watch.lap("the Secret carried over, the mirror of the first cluster is Ready and in sync");

    let (credential, address) = (home.credential().await?, target.to_string());
    let there = Client::new(&address, &home.authority().await?, &credential.0, &credential.1)?;
    let here = Client::new(&mirror.address().await?, &mirror.authority().await?, &credential.0, &credential.1)?;
    let layer = vec![9; 1_000_000];
    let pushed = there.push("team/data", "1", &layer).await?;
    pulls(&here, "team/data", "1", &pushed).await?;
    watch.lap("what is pushed at home is pulled at the mirror, with the login of home");
    push_tools_to(&far, &home, &address, "team/app:1").await?;
    watch.lap("an image is pushed at home");
    let nodes = NodeMirror::install(&world, &mirror, HOST, None).await?;
    watch.lap("helm install of the node mirror in the first cluster");
    let (image, login) = (format!("{HOST}/team/app:1"), login(HOST, &credential));
    pull_with(&world, "r03", &login, &image, "puller").await?;
    watch.lap("pods on all nodes of the first cluster run it, pulled from their own endpoint");
    // What was announced is here; then nothing of home is needed.
    in_sync(&mirror).await?;
    pulls(&here, "team/app", "1", &here.pull("team/app", "1").await?).await?;

    Cluster::down(&second).await?;
    drop(link);
    let away = |status: &Status| status.condition("UpstreamInSync").is_some_and(|is| is["reason"] == "HomeAway");
    let status = mirror.until("says that home is away", away).await?;
    ensure!(status.is_ready(), "it is not ready: {}", status.0["status"]);
    pulls(&here, "team/data", "1", &pushed).await?;
    pull_with(&world, "r03", &login, &image, "late").await?;
    watch.lap("home's cluster is taken away: the mirror says so, is Ready, and pods pull from it");
    nodes.uninstall().await?;
    nodes.remove().await?;
    world.remove_namespace("r03").await
}

/// Brings the second cluster up, with an operator, and joins it to the first one's hub.
async fn bring_up(world: &World, second: &Site) -> Result<World> {
    if second.folder().exists() {
        Cluster::down(second).await?;
    }
    let up = Command::new(env!("CARGO_BIN_EXE_roadstead-cluster"))
        .args(["up", "--nodes", "1", "--name", second.name()])
        .status()
        .await?;
    ensure!(up.success(), "the second cluster did not come up");
    let far = World { cluster: world.cluster.join(second).await? };
    far.install_operator("dev").await?;
    Ok(far)
}

/// A home of one replica, on a port of its node, with a mirror in another cluster.
fn home_of(home: &Registry<'_>, world: &World, second: &Site) -> Value {
    let mut object = home.eight_lines();
    let endpoint = format!("https://{}:{LINK_PORT}", world.cluster.site().hub_address());
    object["spec"]["replicas"] = json!(1);
    object["spec"]["region"] = json!("far");
    object["spec"]["expose"] = json!({"service": {"type": "NodePort", "nodePort": HOME_PORT}});
    object["spec"]["tls"] = json!({"names": [second.node_address(1)]});
    object["spec"]["mirrors"] = json!([{"name": "near", "remote": true, "homeEndpoint": endpoint}]);
    object
}

fn mirror_of(mirror: &Registry<'_>) -> Value {
    let mut object = mirror.eight_lines();
    object["spec"]["region"] = json!("near");
    object["spec"]["upstream"] = json!({"credentialsSecretRef": {"name": "home-join-near"}});
    object
}

/// What a person does with `kubectl get secret | kubectl apply`.
async fn carry_over(far: &World, world: &World) -> Result<()> {
    const PATH: &str = "/api/v1/namespaces/r03/secrets/home-join-near";
    let minted = far.cluster.api().get(PATH).await?;
    let data = minted.get("data").context("the Secret has data")?;
    let carried = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "home-join-near", "namespace": "r03"},
        "type": "Opaque",
        "data": data,
    });
    world.cluster.api().apply(PATH, &carried).await.map(drop)
}

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::kubelets::{login, pull_with, push_tools};
use crate::node_mirror::NodeMirror;
use crate::r01_mirror::{in_sync, with_mirror};
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

/// What images are called by; nobody resolves it.
const HOST: &str = "near.home.example.test";

#[tokio::test]
#[ignore = "make e2e"]
async fn r04_nodes_ask_the_nearest_mirror_first_then_the_next_region_then_home() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("r4 the nearest endpoint, then the next region, then home");
    let world = World::with_operator().await;
    let [near, next, home] = ["home-near", "home-next", "home"].map(|name| Registry::new(&world, "r04", name));
    world.namespace("r04", "restricted").await?;
    let mut object = with_mirror(&home);
    let mut other = object["spec"]["mirrors"][0].clone();
    other["name"] = json!("next");
    other["storage"]["s3"]["prefix"] = json!(format!("r04-next-{}", std::process::id()));
    object["spec"]["mirrors"] = json!([object["spec"]["mirrors"][0], other]);
    home.apply(&object).await?;
    for registry in [&home, &near, &next] {
        registry.is_ready().await?;
    }
    push_tools(&world, &home, "team/app:1").await?;
    in_sync(&near).await?;
    in_sync(&next).await?;
    watch.lap("a home and two mirrors, with an image");

    let nodes = NodeMirror::install_all(&world, &[&near, &next, &home], HOST, None).await?;
    let addresses = [near.address().await?, next.address().await?, home.address().await?];
    for node in world.cluster.nodes() {
        let file = format!("cat /etc/containerd/certs.d/{HOST}/hosts.toml");
        let text = world.cluster.on_node(node, &file)?.output().await?;
        let places = addresses.iter().map(|address| text.find(address).context("it is named"));
        let places = places.collect::<Result<Vec<_>>>()?;
        ensure!(places.is_sorted(), "{text}");
    }
    watch.lap("every node is told of the three, the nearest first");

    let (image, login) = (format!("{HOST}/team/app:1"), login(HOST, &home.credential().await?));
    pull_with(&world, "r04", &login, &image, "all").await?;
    watch.lap("pods pull");
    near.take_away().await?;
    watch.lap("the nearest mirror is taken away");
    pull_with(&world, "r04", &login, &image, "next").await?;
    watch.lap("pods pull from the next one: claim 17");
    next.take_away().await?;
    watch.lap("the next one is taken away");
    pull_with(&world, "r04", &login, &image, "home").await?;
    watch.lap("pods pull from home");
    nodes.uninstall().await?;
    nodes.remove().await?;
    world.remove_namespace("r04").await
}

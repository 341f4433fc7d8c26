use anyhow::Result;
use roadstead_cluster::{Image, repository_root, until};
use serde_json::json;

use crate::node_mirror::NodeMirror;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

/// What images are called by; the upstream behind it is a registry on the hub.
const HOST: &str = "upstream.example.test";

#[tokio::test]
#[ignore = "make e2e"]
async fn b18_what_the_mirror_lacks_or_cannot_serve_comes_from_upstream() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("18 a mirror's miss falls through");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b18", "home");
    let mut object = registry.eight_lines();
    object["spec"]["auth"] = json!({"anonymous": "Pull"});
    world.namespace("b18", "restricted").await?;
    registry.apply(&object).await?;
    registry.is_ready().await?;
    watch.lap("a registry that is the mirror");
    let upstream = start_upstream(&world).await?;
    watch.lap("an upstream with an image that the mirror lacks");
    let nodes = NodeMirror::install(&world, &registry, HOST, Some(&upstream)).await?;
    watch.lap("the node mirror is on every node");
    run_pod(&world, "miss").await?;
    watch.lap("a pod runs what the mirror answered 404 for");
    registry.take_away().await?;
    run_pod(&world, "gone").await?;
    watch.lap("a pod runs an image while no replica of the mirror is left");
    nodes.uninstall().await?;
    nodes.remove().await?;
    world.remove_namespace("b18").await
}

/// A registry outside of the cluster, over plain HTTP, with two images.
async fn start_upstream(world: &World) -> Result<String> {
    let address = format!("{}:5555", world.cluster.site().hub_address());
    let data = world.cluster.site().file("b18-upstream");
    world.cluster.daemon(
        &repository_root().join("target/debug/roadstead"),
        &["serve", "--listen", &address, "--insecure-http", "--data", &data.display().to_string()],
        "b18-upstream.log",
    )?;
    let layout = world.cluster.site().file("b18-layout");
    Image::tools()?.lay_out_at(&layout).await?;
    for name in ["miss", "gone"] {
        until("the upstream takes an image", PATIENCE, async || {
            let crane = world.cluster.tool("crane")?.args("push --insecure").arg(&layout);
            crane.arg(format!("{address}/team/{name}:1")).output().await
        })
        .await?;
    }
    std::fs::remove_dir_all(layout)?;
    Ok(format!("http://{address}"))
}

async fn run_pod(world: &World, name: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "b18"},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app",
                "image": format!("{HOST}/team/{name}:1"),
                "command": ["/bin/sleep", "3600"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    world.cluster.api().create("/api/v1/namespaces/b18/pods", &pod).await?;
    world.pod_runs("b18", name).await.map(drop)
}

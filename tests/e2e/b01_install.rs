use anyhow::{Result, ensure};
use roadstead_cluster::until;

use crate::kubelets::{pull_on_every_node, push_tools};
use crate::node_mirror::NodeMirror;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{OPERATOR, PATIENCE, World};

/// What images are called by; nobody resolves it.
const HOST: &str = "registry.example.test";

#[tokio::test]
#[ignore = "make e2e"]
async fn b01_a_bare_cluster_gets_a_registry_that_its_own_pods_pull_from() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("1 helm install, eight lines, push, and pods pull through the kubelet");
    let world = World::attach();
    // As bare as it was, whatever ran before.
    world.helm("uninstall roadstead --ignore-not-found --wait --namespace")?.arg(OPERATOR).output().await?;
    world.clear_namespace(OPERATOR).await?;
    world.namespace("b01", "restricted").await?;
    watch.lap("the cluster is bare: no operator, a namespace with a bucket's Secret");

    world.install_operator("dev").await?;
    watch.lap("helm install, until the operator is ready");

    let registry = Registry::new(&world, "b01", "home");
    registry.apply(&registry.eight_lines()).await?;
    registry.is_ready().await?;
    watch.lap("apply of the Registry, until it is Ready");
    registry.has_voters(3).await?;
    watch.lap("until three replicas vote");

    push_tools(&world, &registry, "team/app:1").await?;
    watch.lap("an image is pushed with the credential and the CA that status names");

    let nodes = NodeMirror::install(&world, &registry, HOST, None).await?;
    watch.lap("helm install of the node mirror, until it is on every node");

    pull_on_every_node(&world, &registry, HOST, "team/app:1").await?;
    watch.lap("pods on all three nodes run the image, pulled by their kubelets");

    nodes.uninstall().await?;
    for node in world.cluster.nodes() {
        // helm waits for the DaemonSet, whose pods put back what they found as they end.
        let put_back = async || {
            let listed = world.cluster.on_node(node, "ls /etc/containerd/certs.d")?.outcome().await?.1;
            ensure!(!listed.contains(HOST), "it still has {listed}");
            Ok(())
        };
        until(&format!("nothing of the mirror is left on node {node}"), PATIENCE, put_back).await?;
    }
    watch.lap("the node mirror is uninstalled, and nothing of it is left on the nodes");
    nodes.remove().await?;
    world.remove_namespace("b01").await
}

use anyhow::{Result, ensure};
use roadstead_cluster::until;

use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{OPERATOR, PATIENCE, World};

#[tokio::test]
#[ignore = "make e2e"]
async fn b15_uninstalling_keeps_everything_and_what_comes_next_takes_it_up() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("15 uninstall, reinstall, delete with Retain, adopt");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b15", "home");
    registry.create().await?;
    let before = registry.has_voters(3).await?;
    let client = registry.client().await?;
    let digest = client.push("app", "1", b"kept").await?;
    watch.lap("three voters, an image pushed");

    world.helm("uninstall roadstead --wait --namespace")?.arg(OPERATOR).output().await?;
    ensure!(registry.status().await?.cluster_id() == before.cluster_id(), "the Registry is gone");
    ensure!(registry.pods().await?.len() == 3, "its pods are gone");
    ensure!(client.pull("app", "1").await? == digest, "it serves something else");
    watch.lap("helm uninstall: the Registry, its pods and its content stay, and it serves");
    world.install_operator("dev").await?;
    registry.has_voters(3).await?;
    watch.lap("helm install again: Ready");

    world.cluster.api().delete(&registry.path()).await?;
    let gone = async || {
        ensure!(registry.pods().await?.is_empty(), "there are pods");
        ensure!(world.cluster.api().find(&registry.path()).await?.is_none(), "the Registry is there");
        Ok(())
    };
    until("the Registry and its pods are gone", PATIENCE, gone).await?;
    watch.lap("the Registry is deleted with Retain: its pods are gone");
    registry.apply(&registry.eight_lines()).await?;
    let after = registry.has_voters(3).await?;
    ensure!(after.cluster_id() == before.cluster_id(), "it is another cluster");
    ensure!(
        after.members() == before.members(),
        "the members were {:?}, and are {:?}",
        before.members(),
        after.members()
    );
    let client = registry.client().await?;
    ensure!(client.pull("app", "1").await? == digest, "the image is another one");
    client.push("app", "2", b"goes on").await?;
    watch.lap("applied again: the same cluster, the same members, the same content");
    world.remove_namespace("b15").await
}

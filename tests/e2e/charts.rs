use anyhow::{Result, ensure};
use roadstead_cluster::{Bucket, repository_root};

use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn charts_of_a_registry_install_test_upgrade_and_roll_back() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("charts: a registry by its chart");
    let world = World::with_operator().await;
    world.namespace("charts", "restricted").await?;
    install(&world, "--install", "").await?;
    let registry = Registry::new(&world, "charts", "home");
    registry.has_voters(3).await?;
    watch.lap("helm install, until it is Ready");
    let printed = world.helm("test home --namespace charts --logs")?.output().await?;
    ensure!(printed.contains("pushed, pulled and deleted"), "{printed}");
    watch.lap("helm test pushes an image, pulls it by its digest and deletes it");
    install(&world, "", "--set spec.auth.anonymous=Pull").await?;
    registry.is_ready().await?;
    ensure!(registry.status().await?.0["spec"]["auth"]["anonymous"] == "Pull", "the upgrade changed nothing");
    world.helm("rollback home --namespace charts")?.output().await?;
    ensure!(registry.status().await?.0["spec"]["auth"]["anonymous"] != "Pull", "the rollback changed nothing");
    registry.has_voters(3).await?;
    watch.lap("helm upgrade and helm rollback, until it is Ready again");
    world.remove_namespace("charts").await
}

async fn install(world: &World, how: &str, more: &str) -> Result<()> {
    world
        .helm(&format!("upgrade {how} home"))?
        .arg(repository_root().join("charts/roadstead-registry"))
        .args("--namespace charts --set test.image=lab.local/tools:1")
        .args(&format!("--set spec.storage.s3.bucket={},spec.storage.s3.region={}", Bucket::NAME, Bucket::REGION))
        .args(&format!("--set spec.storage.s3.endpoint={}", Bucket::ENDPOINT))
        .args(&format!("--set spec.storage.s3.prefix=charts-{}", std::process::id()))
        .args("--set spec.storage.s3.credentialsSecretRef.name=bucket")
        .args(more)
        .output()
        .await
        .map(drop)
}

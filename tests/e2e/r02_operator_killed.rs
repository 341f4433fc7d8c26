use anyhow::{Result, ensure};

use crate::b03_operator_killed::die_until;
use crate::r01_mirror::{in_sync, with_mirror};
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn r02_an_operator_that_dies_after_each_of_its_writes_ends_with_a_mirror_in_sync() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("r2 the operator dies right after each of its writes, minting among them");
    let world = World::with_operator().await;
    world.stop_operator().await?;
    let (home, mirror) = (Registry::new(&world, "r02", "home"), Registry::new(&world, "r02", "home-near"));
    world.namespace("r02", "restricted").await?;
    home.apply(&with_mirror(&home)).await?;
    // Each second life gets from a token to the Secret that keeps it; the others lose the token.
    let lives = die_until(&world, 2, async || {
        in_sync(&mirror).await?;
        let is_known = |status: &crate::registry::Status| status.0["status"]["mirrors"][0]["phase"] == "InSync";
        home.until("knows that its mirror is in sync", is_known).await.map(drop)
    })
    .await?;
    let cluster = mirror.status().await?;
    ensure!(cluster.cluster_id() != home.status().await?.cluster_id(), "both are one cluster");
    watch.lap(&format!("a home and its mirror in {lives} lives of one or two writes: in sync"));
    world.install_operator("dev").await?;
    world.remove_namespace("r02").await
}

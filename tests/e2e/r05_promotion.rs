use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::client::Client;
use crate::r01_mirror::{in_sync, pulls, with_mirror};
use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn r05_a_change_of_topology_moves_home_once_and_the_file_of_before_does_not_move_it_back() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("r5 home is moved by a change of topology");
    let world = World::with_operator().await;
    let (home, mirror) = (Registry::new(&world, "r05", "home"), Registry::new(&world, "r05", "home-near"));
    world.namespace("r05", "restricted").await?;
    let of_before = declared(&home, "home", 1);
    home.apply(&of_before).await?;
    home.is_ready().await?;
    mirror.is_ready().await?;
    in_sync(&mirror).await?;
    as_declared(&home, "IsHome").await?;
    as_declared(&mirror, "IsMirror").await?;
    let layer = vec![7; 100_000];
    let first = home.client().await?.push("team/data", "1", &layer).await?;
    watch.lap("a home and its mirror are what is declared");

    home.apply(&declared(&home, "near", 2)).await?;
    as_declared(&mirror, "IsHome").await?;
    mirror.event("IsHome").await?;
    let status = as_declared(&home, "IsFenced").await?;
    let said = &status.0["status"]["topology"];
    ensure!(said["standing"] == "Fenced" && said["epoch"] == 2 && said["keptAside"].is_null(), "{said}");
    watch.lap("primary changed: the mirror is home by a handover, and the home that was is fenced");

    let (user, password) = home.credential().await?;
    let near = Client::new(&mirror.address().await?, &mirror.authority().await?, &user, &password)?;
    pulls(&near, "team/data", "1", &first).await?;
    let second = near.push("team/data", "2", &layer).await?;
    pulls(&near, "team/data", "2", &second).await?;
    watch.lap("the new home has what was pushed, and takes pushes");

    let refused = home.apply(&of_before).await.err().context("the file of before was taken")?;
    let refused = format!("{refused:#}");
    ensure!(refused.contains("`epoch` must not fall"), "{refused}");
    as_declared(&mirror, "IsHome").await?;
    let third = near.push("team/data", "3", &layer).await?;
    pulls(&near, "team/data", "3", &third).await?;
    watch.lap("the file of before, applied again, is refused and moves nothing");

    world.remove_namespace("r05").await
}

/// A home with a mirror, and the region that is to be home.
fn declared(home: &Registry<'_>, primary: &str, epoch: u64) -> Value {
    let mut object = with_mirror(home);
    object["spec"]["topology"] = json!({"primary": primary, "epoch": epoch});
    object
}

async fn as_declared(registry: &Registry<'_>, reason: &str) -> Result<Status> {
    let is_so = |status: &Status| {
        let condition = status.condition("TopologyAsDeclared");
        condition.is_some_and(|is| is["status"] == "True" && is["reason"] == reason)
    };
    registry.until(&format!("is as declared: {reason}"), is_so).await
}

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::client::Client;
use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn b12_without_its_bucket_a_registry_says_so_lives_on_and_recovers_unaided() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("12 the S3 server is down");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b12", "home");
    registry.create().await?;
    let client = registry.client().await?;
    let digest = client.push("app", "1", &vec![7; 100_000]).await?;
    watch.lap("three voters, an image pushed");
    world.cluster.stop_storage().await?;
    let seen = until_unreachable(&registry, &client).await;
    // It is there again whatever was seen: other tests need it.
    world.cluster.start_storage().await?;
    seen?;
    watch.lap(
        "Ready is False with the reason StorageUnreachable, BackedUp is once something waits, and no pod was restarted",
    );
    registry.is_ready().await?;
    registry.until("is backed up again", |status| backed_up(status) == "True").await?;
    ensure!(restarts(&registry).await? == 0, "pods were restarted");
    ensure!(client.pull("app", "1").await? == digest, "it is another image");
    client.push("app", "2", &vec![8; 100_000]).await?;
    watch.lap("the S3 server is back: Ready, pulled and pushed again");
    world.remove_namespace("b12").await
}

fn backed_up(status: &Status) -> String {
    let condition = status.condition("BackedUp");
    condition.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

async fn until_unreachable(registry: &Registry<'_>, client: &Client) -> Result<()> {
    let is_unreachable = |status: &Status| {
        let ready = status.condition("Ready");
        ready.is_some_and(|ready| ready["status"] == "False" && ready["reason"] == "StorageUnreachable")
    };
    registry.until("says that its bucket cannot be reached", is_unreachable).await?;
    // A change that the bucket does not get.
    client.begin_upload("app").await?;
    registry.until("says that its backup is behind", |status| backed_up(status) == "False").await?;
    registry.event("BackupBehind").await?;
    ensure!(restarts(registry).await? == 0, "pods were restarted");
    for pod in registry.pods().await? {
        let conditions = pod["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        let ready = conditions.find(|condition| condition["type"] == "Ready").map(|ready| &ready["status"]);
        ensure!(ready == Some(&Value::from("True")), "{} is not ready", pod["metadata"]["name"]);
    }
    Ok(())
}

async fn restarts(registry: &Registry<'_>) -> Result<i64> {
    let pods = registry.pods().await?;
    ensure!(pods.len() == 3, "there are {} pods", pods.len());
    Ok(pods.iter().map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(1)).sum())
}

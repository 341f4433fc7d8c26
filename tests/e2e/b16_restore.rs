use anyhow::{Result, ensure};
use roadstead_cluster::until;
use serde_json::{Value, json};

use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

#[tokio::test]
#[ignore = "make e2e"]
async fn b16_what_is_left_in_the_bucket_is_restored_by_a_resource_alone() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("16 restore from the bucket");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b16", "home");
    world.namespace("b16", "restricted").await?;
    let mut wanted = registry.eight_lines();
    wanted["spec"]["deletionPolicy"] = json!("Delete");
    wanted["spec"]["backup"] = json!({ "interval": "1m", "retention": "2h" });
    registry.apply(&wanted).await?;
    let before = registry.has_voters(3).await?;
    let client = registry.client().await?;
    let digest = client.push("app", "1", &vec![16; 300_000]).await?;
    watch.lap("three voters, an image pushed");

    let is_backed_up = |status: &Status| {
        let backup = &status.0["status"]["backup"];
        let is_true = |condition: &Value| condition["status"] == "True";
        backup["sequence"].as_i64().is_some_and(|sequence| sequence > 0)
            && status.condition("BackedUp").is_some_and(is_true)
    };
    let backed_up = registry.until("is backed up, as often as `spec.backup` says", is_backed_up).await?;
    let sequence = backed_up.0["status"]["backup"]["sequence"].clone();
    client.push("app", "too-late", b"pushed after the backup").await?;
    watch.lap(&format!(
        "`status.backup` says that change {sequence} is in the newest snapshot; another image is pushed"
    ));

    world.cluster.api().delete(&registry.path()).await?;
    let left = async || {
        let path = "/api/v1/namespaces/b16";
        for kind in ["pods", "persistentvolumeclaims"] {
            let left = world.cluster.api().list(&format!("{path}/{kind}")).await?;
            ensure!(left.is_empty(), "there are {} {kind}", left.len());
        }
        let note = world.cluster.api().find(&format!("{path}/configmaps/home-beginning")).await?;
        ensure!(note.is_none(), "the note of the former cluster is there");
        let secret = world.cluster.api().find(&format!("{path}/secrets/home-push")).await?;
        ensure!(secret.is_none(), "the former credential is there");
        Ok(())
    };
    until("nothing is left but the bucket", PATIENCE, left).await?;
    watch.lap("the Registry is deleted with all its volumes and Secrets");

    wanted["spec"]["bootstrap"] = json!({ "restore": { "sequence": sequence } });
    world.cluster.stop_storage().await?;
    let failed = async {
        registry.apply(&wanted).await?;
        let fails = |status: &Status| status.condition("Ready").is_some_and(|ready| ready["reason"] == "RestoreFailed");
        registry.until("says that it cannot be restored", fails).await
    };
    let failed = failed.await;
    // It is there again whatever was seen: other tests need it.
    world.cluster.start_storage().await?;
    failed?;
    watch.lap("a new Registry with `bootstrap.restore`, while the bucket is away: it says that the restore fails");

    let after = registry.has_voters(3).await?;
    ensure!(after.cluster_id() != before.cluster_id(), "it is the former cluster");
    let client = registry.client().await?;
    ensure!(client.pull("app", "1").await? == digest, "the image is another one");
    let late = client.pull("app", "too-late").await;
    ensure!(late.is_err_and(|error| error.to_string().contains("404")), "what was pushed later is there");
    client.push("app", "2", b"goes on").await?;
    watch.lap(
        "the bucket is back: tried again by itself; three voters, the image of that change pulled, another one pushed",
    );
    let gone = async || {
        let pod = world.cluster.api().find("/api/v1/namespaces/b16/pods/home-restore").await?;
        ensure!(pod.is_none(), "its pod is there");
        Ok(())
    };
    until("the pod that restored is tidied up", PATIENCE, gone).await?;
    world.remove_namespace("b16").await
}

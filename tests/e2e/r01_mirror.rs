use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::{Bucket, until};
use serde_json::{Value, json};

use crate::client::Client;
use crate::kubelets::{login, pull_on_every_node, pull_with, push_tools};
use crate::node_mirror::NodeMirror;
use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

/// What images are called by; nobody resolves it.
const HOST: &str = "home.example.test";

#[tokio::test]
#[ignore = "make e2e"]
async fn r01_a_mirror_of_the_same_cluster_serves_what_was_pushed_at_home_and_outlives_it() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("r1 a home with a mirror in its cluster");
    let world = World::with_operator().await;
    let (home, mirror) = (Registry::new(&world, "r01", "home"), Registry::new(&world, "r01", "home-near"));
    world.namespace("r01", "restricted").await?;
    home.apply(&with_mirror(&home)).await?;
    home.is_ready().await?;
    watch.lap("a home of one replica is Ready");
    mirror.is_ready().await?;
    in_sync(&mirror).await?;
    watch.lap("the mirror, which its entry made, is Ready and in sync");

    let (near, layer) = (near(&home, &mirror).await?, vec![7; 100_000]);
    let pushed = home.client().await?.push("team/data", "1", &layer).await?;
    pulls(&near, "team/data", "1", &pushed).await?;
    watch.lap("what is pushed at home is pulled at the mirror, with the login of home");

    let listed = world.cluster.kubectl()?.args("get reg --namespace r01").output().await?;
    ensure!(listed.lines().next().is_some_and(|head| head.contains("LAG") && head.contains("REGION")), "{listed}");
    let row = listed.lines().find(|row| row.starts_with("home-near")).context("the mirror is listed")?;
    ensure!(row.contains("<5s") && row.contains("near"), "{listed}");
    home.until("says that the mirror is in sync", |status| {
        let said = &status.0["status"]["mirrors"][0];
        said["name"] == "near" && said["phase"] == "InSync" && said["lag"] == "<5s" && said["endpoint"].is_string()
    })
    .await?;
    watch.lap("kubectl get reg shows its lag, and home's status that it is in sync");

    less_is_said(&world, &home, &mirror).await?;
    watch.lap("what is said of it in its entry, and taken away there again, is taken away at the mirror");

    push_tools(&world, &home, "team/app:1").await?;
    let nodes = NodeMirror::install(&world, &mirror, HOST, None).await?;
    pull_on_every_node(&world, &home, HOST, "team/app:1").await?;
    watch.lap("pods on all nodes run what was pushed at home, pulled from the mirror's endpoint");

    home.change(json!({"mirrors": null})).await?;
    home.until("forgets the mirror", |status| status.0["status"]["mirrors"].is_null()).await?;
    let pushed = home.client().await?.push("team/data", "2", &layer).await?;
    pulls(&near, "team/data", "2", &pushed).await?;
    in_sync(&mirror).await?;
    watch.lap("its entry deleted, the mirror goes on following");

    let credential = home.credential().await?;
    world.cluster.api().delete(&home.path()).await?;
    let away = |status: &Status| status.condition("UpstreamInSync").is_some_and(|is| is["reason"] == "HomeAway");
    let status = mirror.until("says that home is away", away).await?;
    ensure!(status.is_ready(), "it is not ready: {}", status.0["status"]);
    pulls(&near, "team/data", "2", &pushed).await?;
    pull_with(&world, "r01", &login(HOST, &credential), &format!("{HOST}/team/app:1"), "late").await?;
    watch.lap("home deleted: the mirror says so, is Ready, and pods pull from it");

    nodes.uninstall().await?;
    nodes.remove().await?;
    world.remove_namespace("r01").await
}

/// Says more of the mirror in its entry, and then no more. What the operator has made of it is its alone, so that it goes.
async fn less_is_said(world: &World, home: &Registry<'_>, mirror: &Registry<'_>) -> Result<()> {
    let entry = with_mirror(home)["spec"]["mirrors"][0].clone();
    let expose = json!({"service": {"annotations": {"example.test/from": "its-entry"}}});
    let mut more = entry.clone();
    more["expose"] = expose.clone();
    let service = format!("/api/v1/namespaces/{}/services/{}", mirror.namespace, mirror.name);
    for (entry, expected) in [(more, &expose["service"]["annotations"]), (entry, &Value::Null)] {
        home.change(json!({"mirrors": [entry]})).await?;
        until(&format!("the mirror has the annotations {expected}"), PATIENCE, async || {
            let said = &mirror.status().await?.0["spec"]["expose"]["service"]["annotations"];
            ensure!(said == expected, "its Registry says {said}");
            let made = &world.cluster.api().get(&service).await?["metadata"]["annotations"]["example.test/from"];
            ensure!(*made == expected["example.test/from"], "its Service has {made}");
            Ok(())
        })
        .await?;
    }
    let secret = format!("/api/v1/namespaces/{}/secrets/{}-join-near", home.namespace, home.name);
    let secret = world.cluster.api().get(&secret).await?;
    let writes = secret["metadata"]["managedFields"].as_array().context("the API server says who has written what")?;
    let other = writes.iter().find(|write| write["operation"] != "Apply" && write["fieldsV1"]["f:data"].is_object());
    ensure!(other.is_none(), "what is in the join Secret cannot be taken away by an apply: {other:?}");
    Ok(())
}

/// A home of one replica, with a mirror of one.
pub(crate) fn with_mirror(home: &Registry<'_>) -> Value {
    let mut object = home.eight_lines();
    let mut storage = object["spec"]["storage"].clone();
    storage["s3"]["prefix"] = json!(format!("{}-near-{}", home.namespace, std::process::id()));
    storage["s3"]["bucket"] = json!(Bucket::NAME);
    object["spec"]["replicas"] = json!(1);
    object["spec"]["region"] = json!("home");
    object["spec"]["mirrors"] = json!([{"name": "near", "storage": storage}]);
    object
}

pub(crate) async fn in_sync(mirror: &Registry<'_>) -> Result<Status> {
    let is_so = |status: &Status| status.condition("UpstreamInSync").is_some_and(|is| is["status"] == "True");
    mirror.until("is in sync with home", is_so).await
}

/// A client of a mirror, with the login of its home.
async fn near(home: &Registry<'_>, mirror: &Registry<'_>) -> Result<Client> {
    let (user, password) = home.credential().await?;
    Client::new(&mirror.address().await?, &mirror.authority().await?, &user, &password)
}

/// Waits until a tag has this digest for a client, and all that it names is there.
pub(crate) async fn pulls(near: &Client, repository: &str, tag: &str, digest: &str) -> Result<()> {
    until(&format!("{repository}:{tag} is pulled"), PATIENCE, async || {
        let found = near.pull(repository, tag).await?;
        ensure!(found == digest, "it is {found}");
        Ok(())
    })
    .await
}

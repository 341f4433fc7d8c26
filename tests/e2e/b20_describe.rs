use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::until;
use serde_json::{Value, json};

use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

#[tokio::test]
#[ignore = "make e2e"]
async fn b20_describing_a_registry_explains_what_it_waits_for() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("20 what `kubectl describe` says of a Registry that waits");
    let world = World::with_operator().await;
    world.namespace("b20", "restricted").await?;
    let first = Registry::new(&world, "b20", "first");
    let taken = with_one_replica(&first);
    first.apply(&taken).await?;
    first.is_ready().await?;
    watch.lap("a registry whose bucket others may want");

    let cases: [(&'static str, Value, &str, &str); 6] = [
        ("image", json!({ "image": "lab.local/nothing:1" }), "ImagePull", "does not get its image lab.local/nothing:1"),
        ("place", json!({ "pod": { "nodeSelector": { "nowhere": "yes" } } }), "Unschedulable", "finds no node"),
        (
            "volume",
            json!({ "metadataVolume": { "storageClassName": "nope" } }),
            "VolumePending",
            "the claim data-volume-0 of the storage class `nope` is pending",
        ),
        (
            "secret",
            json!({ "storage": { "s3": { "credentialsSecretRef": { "name": "nothing" } } } }),
            "SecretMissing",
            "the Secret nothing is not there",
        ),
        ("bucket", json!({ "storage": { "s3": { "bucket": "no-such-bucket" } } }), "ReplicaFails", "no-such-bucket"),
        (
            "twin",
            json!({ "storage": { "s3": { "prefix": taken["spec"]["storage"]["s3"]["prefix"] } } }),
            "StorageTaken",
            "belong to another registry",
        ),
    ];
    for (name, spec, _, _) in &cases {
        let registry = Registry::new(&world, "b20", name);
        let mut wanted = with_one_replica(&registry);
        merge(&mut wanted["spec"], spec);
        registry.apply(&wanted).await?;
    }
    for (name, _, reason, message) in &cases {
        let registry = Registry::new(&world, "b20", name);
        explains(&world, &registry, reason, message).await?;
        watch.lap(&format!("{name}: {reason}"));
    }
    ensure!(first.status().await?.is_ready(), "the first one is not what it was");
    world.remove_namespace("b20").await
}

/// Waits until the description has the reason and the message in a condition and in one Event.
async fn explains(world: &World, registry: &Registry<'_>, reason: &str, message: &str) -> Result<()> {
    let named = format!("describe registries.roadstead.dev {} --namespace {}", registry.name, registry.namespace);
    until(&format!("the description of {} says {reason}", registry.name), PATIENCE, async || {
        let text = world.cluster.kubectl()?.args(&named).output().await?;
        let (status, events) = text.split_once("\nEvents:").context("it has events")?;
        let told = events.lines().filter(|line| line.split_whitespace().nth(1) == Some(reason)).count();
        ensure!(status.contains(reason), "no condition has the reason: {text}");
        ensure!(told == 1, "{told} Events have the reason: {text}");
        // Long messages are broken into lines.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(
            words(status).contains(message) && words(events).contains(message),
            "it does not say `{message}`: {text}"
        );
        Ok(())
    })
    .await
}

fn with_one_replica(registry: &Registry<'_>) -> Value {
    let mut wanted = registry.eight_lines();
    wanted["spec"]["replicas"] = json!(1);
    wanted
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

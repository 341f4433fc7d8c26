use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roadstead_cluster::{Bucket, until};
use serde_json::{Value, json};

use crate::client::Client;
use crate::ledger::Ledger;
use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

const NAMESPACE: &str = "/api/v1/namespaces/b13";

/// For how long clients are told of both CAs.
const OVERLAP: &str = "1m";

#[tokio::test]
#[ignore = "make e2e"]
async fn b13_rotated_secrets_and_cas_are_taken_up_and_the_quorum_stays() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("13 Secrets and CAs are rotated under load");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b13", "home");
    registry.create().await?;
    registry.change(json!({ "tls": { "caOverlap": OVERLAP } })).await?;
    registry.has_voters(3).await?;
    let lives = lives(&registry).await?;
    watch.lap("three voters");

    let ledger = Ledger::new(registry.client().await?);
    ledger.during(peer_ca(&world, &registry)).await?;
    ensure!(lives == self::lives(&registry).await?, "replicas were restarted");
    watch.lap(&format!("the CA of replicas, in stages, without a restart; {}", ledger.figures()));

    let (user, password) = registry.credential().await?;
    let ledger = Ledger::new(Client::careless(&registry.address().await?, &user, &password)?);
    ledger.during(serving_ca(&world, &registry)).await?;
    ensure!(lives == self::lives(&registry).await?, "replicas were restarted");
    watch.lap(&format!("the CA for clients, without a restart; {}", ledger.figures()));

    push_credential(&world, &registry).await?;
    ensure!(lives == self::lives(&registry).await?, "replicas were restarted");
    watch.lap("the credential that may push, without a restart");

    let ledger = Ledger::new(registry.client().await?);
    ledger.during(bucket_credential(&world, &registry)).await?;
    watch.lap(&format!(
        "a wrong credential of the bucket costs one replica, the right one mends it; {}",
        ledger.figures()
    ));
    world.remove_namespace("b13").await
}

/// Deletes the CA of replicas, and waits until they have certificates of another one and trust no other.
async fn peer_ca(world: &World, registry: &Registry<'_>) -> Result<()> {
    let former = field(world, "home-peer-ca", "tls.crt").await?;
    world.cluster.api().delete(&format!("{NAMESPACE}/secrets/home-peer-ca")).await?;
    let mut most = 0;
    for stage in ["both are trusted", "the former one is trusted no more"] {
        let reached = until(stage, PATIENCE, async || {
            let present = field(world, "home-peer-ca", "tls.crt").await?;
            let bundle = field(world, "home-peer-tls", "ca.crt").await?;
            let trusted = bundle.matches("BEGIN CERTIFICATE").count();
            ensure!(
                present != former && trusted == if stage.starts_with("both") { 2 } else { 1 },
                "{trusted} are trusted"
            );
            ensure!(bundle.contains(present.trim()), "the new one is not");
            Ok(trusted)
        });
        most = most.max(reached.await?);
        let status = registry.status().await?;
        ensure!(status.is_ready() && status.voters() == "3/3", "the quorum suffers: {}", status.0["status"]);
    }
    ensure!(most == 2, "there was no time in which both were trusted");
    registry.event_saying("RotatingCA", "the former one is trusted no more").await
}

/// Deletes the CA for clients, and waits until all who trust the new one alone are served: by itself, once clients could read of
/// it.
async fn serving_ca(world: &World, registry: &Registry<'_>) -> Result<()> {
    let shown = field(world, "home-serving-tls", "tls.crt").await?;
    world.cluster.api().delete(&format!("{NAMESPACE}/secrets/home-serving-ca")).await?;
    let told = async || {
        let bundle = registry.authority().await?;
        ensure!(bundle.matches("BEGIN CERTIFICATE").count() == 2, "clients are told of one CA");
        Ok(())
    };
    until("clients are told of both", PATIENCE, told).await?;
    ensure!(
        field(world, "home-serving-tls", "tls.crt").await? == shown,
        "another certificate came before clients could know"
    );
    let (user, password) = registry.credential().await?;
    until("all replicas show the new one's certificate", PATIENCE, async || {
        let client = Client::new(
            &registry.address().await?,
            &field(world, "home-serving-ca", "tls.crt").await?,
            &user,
            &password,
        )?;
        // Each question is another connection, and perhaps another replica.
        for _ in 0..12 {
            client.knocks().await?;
        }
        Ok(())
    })
    .await?;
    for stage in ["clients are told of another CA", "the certificate for clients is one of the new CA"] {
        registry.event_saying("RotatingCA", stage).await?;
    }
    Ok(())
}

async fn push_credential(world: &World, registry: &Registry<'_>) -> Result<()> {
    let (user, former) = registry.credential().await?;
    world.cluster.api().delete(&format!("{NAMESPACE}/secrets/home-push")).await?;
    until("there is another password", PATIENCE, async || {
        let (_, password) = registry.credential().await?;
        ensure!(password != former, "it is the same");
        Ok(())
    })
    .await?;
    let (new, old) = (
        registry.client().await?,
        Client::new(&registry.address().await?, &registry.authority().await?, &user, &former)?,
    );
    until("all replicas take the new one, and not the former one", PATIENCE, async || {
        for _ in 0..12 {
            new.knocks().await?;
            ensure!(old.knocks().await.is_err(), "the former password is taken");
        }
        Ok(())
    })
    .await
}

/// Gives it a wrong credential, then the right one.
async fn bucket_credential(world: &World, registry: &Registry<'_>) -> Result<()> {
    let secret = |key: &str| json!({ "stringData": { "AWS_SECRET_ACCESS_KEY": key } });
    let path = format!("{NAMESPACE}/secrets/bucket");
    world.cluster.api().merge(&path, &secret("this-is-wrong")).await?;
    // It may be seen failing a moment before the others miss it.
    let fails = |status: &Status| {
        let is_told = status.condition("Progressing").is_some_and(|found| found["reason"] == "ReplicaFails");
        is_told && status.is_ready() && status.voters() != "3/3"
    };
    let failing = registry.until("says that one replica fails, and serves", fails).await?;
    ensure!(failing.voters() == "2/3", "more than one is away: {}", failing.voters());
    world.cluster.api().merge(&path, &secret(Bucket::SECRET_KEY)).await?;
    registry
        .until("is as it was", |status| {
            let progressing = status.condition("Progressing");
            status.is_ready() && status.voters() == "3/3" && progressing.is_some_and(|found| found["status"] == "False")
        })
        .await
        .map(drop)
}

/// What a Secret of the namespace has under a key.
async fn field(world: &World, secret: &str, key: &str) -> Result<String> {
    let found = world.cluster.api().get(&format!("{NAMESPACE}/secrets/{secret}")).await?;
    let encoded = found["data"][key].as_str().with_context(|| format!("{secret} has a {key}"))?;
    Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
}

/// What changes when a replica is restarted in any way.
async fn lives(registry: &Registry<'_>) -> Result<Vec<String>> {
    let life =
        |pod: &Value| format!("{} {}", pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["containerID"]);
    Ok(registry.pods().await?.iter().map(life).collect())
}

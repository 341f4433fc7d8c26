//! Backup and restore of real processes, on files and on a real S3 server.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::harness::{Client, Image, MEDIA_TYPE_IMAGE, Roadstead, S3, S3Kind, Setup, random_bytes, sha256, until};

const PATIENCE: Duration = Duration::from_mins(1);

/// Everything that a client can see: tags and their manifests byte by byte, and what refers to each.
async fn seen(client: &Client) -> Vec<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let catalog = client.get("/v2/_catalog").send().await.status(200).json();
    for repository in catalog["repositories"].as_array().expect("a list").iter().filter_map(|name| name.as_str()) {
        for tag in client.tags(repository).await {
            let manifest = client.manifest(repository, &tag).await.status(200);
            let digest = sha256(&manifest.body);
            let referrers = client.get(&format!("/v2/{repository}/referrers/{digest}")).send().await.status(200);
            seen.push((format!("{repository}:{tag}"), manifest.body.to_vec()));
            seen.push((format!("{repository} referrers of {digest}"), referrers.body.to_vec()));
        }
    }
    seen
}

/// A figure of `/metrics`.
async fn metric(client: &Client, name: &str) -> String {
    let metrics = client.get("/metrics").send().await.status(200);
    let text = String::from_utf8(metrics.body.to_vec()).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
}

async fn shipped_sequence(client: &Client) -> u64 {
    metric(client, "roadstead_backup_shipped_sequence").await.parse().expect("a number")
}

/// The newest change, and that everything up to it is in the backup.
async fn shipped(registry: &Roadstead) -> u64 {
    let status = registry.subcommand("status").args("--json").succeeds().await;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let sequence = status["changes"]["sequence"].as_u64().expect("a sequence");
    let client = registry.client();
    until("everything is in the backup", PATIENCE, async || {
        let lag = metric(&client, "roadstead_backup_lag_seconds").await;
        (shipped_sequence(&client).await >= sequence && lag == "0").then_some(())
    })
    .await;
    sequence
}

fn lose_metadata(data: &Path) {
    std::fs::remove_dir_all(data.join("metadata")).expect("there was one");
}

/// What a person reads: "restored ... to sequence N (...)".
fn reached(printed: &str) -> u64 {
    let rest = printed.split("to sequence ").nth(1).unwrap_or_else(|| panic!("no sequence in {printed}"));
    rest.split(' ').next().expect("a word").parse().unwrap_or_else(|_| panic!("no number in {printed}"))
}

fn image(number: u64) -> Image {
    Image::random(number, &[2_000, 30_000])
}

/// Pushes images until the process is gone; answers with those that were acknowledged.
async fn push_until_killed(client: Client, repository: String, from: u64) -> Vec<u64> {
    let mut pushed = Vec::new();
    for number in from.. {
        let image = image(number);
        for blob in image.blobs() {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(blob));
            match client.post(&target).body(blob.clone()).try_send().await {
                Ok(reply) => drop(reply.status(201)),
                Err(_) => return pushed,
            }
        }
        let target = format!("/v2/{repository}/manifests/v{number}");
        let put = client.put(&target).header("content-type", MEDIA_TYPE_IMAGE).body(image.manifest.clone());
        match put.try_send().await {
            Ok(reply) => drop(reply.status(201)),
            Err(_) => return pushed,
        }
        pushed.push(number);
    }
    pushed
}

async fn comes_back_after_kill(setup: Setup) {
    let mut registry = setup.start().await;
    let client = registry.client();
    client.push_image("team/base", "v1", &image(1)).await;
    let large = Image::random(2, &[9 << 20]);
    client.push_image("team/base", "large", &large).await;
    let before = shipped(&registry).await;
    let expected = seen(&client).await;

    let mut pushers = JoinSet::new();
    for pusher in 0..3 {
        pushers.spawn(push_until_killed(client.clone(), format!("team/load-{pusher}"), 100 * (pusher + 1)));
    }
    until("the load is in the backup", PATIENCE, async || {
        (shipped_sequence(&client).await > before + 60).then_some(())
    })
    .await;
    registry.kill();
    let pushed = pushers.join_all().await;
    assert!(pushed.iter().map(Vec::len).sum::<usize>() > 5, "{pushed:?}");
    lose_metadata(&registry.data());

    let printed = registry.setup().offline(&["restore"]).succeeds().await;
    let sequence = reached(&printed);
    assert!(sequence > before + 60, "{printed}");
    assert!(printed.contains("objects that it names are there") && !printed.contains("missing"), "{printed}");
    registry.restart().await;
    let client = registry.client();
    let status = registry.subcommand("status").args("--json").succeeds().await;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["changes"]["sequence"], sequence, "the printed sequence is where it stands");
    let now = seen(&client).await;
    assert!(expected.iter().all(|fact| now.contains(fact)), "what was shipped before is there, byte for byte");
    client.pull_image("team/base", "large", &large).await;
    // Of the load, whatever is there is whole; what is not was pushed in the last second.
    for (pusher, numbers) in pushed.iter().enumerate() {
        let repository = format!("team/load-{pusher}");
        let tags = client.tags(&repository).await;
        assert!(tags.len() + 25 > numbers.len(), "{} of {} came back", tags.len(), numbers.len());
        for tag in &tags {
            let number = tag.trim_start_matches('v').parse().expect("a number");
            client.pull_image(&repository, tag, &image(number)).await;
        }
    }
    // And it goes on from there, with a backup of its own.
    client.push_image("team/after", "v1", &image(3)).await;
    shipped(&registry).await;
    let expected = seen(&client).await;
    registry.kill();
    lose_metadata(&registry.data());
    registry.setup().offline(&["restore"]).succeeds().await;
    registry.restart().await;
    assert_eq!(seen(&registry.client()).await, expected);
    registry.assert_unharmed();
}

#[tokio::test]
async fn what_was_shipped_comes_back_on_files() {
    comes_back_after_kill(Setup::filesystem()).await;
}

#[tokio::test]
async fn what_was_shipped_comes_back_on_s3() {
    let s3 = S3::start(S3Kind::Minio).await;
    comes_back_after_kill(Setup::s3(&s3)).await;
}

#[tokio::test]
async fn a_restore_goes_back_to_an_earlier_sequence_and_collection_spares_what_it_names() {
    let s3 = S3::start(S3Kind::Versity).await;
    let setup = Setup::s3(&s3).flag("--gc-grace", "1s");
    let mut registry = setup.clone().start().await;
    let client = registry.client();
    client.push_image("team/app", "v1", &image(1)).await;
    let first = shipped(&registry).await;
    let expected = seen(&client).await;
    let json = registry.setup().offline(&["backup", "--json"]).succeeds().await;
    let taken: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(taken["sequence"], first);
    client.push_image("team/app", "v2", &image(2)).await;
    // Deleted after the place to go back to.
    client.delete(&format!("/v2/team/app/manifests/{}", image(1).digest())).send().await.status(202);
    shipped(&registry).await;
    assert!(registry.terminate().await.success());

    // Without a registry that runs, too.
    let backed = registry.setup().offline(&["backup"]).succeeds().await;
    assert!(backed.contains("meta/"), "{backed}");
    let listed = registry.setup().offline(&["backup", "list"]).succeeds().await;
    assert!(listed.contains(&format!("snapshot of sequence {first} (")), "{listed}");

    let anew = setup.on_new_data();
    let printed = anew.offline(&["restore", "--sequence", &first.to_string()]).succeeds().await;
    assert_eq!(reached(&printed), first);
    let refused = anew.offline(&["restore"]).fails().await;
    assert!(refused.contains("has facts in it already") && refused.contains("next: "), "{refused}");
    let left = anew.offline(&["restore", "--if-empty"]).succeeds().await;
    assert!(left.contains("has facts in it already: nothing was restored"), "{left}");
    let restored = anew.start().await;
    let client = restored.client();
    assert_eq!(seen(&client).await, expected);
    // A second of grace is long over when the janitor has swept twice; what the facts name has to stay.
    let swept = client.push_blob("team/garbage", b"garbage").await;
    until("what nothing names is collected", PATIENCE, async || {
        (client.blob("team/garbage", &swept).await.status == 404).then_some(())
    })
    .await;
    client.pull_image("team/app", "v1", &image(1)).await;
    let keys = s3.keys().await.into_iter().filter(|key| key.starts_with("blobs/")).count();
    assert!(keys >= 6, "nor is anything deleted that another restore may want: {keys}");
}

#[tokio::test]
async fn a_store_is_one_registrys() {
    let s3 = S3::start(S3Kind::Minio).await;
    let registry = Setup::s3(&s3).start().await;
    registry.client().push_image("team/app", "v1", &image(1)).await;
    shipped(&registry).await;
    let (status, log) = Setup::s3(&s3).refuses().await;
    assert!(!status.success());
    assert_eq!(status.code(), Some(5), "whoever starts it is told that starting it again does not help");
    assert!(log.contains("it belongs to another registry") && log.contains("roadstead restore"), "{log}");
    let beside = Setup::s3(&s3).flag("--s3-prefix", "beside").start().await;
    beside.client().push_image("team/app", "v1", &image(2)).await;

    // The old process runs on while its store is restored elsewhere, and finds that out.
    let anew = Setup::s3(&s3);
    anew.offline(&["restore"]).succeeds().await;
    let successor = anew.start().await;
    successor.client().pull_image("team/app", "v1", &image(1)).await;
    let mut registry = registry;
    assert!(!registry.ended().await.success());
    let log = registry.log();
    assert!(log.contains("restored into another data folder"), "{log}");
}

#[tokio::test]
async fn without_a_backup_content_is_recovered_by_its_bytes() {
    let setup = Setup::filesystem().switch("--backup=false");
    let mut registry = setup.start().await;
    let client = registry.client();
    let large = Image::random(1, &[9 << 20, 400]);
    client.push_image("team/app", "v1", &large).await;
    client.push_image("team/other", "v1", &image(2)).await;
    // Too large for the log, so that it is an object.
    let mut index: serde_json::Value = serde_json::from_slice(&image(2).manifest).expect("JSON");
    index["annotations"] = serde_json::json!({"padding": "x".repeat(100_000)});
    let manifest = index.to_string().into_bytes();
    client.put_manifest("team/other", "padded", MEDIA_TYPE_IMAGE, &manifest).await.status(201);
    let mut open = client.begin("team/app").await;
    open.stream(random_bytes(9, 9 << 20).into()).await.status(202);
    registry.kill();
    lose_metadata(&registry.data());
    let rotten = registry
        .stored_files()
        .into_iter()
        .find(|(path, length)| *length == 400 && path.to_string_lossy().contains("/blobs/blobs/"));
    std::fs::write(&rotten.expect("the small layer").0, random_bytes(7, 400)).expect("rot");

    let refused = registry.setup().offline(&["restore"]).fails().await;
    assert!(refused.contains("no backup") && refused.contains("--recover"), "{refused}");
    let files = registry.stored_files();
    let printed = registry.setup().offline(&["restore", "--recover"]).succeeds().await;
    assert!(printed.contains("1 manifests") && printed.contains("manifests of up to 64 KiB"), "{printed}");
    assert_eq!(registry.stored_files(), files, "nothing in the store was changed");
    registry.restart().await;
    let client = registry.client();
    let digest = sha256(&manifest);
    assert_eq!(client.manifest("recovered", &digest).await.status(200).body, manifest);
    for blob in large.blobs().take(2).chain(image(2).blobs()) {
        assert!(client.blob("recovered", &sha256(blob)).await.status(200).body == *blob);
    }
    client.blob("recovered", &sha256(&large.layers[1])).await.status(404);
    client.blob("recovered", &sha256(&random_bytes(7, 400))).await.status(200);
    assert_eq!(client.tags("recovered").await, ["inventory-1"]);
    let inventory = client.manifest("recovered", "inventory-1").await.status(200).json();
    let named = inventory["layers"].as_array().expect("layers").len();
    assert_eq!(named, 3, "the blobs that the manifest does not name: {inventory}");
    registry.assert_unharmed();
}

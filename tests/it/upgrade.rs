//! Data folders as earlier releases left them, which this one must open and serve; and one of a later release, which it
//! must refuse.
//!
//! `ROADSTEAD_WRITE_GOLDEN=1` makes the folder of the present format if it is missing. See `golden/README.md`.

use std::path::{Path, PathBuf};

use roadstead_metadata::{Level, Levels, Metadata, Options};

use crate::harness::{Client, Image, MEDIA_TYPE_IMAGE, Setup, Upload, Workbench, repository_root, sha256};

/// The formats of released data folders, each with an archive of that name.
const FORMATS: [&str; 1] = ["format-1"];

/// The largest part of the session; zeros, so that the archive is small.
const PART: usize = 5 << 20;
/// What of the session has arrived: a part and a tail.
const ARRIVED: usize = PART + 1_000;
const SESSION: &str = "session";

fn archive(format: &str) -> PathBuf {
    repository_root().join("tests/it/golden").join(format).with_extension("tar.gz")
}

fn images() -> [Image; 2] {
    [Image::random(1, &[3_000, 10]), Image::random(2, &[500])]
}

/// A manifest that refers to the first image.
fn signature() -> Vec<u8> {
    let [subject, _] = images();
    let empty =
        serde_json::json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2});
    let subject =
        serde_json::json!({"mediaType": MEDIA_TYPE_IMAGE, "digest": subject.digest(), "size": subject.manifest.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MEDIA_TYPE_IMAGE, "artifactType": "application/vnd.example.signature",
        "config": empty, "layers": [empty], "subject": subject,
    });
    manifest.to_string().into_bytes()
}

/// The same settings for the one who writes and the one who reads. The session must not have expired since.
fn setup() -> Setup {
    Setup::filesystem().flag("--part-size", "5MiB").flag("--upload-expiry", "36500d")
}

/// Fills a data folder: some of it is in a checkpoint of the state, the rest only in the log.
async fn write(path: &Path) {
    let setup = setup();
    let mut registry = setup.clone().start().await;
    let [first, second] = images();
    registry.client().push_image("team/app", "v1", &first).await;
    assert!(registry.terminate().await.success(), "an orderly end makes a checkpoint");
    registry.restart().await;
    let client = registry.client();
    client.push_image("other", "v1", &second).await;
    client.push_image("other", "latest", &second).await;
    client.push_blob("team/app", b"{}").await;
    let signature = signature();
    client.put_manifest("team/app", &sha256(&signature), MEDIA_TYPE_IMAGE, &signature).await.status(201);
    let mut session = client.begin("team/app").await;
    session.stream(vec![0_u8; ARRIVED].into()).await.status(202);
    let location = session.location.strip_prefix(registry.base()).unwrap_or(&session.location).to_owned();
    registry.kill();
    std::fs::write(setup.data().join(SESSION), location).expect("the session is kept");
    let bench = Workbench::new();
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let tar = bench.tool("tar").args("--sort=name --owner=0 --group=0 --numeric-owner -cz -f").arg(path);
    tar.arg("-C").arg(setup.data()).args("--exclude=admin.sock .").succeeds().await;
}

async fn check(client: &Client, location: String) {
    let [first, second] = images();
    let catalog = client.get("/v2/_catalog").send().await.status(200).json();
    assert_eq!(catalog["repositories"], serde_json::json!(["other", "team/app"]));
    assert_eq!(client.tags("team/app").await, ["v1"]);
    assert_eq!(client.tags("other").await, ["latest", "v1"]);
    client.pull_image("team/app", "v1", &first).await;
    client.pull_image("other", "v1", &second).await;
    client.pull_image("other", "latest", &second).await;
    let referrers = client.get(&format!("/v2/team/app/referrers/{}", first.digest())).send().await.status(200).json();
    let signature = signature();
    assert_eq!(referrers["manifests"][0]["digest"], sha256(&signature));
    assert_eq!(client.manifest("team/app", &sha256(&signature)).await.status(200).body, signature);

    let mut session = Upload { client: client.clone(), location };
    let progress = session.progress().await.status(204);
    assert_eq!(progress.range_end(), ARRIVED as u64);
    session.location = progress.location();
    session.chunk(ARRIVED..2 * PART, vec![0; 2 * PART - ARRIVED]).await.status(202);
    let whole = vec![0; 2 * PART];
    session.put(&sha256(&whole), Vec::new()).await.status(201);
    assert!(client.blob("team/app", &sha256(&whole)).await.status(200).body == whole);
}

#[tokio::test]
async fn the_data_folder_of_every_released_format_is_served() {
    for format in FORMATS {
        let path = archive(format);
        if !path.exists() && std::env::var_os("ROADSTEAD_WRITE_GOLDEN").is_some() {
            write(&path).await;
        }
        let setup = setup();
        std::fs::create_dir(setup.data()).expect("a folder");
        Workbench::new().tool("tar").args("-xz -f").arg(&path).arg("-C").arg(setup.data()).succeeds().await;
        let location = std::fs::read_to_string(setup.data().join(SESSION)).expect("the session");
        let mut registry = setup.start().await;
        check(&registry.client(), location).await;
        registry.client().push_image("new", "v1", &Image::random(3, &[100])).await;
        registry.assert_unharmed();
    }
}

#[tokio::test]
async fn the_data_folder_of_a_later_release_is_refused_with_what_to_do() {
    let setup = setup();
    let mut registry = setup.clone().start().await;
    assert!(registry.terminate().await.success());
    let marker = setup.data().join("metadata/format");
    std::fs::write(&marker, "roadstead metadata format 7\nwritten by roadstead 9.8.7\n").expect("the marker");
    let (status, log) = setup.refuses().await;
    assert!(!status.success());
    for word in ["9.8.7", "format 7", "format 1", "next: "] {
        assert!(log.contains(word), "no {word:?} in\n{log}");
    }
}

/// A later release ran here and did what this one does not read: the format of the folder is the same, and what is in it
/// may be anything.
#[tokio::test]
async fn the_data_folder_of_a_cluster_that_uses_more_is_refused_with_what_to_do() {
    let setup = setup();
    let mut registry = setup.clone().start().await;
    registry.client().push_image("team/app", "v1", &Image::random(1, &[100])).await;
    let level = registry.subcommand("status").succeeds().await;
    let level = level.lines().find(|line| line.starts_with("level ")).expect("a line").to_owned();
    assert!(level.contains(&format!("{}, which is all that this release knows", Level::NEWEST)), "{level}");
    assert!(registry.terminate().await.success());

    let later = Level(Level::NEWEST.0 + 1);
    let levels = Levels { reads: later, ..Levels::OF_THIS_BUILD };
    let options = Options { levels, ..Options::new(setup.data().join("metadata"), [1, 2]) };
    let metadata = Metadata::open(options).await.expect("it opens");
    assert_eq!(metadata.status().level, later);
    metadata.shutdown().await.expect("an orderly end");
    drop(metadata);

    let (status, log) = setup.refuses().await;
    assert!(!status.success());
    let facts = format!("the facts are at level {later}");
    let reads = format!("reads up to level {}", Level::NEWEST);
    for words in [&*facts, &reads, "roadstead restore", "next: start the release that wrote it, or a later one"] {
        assert!(log.contains(words), "no {words:?} in\n{log}");
    }
}

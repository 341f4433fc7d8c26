//! Scrub, on real files and in a real bucket: it finds what was damaged by hand, and only that; a push mends it; nothing
//! is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use roadstead_blobs::{ObjectStore as _, S3Credentials, S3Options, S3Store};
use roadstead_oci::ObjectKey;
use serde_json::Value;

use crate::harness::{Image, Roadstead, S3, S3Kind, Setup, random_bytes, sha256, until};

/// More than one part, so that it is kept in files of its own parts.
const LARGE: usize = 10_000_000;

/// As long as the janitor takes to delete what is condemned, with others beside it.
const SWEPT: Duration = Duration::from_mins(1);

/// What a scrub told: its exit code, what it found by kind and digest (an orphan: by object), and its report.
struct Scrubbed {
    code: i32,
    found: BTreeSet<(String, String)>,
    report: Value,
}

async fn scrub(registry: &Roadstead, arguments: &str) -> Scrubbed {
    let (code, printed, log) = registry.subcommand("scrub").args("--json --rate 0B").args(arguments).ends().await;
    let (mut found, mut report) = (BTreeSet::new(), None);
    for line in printed.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(finding) = line.get("found") {
            let what = if finding["digest"].is_string() { &finding["digest"] } else { &finding["object"] };
            assert!(found.insert((text(&finding["kind"]), text(what))), "told twice: {line}");
        } else {
            report = Some(line["report"].clone());
        }
    }
    Scrubbed { code, found, report: report.unwrap_or_else(|| panic!("no report:\n{printed}{log}")) }
}

fn found(findings: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    findings.iter().map(|(kind, what)| ((*kind).to_owned(), (*what).to_owned())).collect()
}

/// A registry that scrubs only when it is told to.
fn on_demand(setup: Setup) -> Setup {
    setup.flag("--scrub-rate", "0B")
}

/// Pushes a blob, and says which files it is in.
async fn push(registry: &Roadstead, content: &[u8]) -> (String, Vec<PathBuf>) {
    let before: BTreeSet<_> = registry.stored_files().into_iter().map(|(path, _)| path).collect();
    let digest = registry.client().push_blob("team/app", content).await;
    let files = registry.stored_files().into_iter().map(|(path, _)| path);
    (digest, files.filter(|path| !before.contains(path)).collect())
}

fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a file is written");
}

fn file(files: &[PathBuf], is_it: impl Fn(&str) -> bool) -> &PathBuf {
    let name = |path: &&PathBuf| is_it(path.file_name().and_then(|name| name.to_str()).expect("a plain name"));
    files.iter().find(name).unwrap_or_else(|| panic!("none of {files:?}"))
}

#[tokio::test]
async fn damage_to_files_is_found_set_aside_and_mended_by_a_push() {
    let mut registry = on_demand(Setup::filesystem()).start().await;
    let client = registry.client();
    let image = Image::random(1, &[50_000, LARGE]);
    client.push_image("team/app", "v1", &image).await;

    let contents: Vec<Vec<u8>> = [20_000, 20_000, 20_000, LARGE, LARGE, LARGE]
        .into_iter()
        .zip(2..)
        .map(|(length, seed)| random_bytes(seed, length))
        .collect();
    let mut blobs = Vec::new();
    for content in &contents {
        blobs.push(push(&registry, content).await);
    }
    assert_eq!(scrub(&registry, "--orphan-age 0s").await.found, found(&[]), "nothing is damaged yet");

    flip(&blobs[0].1[0]);
    fs::remove_file(&blobs[1].1[0]).expect("it is there");
    fs::write(&blobs[2].1[0], &contents[2][..19_999]).expect("a file is written");
    flip(file(&blobs[3].1, |name| name != "index"));
    flip(file(&blobs[4].1, |name| name == "index"));
    fs::write(file(&blobs[5].1, |name| name == "index"), "no index at all").expect("a file is written");
    let orphan = "blobs/01234567-89ab-4def-8123-456789abcdef";
    let orphan_file = registry.data().join("blobs/blobs/012").join(&orphan["blobs/".len()..]);
    fs::create_dir_all(orphan_file.parent().expect("a folder")).expect("a folder");
    fs::write(&orphan_file, "lost").expect("a file is written");
    let damaged_files = registry.stored_files();

    let scrubbed = scrub(&registry, "--orphan-age 0s").await;
    let digest = |index: usize| blobs[index].0.as_str();
    let kinds: BTreeMap<_, _> = scrubbed.found.iter().map(|(kind, what)| (what.as_str(), kind.as_str())).collect();
    // Which of the two a damaged index looks like is up to the bit.
    let index_kind = kinds.get(digest(4)).copied().unwrap_or_default();
    assert!(["damaged", "missing"].contains(&index_kind), "{kinds:?}");
    let expected = [
        ("damaged", digest(0)),
        ("missing", digest(1)),
        ("damaged", digest(2)),
        ("damaged", digest(3)),
        (index_kind, digest(4)),
        ("damaged", digest(5)),
        ("orphan", orphan),
    ];
    assert_eq!(scrubbed.found, found(&expected));
    assert_eq!(scrubbed.code, 3);
    assert_eq!(scrubbed.report["sound"], false);
    assert!(registry.log().contains("push it again to mend it"), "{}", registry.log());
    assert_eq!(registry.stored_files(), damaged_files, "nothing is deleted, nor moved");

    client.pull_image("team/app", "v1", &image).await;
    for (digest, _) in &blobs {
        client.blob("team/app", digest).await.status(404);
        client.head(&format!("/v2/team/app/blobs/{digest}")).send().await.status(404);
    }
    for content in &contents {
        let digest = client.push_blob("team/app", content).await;
        assert!(client.blob("team/app", &digest).await.status(200).body == *content);
    }
    mended(&registry, 6).await;
    let gone = || !orphan_file.exists() && blobs.iter().flat_map(|(_, files)| files).all(|file| !file.exists());
    until("orphans are deleted", SWEPT, async || gone().then_some(())).await;
    registry.assert_unharmed();
}

/// All is well again but for so many orphans: damaged objects that were left where they were, and the one by hand.
async fn mended(registry: &Roadstead, orphans: u64) {
    let scrubbed = scrub(registry, "--orphan-age 0s").await;
    assert_eq!((scrubbed.code, &scrubbed.report["orphans"]), (0, &orphans.into()), "{:?}", scrubbed.found);
    let young = scrub(registry, "").await;
    assert_eq!((young.code, &young.report["orphans"]), (0, &0.into()), "no orphan is a day old");
    let scrubbed = scrub(registry, "--orphan-age 0s --delete-orphans").await;
    assert_eq!((scrubbed.code, &scrubbed.report["condemned"]), (0, &orphans.into()));
    assert_eq!(scrub(registry, "--orphan-age 0s").await.found, found(&[]), "the facts know them now, as condemned");
}

#[tokio::test]
async fn damage_in_a_bucket_is_found_set_aside_and_mended_by_a_push() {
    let server = S3::start(S3Kind::Minio).await;
    let registry = on_demand(Setup::s3(&server)).start().await;
    let client = registry.client();
    let image = Image::random(1, &[50_000, LARGE]);
    client.push_image("team/app", "v1", &image).await;
    let contents: Vec<Vec<u8>> =
        [20_000, 20_000, LARGE].into_iter().zip(2..).map(|(length, seed)| random_bytes(seed, length)).collect();
    let mut keys: Vec<ObjectKey> = Vec::new();
    for content in &contents {
        let before = server.keys().await;
        client.push_blob("team/app", content).await;
        let new = server.keys().await.into_iter().find(|key| !before.contains(key)).expect("an object");
        keys.push(new.parse().expect("a key"));
    }
    let store = bucket(&server).await;
    let mut flipped = contents[0].clone();
    flipped[10_000] ^= 1;
    store.put(&keys[0], flipped.into()).await.expect("written");
    store.delete(&keys[1..2]).await.expect("deleted");
    store.put(&keys[2], Bytes::copy_from_slice(&contents[2][1..])).await.expect("written");
    let orphan: ObjectKey = "blobs/01234567-89ab-4def-8123-456789abcdef".parse().expect("a key");
    store.put(&orphan, "lost".into()).await.expect("written");
    let before = server.keys().await;

    let scrubbed = scrub(&registry, "--orphan-age 0s").await;
    let digests: Vec<_> = contents.iter().map(|content| sha256(content)).collect();
    let expected =
        [("damaged", &*digests[0]), ("missing", &*digests[1]), ("damaged", &*digests[2]), ("orphan", orphan.as_str())];
    assert_eq!(scrubbed.found, found(&expected));
    assert_eq!(scrubbed.code, 3);
    assert_eq!(server.keys().await, before, "nothing is deleted, nor moved");

    client.pull_image("team/app", "v1", &image).await;
    for (digest, content) in digests.iter().zip(&contents) {
        client.blob("team/app", digest).await.status(404);
        client.push_blob("team/app", content).await;
        assert!(client.blob("team/app", digest).await.status(200).body == *content);
    }
    mended(&registry, 3).await;
    let is_gone = async || (!server.keys().await.iter().any(|key| key == orphan.as_str())).then_some(());
    until("the orphan is deleted", SWEPT, is_gone).await;
}

async fn bucket(server: &S3) -> S3Store {
    let options = S3Options {
        bucket: S3::BUCKET.to_owned(),
        prefix: String::new(),
        region: Some(S3::REGION.to_owned()),
        endpoint: Some(server.endpoint()),
        public_endpoint: None,
        path_style: true,
        ca_file: None,
        credentials: Some(S3Credentials {
            access_key_id: S3::ACCESS_KEY.to_owned(),
            secret_access_key: S3::SECRET_KEY.to_owned(),
        }),
    };
    S3Store::connect(options).await.expect("the options are right")
}

#[tokio::test]
async fn the_background_finds_it_too_and_tells_by_metrics() {
    let registry = Setup::filesystem().flag("--scrub-interval", "1s").start().await;
    let (digest, files) = push(&registry, &random_bytes(1, 20_000)).await;
    let metric = async |line: &str| {
        let metrics = registry.client().get("/metrics").send().await.status(200).body;
        String::from_utf8_lossy(&metrics).lines().any(|metric| metric == line).then_some(())
    };
    let in_time = Duration::from_secs(30);
    until("a pass found nothing", in_time, async || metric("roadstead_scrub_found{kind=\"damaged\"} 0").await).await;
    registry.client().blob("team/app", &digest).await.status(200);
    flip(&files[0]);
    until("a pass found it", in_time, async || metric("roadstead_scrub_found{kind=\"damaged\"} 1").await).await;
    registry.client().blob("team/app", &digest).await.status(404);
}

/// What comes and goes while it is looked at is no damage.
#[tokio::test]
async fn a_pass_beside_pushes_and_deletes_finds_nothing() {
    let registry = on_demand(Setup::filesystem()).flag("--gc-grace", "1s").start().await;
    let client = registry.client();
    let churn = async {
        for seed in 0..60 {
            let digest = client.push_blob("team/app", &random_bytes(seed, 30_000)).await;
            if seed % 2 == 0 {
                client.delete(&format!("/v2/team/app/blobs/{digest}")).send().await.status(202);
            }
        }
    };
    let passes = async {
        let mut passes = 0;
        loop {
            let scrubbed = scrub(&registry, "--orphan-age 0s").await;
            assert_eq!((scrubbed.code, scrubbed.found), (0, found(&[])));
            passes += 1;
            if passes == 1_000 {
                return;
            }
        }
    };
    tokio::select! {
        () = churn => {}
        () = passes => {}
    }
}

#[tokio::test]
async fn people_see_a_table() {
    let registry = on_demand(Setup::filesystem()).start().await;
    push(&registry, b"content").await;
    let text = registry.subcommand("scrub").succeeds().await;
    for words in ["examined           1 blobs and manifests, 7 B", "damaged            0", "missing            0"] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    let (code, _, told) = registry.subcommand("scrub").args("--rate fast").ends().await;
    assert!(code == 2 && told.contains("MiB"), "{told}");
}

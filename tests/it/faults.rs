//! What the registry stands on fails: pushes are told to come back, pulls go on, and nobody has to mend anything (P6).

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::harness::{
    Client, Image, MEDIA_TYPE_IMAGE, Mount, Reply, S3, S3Kind, Setup, alone, random_bytes, sha256, until,
};

/// Every answer of an outage comes within the attempts at one call of the store, which take up to two minutes.
const RECOVERY: Duration = Duration::from_mins(2);

/// It was done, or its client was told to come back.
#[track_caller]
fn done_or_put_off(reply: &Reply, done: u16) -> bool {
    if reply.status == done {
        return true;
    }
    assert_eq!(reply.status, 503, "{reply:?}");
    let seconds = reply.header("retry-after").expect("a 503 says when to come back").parse::<u32>();
    assert!(seconds.is_ok_and(|seconds| seconds > 0), "{reply:?}");
    false
}

async fn push_blob(client: &Client, repository: &str, content: &[u8]) -> bool {
    let target = format!("/v2/{repository}/blobs/uploads/?digest={}", sha256(content));
    done_or_put_off(&client.post(&target).body(content.to_vec()).send().await, 201)
}

async fn push_image(client: &Client, repository: &str, tag: &str, image: &Image) -> bool {
    for blob in image.blobs() {
        if !push_blob(client, repository, blob).await {
            return false;
        }
    }
    done_or_put_off(&client.put_manifest(repository, tag, MEDIA_TYPE_IMAGE, &image.manifest).await, 201)
}

/// Fills a file system to the last byte.
fn fill(file: &Path) {
    let mut ballast = File::create(file).expect("a file");
    for size in [1 << 20, 4096, 1] {
        while ballast.write_all(&vec![1; size]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_puts_pushes_off_until_there_is_room() {
    let Some(mount) = Mount::tmpfs(64 << 20) else { return };
    let setup = Setup::filesystem().data_on(&mount).flag("--disk-reserve", "8MiB").flag("--part-size", "5MiB");
    let mut registry = setup.start().await;
    let client = registry.client();
    let image = Image::random(1, &[1_000, 3 << 20]);
    assert!(push_image(&client, "app", "v1", &image).await);

    // What somebody else gives back in the end, above what the log takes in the meantime.
    let ballast = mount.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).expect("there is room");

    // Blobs fill it up to the reserve, in one request or part by part.
    let mut stored = 0;
    while push_blob(&client, "app", &random_bytes(100 + stored, 4 << 20)).await {
        stored += 1;
    }
    assert!((8..16).contains(&stored), "{stored} blobs of 4 MiB fit beside the image");
    let session = client.begin("app").await;
    let reply = client.patch(&session.location).body(random_bytes(2, 12 << 20)).send().await;
    assert!(!done_or_put_off(&reply, 202), "there is no room for a part");
    // Facts go on for a while: what was stored can be named.
    let reply = client.put_manifest("app", "v2", MEDIA_TYPE_IMAGE, &image.manifest).await;
    assert!(done_or_put_off(&reply, 201));

    // Somebody else takes all of it.
    fill(&ballast);
    assert!(!push_blob(&client, "app", b"small").await);
    let reply = client.put_manifest("app", "v3", MEDIA_TYPE_IMAGE, &image.manifest).await;
    assert!(!done_or_put_off(&reply, 201));
    // Even deletions, when the log has used up its last page; it waits for room, and nothing is broken.
    until("the log is full", RECOVERY, async || {
        let reply = client.delete("/v2/app/manifests/none").send().await;
        (!done_or_put_off(&reply, 404)).then_some(())
    })
    .await;
    assert!(registry.log().contains("the log waits for room on the disk"), "{}", registry.log());
    client.pull_image("app", "v1", &image).await;
    client.get("/livez").send().await.status(200);

    std::fs::remove_file(&ballast).expect("it is there");
    until("deletions are taken", RECOVERY, async || {
        done_or_put_off(&client.delete("/v2/app/manifests/v2").send().await, 202).then_some(())
    })
    .await;
    until("there is room for small blobs", RECOVERY, async || push_blob(&client, "app", b"small").await.then_some(()))
        .await;
    registry.assert_unharmed();
    registry.kill();
    registry.restart().await;
    let client = registry.client();
    client.pull_image("app", "v1", &image).await;
    assert_eq!(client.tags("app").await, ["v1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_makes_room_on_a_full_disk() {
    let Some(mount) = Mount::tmpfs(64 << 20) else { return };
    let setup = Setup::filesystem().data_on(&mount).flag("--disk-reserve", "8MiB").flag("--part-size", "5MiB");
    let mut registry = setup.start().await;
    let client = registry.client();
    let mut sessions = Vec::new();
    loop {
        let session = client.begin("app").await;
        let reply = client.patch(&session.location).body(random_bytes(1, 10 << 20)).send().await;
        sessions.push(session);
        if !done_or_put_off(&reply, 202) {
            break;
        }
    }
    assert!(sessions.len() > 3, "some of 10 MiB fit");
    assert!(!push_blob(&client, "app", &random_bytes(2, 5 << 20)).await);
    for session in &sessions {
        session.cancel().await.status(204);
    }
    until("a push fits again", RECOVERY, async || {
        push_blob(&client, "app", &random_bytes(2, 5 << 20)).await.then_some(())
    })
    .await;
    registry.assert_unharmed();
}

#[derive(Clone)]
struct Pushed {
    repository: String,
    tag: String,
    image: Image,
}

/// Pushes images until told to end, and answers with those that were acknowledged.
async fn push_on(client: Client, pusher: u64, ended: tokio::sync::watch::Receiver<bool>) -> Vec<Pushed> {
    let repository = format!("outage/{pusher}");
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if *ended.borrow() {
            break;
        }
        let image = Image::random(pusher * 1_000 + number, &[2_000, 6 << 20]);
        let tag = format!("v{number}");
        if push_image(&client, &repository, &tag, &image).await {
            acknowledged.push(Pushed { repository: repository.clone(), tag, image });
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_bucket_that_hangs_dies_and_comes_back_loses_nothing_and_stops_no_pull_of_a_manifest() {
    let _alone = alone().await;
    let mut s3 = S3::start(S3Kind::Minio).await;
    let mut registry = Setup::s3(&s3).flag("--part-size", "5MiB").start().await;
    let client = registry.client();
    let image = Image::random(9, &[2_000, 6 << 20]);
    client.push_image("kept", "v1", &image).await;

    let (end, ended) = tokio::sync::watch::channel(false);
    let mut pushers = JoinSet::new();
    for pusher in 1..=2 {
        pushers.spawn(push_on(client.clone(), pusher, ended.clone()));
    }
    let pull_manifests = async |seconds| {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..10 * seconds {
            looks.tick().await;
            assert_eq!(client.manifest("kept", "v1").await.status(200).body, image.manifest);
        }
    };
    pull_manifests(1).await;
    s3.freeze();
    pull_manifests(3).await;
    s3.thaw();
    pull_manifests(1).await;
    s3.stop();
    pull_manifests(2).await;
    let digest = sha256(&image.layers[1]);
    assert!(!done_or_put_off(&client.blob("kept", &digest).await, 200), "a blob is not there, but is not unknown");
    client.get("/livez").send().await.status(200);
    s3.start_again().await;
    until("a push is taken", RECOVERY, async || push_blob(&client, "kept", b"after").await.then_some(())).await;
    pull_manifests(1).await;

    end.send(true).expect("they push");
    let acknowledged = pushers.join_all().await.concat();
    assert!(!acknowledged.is_empty(), "the pushers did nothing");
    for Pushed { repository, tag, image } in acknowledged {
        client.pull_image(&repository, &tag, &image).await;
    }
    client.pull_image("kept", "v1", &image).await;
    registry.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_the_disk_has_cut_short_never_looks_whole() {
    let mut registry = Setup::filesystem().flag("--part-size", "5MiB").start().await;
    let client = registry.client();
    // One file, and a folder of parts.
    for (seed, length) in [(1, 3 << 20), (2, 11 << 20)] {
        let content = random_bytes(seed, length);
        let digest = client.push_blob("app", &content).await;
        assert!(client.blob("app", &digest).await.status(200).body == content);
    }
    for (path, length) in registry.stored_files() {
        let file = File::options().write(true).open(&path).expect("a file of the store");
        // Of an index, more than half is of one line.
        file.set_len(length / 2).expect("it is cut");
    }
    for (seed, length) in [(1, 3 << 20), (2, 11 << 20)] {
        let digest = sha256(&random_bytes(seed, length));
        let target = format!("/v2/app/blobs/{digest}");
        match client.get(&target).try_send().await {
            Ok(reply) => assert!(matches!(reply.status, 500 | 503), "{reply:?}"),
            Err(broken) => assert!(!broken.is_timeout(), "it is told at once"),
        }
    }
    client.get("/livez").send().await.status(200);
    registry.assert_unharmed();
}

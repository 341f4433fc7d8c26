//! Three replicas as three processes behind one address (P2, P3, P4, P6).

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::harness::{Client, Cluster, Image, MEDIA_TYPE_IMAGE, Setup, alone, random_bytes, sha256};

const PART: usize = 5 << 20;

fn setup() -> Setup {
    Setup::filesystem().flag("--part-size", "5MiB")
}

fn client(base: &str) -> Client {
    Client::with_authorities(base, &[])
}

#[tokio::test]
async fn p3_what_one_replica_acknowledged_every_other_one_shows() {
    let cluster = Cluster::start(3, setup).await;
    for round in 0..6 {
        let image = Image::random(round, &[1_000, 2 * PART + 300]);
        let writer = &cluster.replicas[usize::try_from(round).unwrap() % 3];
        writer.client().push_image("team/app", "latest", &image).await;
        for replica in &cluster.replicas {
            replica.client().pull_image("team/app", "latest", &image).await;
        }
    }
}

#[tokio::test]
async fn p4_each_request_of_an_upload_may_reach_another_replica() {
    let cluster = Cluster::start(3, setup).await;
    let client = client(&cluster.front.base());
    for seed in 0..3 {
        let content = random_bytes(seed, 3 * PART + 12_345);
        let digest = sha256(&content);
        let mut upload = client.begin("team/app").await;
        for start in (0..3).map(|part| part * PART) {
            upload.chunk(start..start + PART, content[start..start + PART].to_vec()).await.status(202);
            assert_eq!(upload.progress().await.status(204).range_end(), (start + PART) as u64);
        }
        upload.put(&digest, content[3 * PART..].to_vec()).await.status(201);
        let blob = client.blob("team/app", &digest).await.status(200);
        assert!(blob.body == content, "{digest} has other bytes than were pushed");
    }
}

#[tokio::test]
async fn p2_a_killed_leader_loses_nothing_and_writes_wait_out_the_election() {
    let _alone = alone().await;
    let mut cluster = Cluster::start(3, setup).await;
    let image = Image::random(1, &[1_000, PART + 300]);
    cluster.replicas[0].client().push_image("team/app", "before", &image).await;
    let leader = cluster.leader().await;
    let mut upload = cluster.replicas[leader].client().begin("team/app").await;
    let content = random_bytes(5, PART + 500);
    upload.chunk(0..PART, content[..PART].to_vec()).await.status(202);

    cluster.replicas[leader].kill();
    let other = cluster.replicas[(leader + 1) % 3].client();
    let put = other.put_manifest("team/app", "after", MEDIA_TYPE_IMAGE, &image.manifest).await;
    put.status(201);
    for survivor in [(leader + 1) % 3, (leader + 2) % 3] {
        let client = cluster.replicas[survivor].client();
        client.pull_image("team/app", "before", &image).await;
        client.pull_image("team/app", "after", &image).await;
    }
    // The session goes on elsewhere, from what its client was told.
    let session = upload.location.trim_start_matches(upload.client.base()).to_owned();
    let status = other.get(&session).send().await.status(204);
    assert_eq!(status.range_end(), PART as u64);

    cluster.replicas[leader].restart().await;
    let back = cluster.replicas[leader].client();
    back.pull_image("team/app", "after", &image).await;
    let last = back.put(&format!("{session}?digest={}", sha256(&content))).body(content[PART..].to_vec());
    last.send().await.status(201);
}

#[tokio::test]
async fn p6_without_a_quorum_pulls_go_on_and_say_so_and_pushes_are_told_to_come_back() {
    let mut cluster = Cluster::start(3, setup).await;
    let image = Image::random(1, &[1_000]);
    cluster.replicas[0].client().push_image("team/app", "v1", &image).await;
    let leader = cluster.leader().await;
    let lone = (leader + 1) % 3;
    let token = cluster.replicas[lone].command("mirror token elsewhere").succeeds().await;
    for other in (0..3).filter(|index| *index != lone) {
        cluster.replicas[other].kill();
    }
    let client = cluster.replicas[lone].client();
    client.pull_image("team/app", "v1", &image).await;
    let stale = client.manifest("team/app", "v1").await.status(200);
    let seconds: u64 = stale.header("registry-stale").expect("it says that it may be stale").parse().unwrap();
    assert!(seconds < 60, "{seconds}");
    let tags = client.get("/v2/team/app/tags/list").send().await.status(200);
    assert!(tags.header("registry-stale").is_some());
    let digest = sha256(&image.manifest);
    let exact = client.manifest("team/app", &digest).await.status(200);
    assert_eq!(exact.header("registry-stale"), None, "content by digest is never stale");
    for (reference, status) in [("v1", 503), (&digest[..], 200)] {
        let asked = client.get(&format!("/geo/v1/manifest?repository=team/app&reference={reference}"));
        // What a mirror is told, it passes on as home's word.
        asked.header("authorization", &format!("Bearer {}", token.trim())).send().await.status(status);
    }
    for unknown in ["no-such-tag", &sha256(b"nothing")] {
        let unknown = client.manifest("team/app", unknown).await.status(503);
        assert_eq!(unknown.header("retry-after"), Some("2"), "only a leader knows what does not exist");
    }
    let refused = client.put_manifest("team/app", "v2", MEDIA_TYPE_IMAGE, &image.manifest).await.status(503);
    assert_eq!(refused.header("retry-after"), Some("2"));

    let returning = (0..3).find(|index| *index != lone).unwrap();
    cluster.replicas[returning].restart().await;
    client.put_manifest("team/app", "v2", MEDIA_TYPE_IMAGE, &image.manifest).await.status(201);
    assert_eq!(client.manifest("team/app", "v1").await.status(200).header("registry-stale"), None);
}

#[tokio::test]
async fn p4_a_replica_that_is_stopped_in_an_upload_and_woken_later_does_no_harm() {
    let cluster = Cluster::start(3, setup).await;
    let content = random_bytes(9, 2 * PART + 77);
    let digest = sha256(&content);
    let leader = cluster.leader().await;
    let stalled = &cluster.replicas[(leader + 1) % 3];
    let mut upload = stalled.client().begin("team/app").await;
    upload.chunk(0..PART, content[..PART].to_vec()).await.status(202);
    let session = upload.location.trim_start_matches(stalled.base()).to_owned();
    stalled.signal(Signal::STOP);
    // This request waits in the stopped process's socket, and is answered when the session is another's.
    let mut late = JoinSet::new();
    let (waiting, bytes) = (stalled.client().patch(&session), content[PART..2 * PART].to_vec());
    late.spawn(waiting.header("content-range", &format!("{PART}-{}", 2 * PART - 1)).body(bytes).send());
    let other = cluster.replicas[leader].client();
    let range = format!("{PART}-{}", 2 * PART - 1);
    let patch = other.patch(&session).header("content-range", &range).body(content[PART..2 * PART].to_vec());
    patch.send().await.status(202);
    let closing = format!("{session}?digest={digest}");
    other.put(&closing).body(content[2 * PART..].to_vec()).send().await.status(201);
    stalled.signal(Signal::CONT);
    let late = late.join_next().await.unwrap().unwrap();
    assert!(matches!(late.status, 404 | 416), "the session has gone on without it: {}", late.status);
    let blob = stalled.client().blob("team/app", &digest).await.status(200);
    assert!(blob.body == content);
    assert!(cluster.folder().join("blobs").is_dir());
}

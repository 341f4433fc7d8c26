//! Pushes at a mirror while home, the link or a replica of the mirror goes away in the middle.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{PATIENCE, Regions, mirror_of_three};
use crate::harness::{Client, Image, Link, MEDIA_TYPE_IMAGE, Reply, Setup, sha256, until};

const MIB: usize = 1 << 20;

/// No push waits longer for what does not come.
const BOUND: Duration = Duration::from_secs(45);

async fn push_blobs(client: &Client, image: &Image) {
    for blob in image.blobs() {
        client.push_blob("team/app", blob).await;
    }
}

fn put(
    client: &Client,
    tag: &str,
    image: &Image,
) -> impl Future<Output = Result<Reply, reqwest::Error>> + Send + 'static {
    let request = client.put(&format!("/v2/team/app/manifests/{tag}")).header("content-type", MEDIA_TYPE_IMAGE);
    request.body(image.manifest.to_vec()).try_send()
}

#[track_caller]
fn assert_come_back(reply: &Reply, words: &str) {
    assert_eq!((reply.status, reply.error_code().as_str()), (503, "UNAVAILABLE"), "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    let message = reply.json()["errors"][0]["message"].as_str().expect("a message").to_owned();
    assert!(message.contains(words) && message.contains("push again"), "{message}");
}

#[tokio::test]
async fn p6_a_push_at_a_mirror_whose_home_is_away_is_told_so_and_is_done_when_it_is_back() {
    let regions = Regions::writing(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (one, two) = (Image::random(1, &[1_000]), Image::random(2, &[9 * MIB]));
    mirror.push_image("team/app", "latest", &one).await;
    regions.cut().await;
    // What is beside the client is kept beside it.
    push_blobs(&mirror, &two).await;
    let began = Instant::now();
    let refused = put(&mirror, "latest", &two).await.expect("an answer");
    assert_come_back(&refused, "nothing was changed");
    let deletion = mirror.delete("/v2/team/app/manifests/latest").send().await;
    assert_come_back(&deletion, "nothing was changed");
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    mirror.pull_image("team/app", "latest", &one).await;
    regions.reunite().await;
    put(&mirror, "latest", &two).await.expect("an answer").status(201);
    mirror.pull_image("team/app", "latest", &two).await;
    home.pull_image("team/app", "latest", &two).await;
}

#[tokio::test]
async fn p2_home_killed_in_the_middle_of_a_push_at_a_mirror_has_acknowledged_nothing_that_it_lacks() {
    let mut regions = Regions::writing(Link::SHORT).await;
    let mirror = regions.mirror.client();
    let size = 40 * MIB;
    let image = Image::random(1, &[size]);
    regions.wan.change(Link::new(20, 12 << 20));
    push_blobs(&mirror, &image).await;
    let before = regions.wan.carried_towards();
    let mut pushes = JoinSet::new();
    pushes.spawn(put(&mirror, "v1", &image));
    let wan = &regions.wan;
    until("half of it is home", PATIENCE, async || (wan.carried_towards() > size as u64 / 2).then_some(())).await;
    regions.home.kill();
    let killed = Instant::now();
    let reply = pushes.join_next().await.expect("one push").expect("it runs").expect("an answer");
    assert!(killed.elapsed() < BOUND, "{:?}", killed.elapsed());
    assert!(reply.status == 503 && reply.header("retry-after").is_some(), "{reply:?}");
    mirror.manifest("team/app", "v1").await.status(404);
    regions.wan.change(Link::SHORT);
    regions.home.restart().await;
    regions.until_heard().await;
    put(&mirror, "v1", &image).await.expect("an answer").status(201);
    mirror.pull_image("team/app", "v1", &image).await;
    regions.home.client().pull_image("team/app", "v1", &image).await;
    // It went on where home stood, which is at most a second and what was in flight behind.
    let carried = regions.wan.carried_towards() - before;
    assert!(carried < size as u64 * 7 / 4, "{carried} bytes went home for {size}");
}

#[tokio::test]
async fn a_link_that_breaks_again_and_again_costs_a_push_what_was_in_flight() {
    let regions = Regions::writing(Link::SHORT).await;
    let mirror = regions.mirror.client();
    let size = 30 * MIB;
    let image = Image::random(1, &[size]);
    regions.wan.change(Link::new(20, 12 << 20));
    push_blobs(&mirror, &image).await;
    let mut pushes = JoinSet::new();
    pushes.spawn(put(&mirror, "v1", &image));
    for part in 1..4_u64 {
        let wan = &regions.wan;
        until("more of it went home", PATIENCE, async || (wan.carried_towards() > part * 6 * MIB as u64).then_some(()))
            .await;
        regions.wan.reset();
    }
    let reply = pushes.join_next().await.expect("one push").expect("it runs").expect("an answer");
    if reply.status != 201 {
        // It was in the middle of the manifest itself.
        assert!(reply.status == 503 && reply.header("retry-after").is_some(), "{reply:?}");
        regions.until_heard().await;
        put(&mirror, "v1", &image).await.expect("an answer").status(201);
    }
    regions.home.client().pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn p3_a_push_through_any_replica_of_a_mirror_is_seen_through_every_other_once_it_is_answered() {
    let home = Setup::filesystem().start().await;
    let (_wan, mirror, _folder) = mirror_of_three(&home, "mirror token test --writes").await;
    for round in 0..9_usize {
        let image = Image::random(round as u64, &[1_000, 70_000]);
        // Each blob by way of another replica, as behind a balancer.
        for (number, blob) in image.blobs().enumerate() {
            mirror.replicas[(round + number) % 3].client().push_blob("team/app", blob).await;
        }
        let put = put(&mirror.replicas[round % 3].client(), "latest", &image).await.expect("an answer");
        put.status(201);
        for other in 1..3 {
            mirror.replicas[(round + other) % 3].client().pull_image("team/app", "latest", &image).await;
        }
        home.client().pull_image("team/app", "latest", &image).await;
    }
}

#[tokio::test]
async fn p2_a_replica_of_a_mirror_killed_in_the_middle_of_a_push_loses_nothing_of_it() {
    let home = Setup::filesystem().start().await;
    let (wan, mut mirror, _folder) = mirror_of_three(&home, "mirror token test --writes").await;
    let size = 40 * MIB;
    let image = Image::random(1, &[size]);
    wan.change(Link::new(20, 12 << 20));
    // The one that leads takes the push, and is killed with it under way.
    let leader = mirror.leader().await;
    push_blobs(&mirror.replicas[leader].client(), &image).await;
    let mut pushes = JoinSet::new();
    pushes.spawn(put(&mirror.replicas[leader].client(), "v1", &image));
    until("a part of it is home", PATIENCE, async || (wan.carried_towards() > size as u64 / 3).then_some(())).await;
    mirror.replicas[leader].kill();
    let answer = pushes.join_next().await.expect("one push").expect("it runs");
    assert!(answer.is_err(), "it was killed before it could answer: {answer:?}");
    let other = (leader + 1) % 3;
    let client = mirror.replicas[other].client();
    let put_again = async || {
        let reply = put(&client, "v1", &image).await.expect("an answer");
        assert!(reply.status == 201 || reply.status == 503, "{reply:?}");
        (reply.status == 201).then_some(())
    };
    until("another replica goes on with it", PATIENCE * 2, put_again).await;
    home.client().pull_image("team/app", "v1", &image).await;
    for replica in mirror.replicas.iter().enumerate().filter(|(index, _)| *index != leader).map(|(_, it)| it) {
        replica.client().pull_image("team/app", "v1", &image).await;
    }
    assert_eq!(
        home.client().manifest("team/app", "v1").await.header("docker-content-digest"),
        Some(sha256(&image.manifest).as_str())
    );
}

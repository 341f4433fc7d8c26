//! Home is lost, the mirror is lost, the link is lost (P6, P8).

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::transfers::damaged_while_cut_off;
use super::{PATIENCE, Regions, mirror_of_three, newest, status, until_tag};
use crate::harness::{Image, Link, Setup, sha256, until};

#[tokio::test]
async fn claim_13_and_p6_a_mirror_goes_on_when_home_is_killed_and_again_when_it_is_back() {
    let mut regions = Regions::start(Link::SHORT).await;
    let image = Image::random(1, &[1_000, 9 << 20]);
    regions.home.client().push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    regions.home.kill();
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
    // A restart of its own needs no home either.
    regions.mirror.kill();
    regions.mirror.restart().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
    regions.mirror.client().manifest("team/app", "never").await.status(404);
    regions.home.restart().await;
    let next = Image::random(2, &[500]);
    regions.home.client().push_image("team/app", "v2", &next).await;
    until_tag(&regions.mirror.client(), "team/app", "v2", &next.manifest).await;
    regions.mirror.assert_unharmed();
}

#[tokio::test]
async fn claim_9_a_mirror_that_is_killed_in_the_middle_of_a_transfer_goes_on_from_its_last_checkpoint() {
    let mut regions = Regions::start(Link::SHORT).await;
    let size: usize = 128 << 20;
    let image = Image::random(1, &[size]);
    regions.wan.change(Link::new(20, 12 << 20));
    let home = regions.home.client();
    home.push_image("team/app", "v1", &image).await;
    let wan = &regions.wan;
    until("most of it has come", PATIENCE, async || (wan.carried_back() > size as u64 * 3 / 4).then_some(())).await;
    regions.mirror.kill();
    regions.wan.reset();
    regions.wan.change(Link::SHORT);
    let before = regions.wan.carried_back();
    regions.mirror.restart().await;
    regions.until_level().await;
    let after = regions.wan.carried_back() - before;
    // What is sent again are the six chunks that were in flight, and what the last second had not made durable.
    assert!(after < size as u64 * 3 / 4, "{after} bytes of {size} were sent after the restart, {before} before");
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn p9_a_region_that_was_cut_off_catches_up_with_all_that_happened_meanwhile() {
    let mut regions = Regions::start(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let first = Image::random(0, &[1_000]);
    home.push_image("team/app", "latest", &first).await;
    regions.until_level().await;
    for round in 1..4 {
        regions.cut().await;
        let image = Image::random(round, &[1_000, 70_000]);
        for tag in ["latest", "next", &format!("v{round}")] {
            home.push_image("team/app", tag, &image).await;
        }
        if round == 2 {
            // Whoever is cut off may also be restarted.
            regions.mirror.kill();
            regions.mirror.restart().await;
        }
        assert!(mirror.manifest("team/app", &format!("v{round}")).await.status == 404);
        regions.reunite().await;
        regions.until_level().await;
        mirror.pull_image("team/app", "latest", &image).await;
        mirror.pull_image("team/app", &format!("v{round}"), &image).await;
    }
    assert_eq!(mirror.tags("team/app").await, home.tags("team/app").await);
}

/// A home that was restored has another history, of which the mirror's cursor says nothing: it compares itself with it,
/// and serves all the while.
#[tokio::test]
async fn claim_12_a_mirror_compares_itself_with_a_home_that_was_restored() {
    let mut regions = Regions::start(Link::SHORT).await;
    let home = regions.home.client();
    let (kept, lost, newer) = (Image::random(1, &[1_000, 70_000]), Image::random(2, &[2_000]), Image::random(3, &[10]));
    home.push_image("team/app", "v1", &kept).await;
    home.push_image("other/app", "v1", &kept).await;
    let sequence = newest(&regions.home).await;
    home.push_image("team/app", "v2", &lost).await;
    home.push_image("gone/app", "v1", &lost).await;
    regions.until_level().await;
    assert!(regions.home.terminate().await.success());
    std::fs::remove_dir_all(regions.home.data().join("metadata")).expect("the facts are lost");
    let restore = regions.home.setup().offline(&["restore"]).arg("--sequence").arg(sequence.to_string());
    restore.succeeds().await;
    regions.home.restart().await;
    let home = regions.home.client();
    home.push_image("team/app", "v3", &newer).await;
    let mirror = regions.mirror.client();
    until("the mirror has compared itself", PATIENCE, async || {
        let is_gone = mirror.manifest("team/app", "v2").await.status == 404;
        (is_gone && mirror.manifest("team/app", "v3").await.status == 200).then_some(())
    })
    .await;
    regions.until_level().await;
    mirror.pull_image("team/app", "v1", &kept).await;
    mirror.pull_image("other/app", "v1", &kept).await;
    mirror.pull_image("team/app", "v3", &newer).await;
    assert_eq!(mirror.tags("team/app").await, ["v1", "v3"]);
    assert!(mirror.tags("gone/app").await.is_empty());
    assert_eq!(status(&regions.mirror).await["mirror"]["comparing"], false);
}

/// A mirror of several replicas: any of them serves what has not arrived, and another goes on when the one that follows
/// is killed.
#[tokio::test]
async fn a_mirror_of_three_replicas_goes_on_when_the_one_that_follows_is_killed() {
    let home = Setup::filesystem().start().await;
    let (_wan, mut mirror, _folder) = mirror_of_three(&home, "mirror token test").await;
    let image = Image::random(1, &[1_000, 9 << 20]);
    home.client().push_image("team/app", "v1", &image).await;
    for replica in &mirror.replicas {
        until_tag(&replica.client(), "team/app", "v1", &image.manifest).await;
        replica.client().pull_image("team/app", "v1", &image).await;
    }
    let leader = mirror.leader().await;
    mirror.replicas[leader].kill();
    let next = Image::random(2, &[1_000]);
    home.client().push_image("team/app", "v2", &next).await;
    for (index, replica) in mirror.replicas.iter().enumerate().filter(|(index, _)| *index != leader) {
        until_tag(&replica.client(), "team/app", "v2", &next.manifest).await;
        until("its facts have it", PATIENCE, async || {
            let lag = status(replica).await;
            (lag["mirror"]["lag_changes"] == 0 && lag["mirror"]["lag_blobs"] == 0).then_some(())
        })
        .await;
        replica.client().pull_image("team/app", "v2", &next).await;
        assert_ne!(index, leader);
    }
}

/// Home finds a blob damaged before the mirror has had it: that is not the same as its being gone.
#[tokio::test]
async fn p8_a_mirror_waits_for_what_is_damaged_at_home_until_it_is_mended() {
    let (regions, first, second) = damaged_while_cut_off().await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (_, told) = regions.home.subcommand("scrub").args("--rate 0B").outcome().await;
    assert!(told.contains("damaged"), "{told}");
    regions.reunite().await;
    let layer = sha256(&second.layers[0]);
    let sequence = newest(&regions.home).await;
    until("the mirror has heard of it", PATIENCE, async || {
        (status(&regions.mirror).await["mirror"]["received_sequence"].as_u64()? >= sequence).then_some(())
    })
    .await;
    mirror.blob("team/app", &layer).await.status(503);
    regions.cut().await;
    mirror.pull_image("team/app", "latest", &first).await;
    mirror.blob("team/app", &layer).await.status(503);
    regions.reunite().await;
    home.push_blob("team/app", &second.layers[0]).await;
    until_tag(&mirror, "team/app", "latest", &second.manifest).await;
    regions.until_level().await;
    regions.cut().await;
    mirror.pull_image("team/app", "latest", &second).await;
}

#[tokio::test]
async fn a_mirror_that_is_dismissed_is_told_nothing_more_though_its_connections_stand() {
    let regions = Regions::start(Link::SHORT).await;
    let (first, second) = (Image::random(1, &[1_000]), Image::random(2, &[1_000]));
    regions.home.client().push_image("team/app", "latest", &first).await;
    regions.until_level().await;
    regions.home.command("mirror dismiss test").succeeds().await;
    until("the mirror is told that its token is not good", PATIENCE, async || {
        let lag = regions.lag().await;
        (lag["home_is_there"] == false && lag["problem"].as_str()?.contains("token")).then_some(())
    })
    .await;
    let before = regions.lag().await["received_sequence"].clone();
    regions.home.client().push_image("team/app", "latest", &second).await;
    regions.mirror.client().pull_image("team/app", "latest", &first).await;
    assert_eq!(regions.lag().await["received_sequence"], before);
}

/// What containerd waits for the head of an answer before it goes on to the next endpoint. A mirror gives home a third of it.
const HEAD: Duration = Duration::from_secs(30);

/// From the moment on at which nothing comes from home any more, before the mirror knows, whoever asks is answered.
#[tokio::test]
async fn claim_17_the_head_of_an_answer_comes_within_a_bound_while_home_says_nothing() {
    let regions = Regions::start(Link::SHORT).await;
    let image = Image::random(1, &[24 << 20]);
    regions.wan.change(Link::new(20, 1 << 20));
    regions.home.client().push_image("team/app", "v1", &image).await;
    let mirror = regions.mirror.client();
    until_tag(&mirror, "team/app", "v1", &image.manifest).await;
    regions.wan.cut();
    let (layer, unknown) = (sha256(&image.layers[0]), sha256(b"never pushed"));
    let targets = [
        "manifests/never".to_owned(),
        format!("manifests/{unknown}"),
        format!("blobs/{unknown}"),
        "manifests/v1".to_owned(),
        format!("blobs/{layer}"),
    ];
    let asked = targets.iter().map(async |target| {
        let url = format!("{}/v2/team/app/{target}", mirror.base());
        let answer = timeout(HEAD, mirror.http().get(url).send()).await;
        let answer = answer.unwrap_or_else(|_| panic!("{target}: nothing within {HEAD:?}")).expect("a head");
        answer.status().as_u16()
    });
    let [never, by_digest, no_blob, announced, on_its_way] =
        join_all(asked).await.try_into().expect("an answer to each question");
    for status in [never, by_digest, no_blob] {
        assert!(matches!(status, 404 | 503), "what nobody has heard of is answered {status}");
    }
    for status in [announced, on_its_way] {
        assert!(matches!(status, 200 | 503), "what home has is answered {status}");
    }
}

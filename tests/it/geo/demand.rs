//! What a pull waits for goes before what is copied ahead, also where the link is slow.

use super::{PATIENCE, Regions};
use crate::harness::{Client, Image, Link, Reply, sha256, until};

const MIB: usize = 1 << 20;

/// A link of 8 Mb/s: what ten seconds of it carry is less than what six connections may ask for.
const SLOW: Link = Link::new(40, 1 << 20);

/// Pulls a stretch of a blob.
async fn pull_part(client: &Client, digest: &str, from: usize, length: usize) -> Reply {
    let range = format!("bytes={from}-{}", from + length - 1);
    client.get(&format!("/v2/team/app/blobs/{digest}")).header("range", &range).send().await
}

#[tokio::test]
async fn claim_16_the_end_of_a_blob_is_had_at_once_while_its_beginning_is_copied_over_a_slow_link() {
    let regions = Regions::start(Link::SHORT).await;
    regions.wan.change(SLOW);
    let image = Image::random(1, &[48 * MIB]);
    let layer = sha256(&image.layers[0]);
    regions.home.client().push_image("team/app", "v1", &image).await;
    let began = regions.wan.carried_back();
    until("it is being copied", PATIENCE, async || (regions.wan.carried_back() > began + MIB as u64).then_some(()))
        .await;
    let before = regions.wan.carried_back();
    let from = 47 * MIB;
    let part = pull_part(&regions.mirror.client(), &layer, from, 100_000).await.status(206);
    assert_eq!(part.body, image.layers[0][from..from + 100_000]);
    // What was asked for already may come before it, and not much more: six chunks were 24 MiB.
    let carried = regions.wan.carried_back() - before;
    assert!(carried < 10 * MIB as u64, "{carried} bytes came before 100,000 that were waited for");
    // It goes on where it was.
    regions.wan.change(Link::SHORT);
    regions.until_level().await;
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn claim_16_a_link_that_becomes_slow_while_much_is_asked_for_does_not_keep_a_pull_waiting() {
    let regions = Regions::start(Link::new(40, 64 << 20)).await;
    let image = Image::random(1, &[256 * MIB]);
    let layer = sha256(&image.layers[0]);
    regions.home.client().push_image("team/app", "v1", &image).await;
    until("it is being copied", PATIENCE, async || (regions.wan.carried_back() > 48 * MIB as u64).then_some(())).await;
    regions.wan.change(Link::new(40, 512 << 10));
    let from = 255 * MIB;
    let part = pull_part(&regions.mirror.client(), &layer, from, 1_000).await.status(206);
    assert_eq!(part.body, image.layers[0][from..from + 1_000]);
    let lag = regions.lag().await;
    assert!(lag["lag_bytes"].as_u64().expect("a number") > 0, "all of it had come by then: {lag}");
}

#[tokio::test]
async fn claim_16_a_pull_has_the_link_for_itself_while_another_blob_is_copied() {
    let regions = Regions::start(Link::SHORT).await;
    regions.wan.change(Link::new(40, 2 << 20));
    let (large, pulled) = (Image::random(1, &[96 * MIB]), Image::random(2, &[12 * MIB]));
    let home = regions.home.client();
    home.push_image("team/app", "large", &large).await;
    let began = regions.wan.carried_back();
    until("it is being copied", PATIENCE, async || (regions.wan.carried_back() > began + MIB as u64).then_some(()))
        .await;
    home.push_blob("team/app", &pulled.layers[0]).await;
    let before = regions.wan.carried_back();
    let layer = sha256(&pulled.layers[0]);
    let blob = regions.mirror.client().blob("team/app", &layer).await.status(200);
    assert!(blob.body == pulled.layers[0]);
    // Shared by halves, the link would have carried 24 MiB by then.
    let carried = regions.wan.carried_back() - before;
    assert!(carried < 19 * MIB as u64, "{carried} bytes came during a pull of {}", 12 * MIB);
}

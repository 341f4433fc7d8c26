//! Pushes that are acknowledged when a mirror has them too (claim 15).

use super::promotion::{Pusher, is_whole, json, try_push};
use super::{PATIENCE, Regions};
use crate::harness::{Image, Link, MEDIA_TYPE_IMAGE, Setup, until};

#[tokio::test]
async fn claim_15_with_one_remote_no_acknowledged_push_is_lost_with_home() {
    let home = Setup::filesystem().flag("--ack", "one-remote").flag("--ack-timeout", "3s");
    let mut regions = Regions::start_with(Link::new(20, 20 << 20), home, Setup::filesystem()).await;
    let pusher = Pusher::start(regions.home.client(), 3_000);
    pusher.until_acknowledged(8).await;
    regions.cut().await;
    // What no mirror has is not acknowledged, and says so.
    let client = regions.home.client();
    let image = Image::random(1, &[2_000]);
    for blob in image.blobs() {
        client.push_blob("team/app", blob).await;
    }
    let put = client.put_manifest("team/app", "alone", MEDIA_TYPE_IMAGE, &image.manifest).await.status(503);
    assert!(put.header("retry-after").is_some());
    let said = put.json()["errors"][0]["message"].as_str().expect("a message").to_owned();
    assert!(said.contains("not replicated yet") && said.contains("push again"), "{said}");
    regions.home.kill();
    let acknowledged = pusher.end().await;
    json(&regions.mirror, "promote --yes --force").await;
    let mirror = regions.mirror.client();
    for pushed in &acknowledged {
        assert!(
            is_whole(&mirror, pushed).await,
            "{} of {} was acknowledged and is lost",
            pushed.tag,
            acknowledged.len()
        );
    }
    mirror.manifest("team/app", "alone").await.status(404);
    regions.mirror.assert_unharmed();
}

#[tokio::test]
async fn with_one_remote_a_push_that_was_not_acknowledged_is_when_it_is_pushed_again_and_a_mirror_has_it() {
    let home = Setup::filesystem().flag("--ack", "one-remote").flag("--ack-timeout", "1s");
    let mut regions = Regions::start_with(Link::SHORT, home, Setup::filesystem()).await;
    let image = Image::random(1, &[2_000]);
    let client = regions.home.client();
    regions.cut().await;
    assert_eq!(try_push(&client, "v1", &image).await, 503);
    // It is there all the same: nothing that was pushed is taken back.
    client.pull_image("team/app", "v1", &image).await;
    regions.reunite().await;
    until("it is acknowledged", PATIENCE, async || (try_push(&client, "v1", &image).await == 201).then_some(())).await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
    regions.home.assert_unharmed();
}

//! Order, and what is gone (P8, P9).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::{PATIENCE, Regions, pull_whole, until_tag};
use crate::harness::{Image, Link, MEDIA_TYPE_IMAGE, until};

#[tokio::test]
async fn p9_a_tag_moves_as_it_moves_at_home() {
    let regions = Regions::start(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let images: Vec<Image> = (0..5).map(|seed| Image::random(seed, &[1_000])).collect();
    for image in &images {
        home.push_image("team/app", "latest", image).await;
        until_tag(&mirror, "team/app", "latest", &image.manifest).await;
    }
    // Back to the first one, whose content is here.
    home.put_manifest("team/app", "latest", MEDIA_TYPE_IMAGE, &images[0].manifest).await.status(201);
    until_tag(&mirror, "team/app", "latest", &images[0].manifest).await;
    regions.until_level().await;
    regions.cut().await;
    mirror.pull_image("team/app", "latest", &images[0]).await;
}

#[tokio::test]
async fn claim_12_what_was_deleted_at_home_goes_and_does_not_come_back() {
    let mut regions = Regions::start(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (kept, gone) = (Image::random(1, &[1_000]), Image::random(2, &[2_000]));
    home.push_image("team/app", "kept", &kept).await;
    home.push_image("team/app", "gone", &gone).await;
    home.put_manifest("team/app", "tag-only", MEDIA_TYPE_IMAGE, &kept.manifest).await.status(201);
    regions.until_level().await;
    regions.cut().await;
    home.delete("/v2/team/app/manifests/tag-only").send().await.status(202);
    home.delete(&format!("/v2/team/app/manifests/{}", gone.digest())).send().await.status(202);
    // A region that is cut off goes on with what it has.
    mirror.pull_image("team/app", "gone", &gone).await;
    regions.reunite().await;
    regions.until_level().await;
    for reference in ["tag-only", "gone", &gone.digest()] {
        mirror.manifest("team/app", reference).await.status(404);
    }
    mirror.pull_image("team/app", "kept", &kept).await;
    assert_eq!(mirror.tags("team/app").await, ["kept"]);
    // Nor after a restart, whatever the mirror has to read again.
    regions.mirror.kill();
    regions.mirror.restart().await;
    regions.until_level().await;
    mirror.manifest("team/app", "gone").await.status(404);
    mirror.pull_image("team/app", "kept", &kept).await;
}

/// Pulls without a pause while tags move, are deleted and come again, and the link breaks: whatever a tag says is there
/// whole, and no tag goes back to what it was before.
#[tokio::test]
async fn claim_1_and_2_no_pull_ever_sees_a_tag_without_its_content_or_an_older_one_again() {
    let regions = Arc::new(Regions::start(Link::new(20, 20 << 20)).await);
    let home = regions.home.client();
    let pushes = 24;
    let images: Vec<Image> = (0..pushes).map(|seed| Image::random(seed, &[1_000, 60_000])).collect();
    let order: BTreeMap<String, usize> = images.iter().map(Image::digest).zip(0..).collect();
    let over = Arc::new(AtomicBool::new(false));
    let mut pullers = JoinSet::new();
    for _ in 0..2 {
        let (client, order, over) = (regions.mirror.client(), order.clone(), Arc::clone(&over));
        pullers.spawn(async move {
            let (mut pulls, mut newest) = (0, None);
            while !over.load(Ordering::Relaxed) {
                let Some(digest) = pull_whole(&client, "team/app", "latest").await else { continue };
                let seen = order[&digest];
                assert!(newest.is_none_or(|newest| seen >= newest), "{seen} after {newest:?}");
                newest = Some(seen);
                pulls += 1;
            }
            pulls
        });
    }
    for (number, image) in images.iter().enumerate() {
        home.push_image("team/app", "latest", image).await;
        if number % 5 == 4 {
            // In time, so that pulls of what is streamed are not cut off: what is here goes on being served.
            regions.until_level().await;
            regions.wan.reset();
        }
    }
    regions.until_level().await;
    over.store(true, Ordering::Relaxed);
    let mut pulls = 0;
    while let Some(puller) = pullers.join_next().await {
        pulls += puller.expect("no pull fails");
    }
    assert!(pulls > 10, "only {pulls} pulls");
    regions.mirror.client().pull_image("team/app", "latest", &images[images.len() - 1]).await;
}

#[tokio::test]
async fn p8_a_tag_stays_at_the_last_whole_image_while_home_is_cut_off_in_the_middle_of_the_next() {
    // So slow that the second image cannot have come when the link is cut.
    let regions = Regions::start(Link::SHORT).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (first, second) = (Image::random(1, &[1_000]), Image::random(2, &[1_000, 8 << 20]));
    home.push_image("team/app", "latest", &first).await;
    regions.until_level().await;
    regions.wan.change(Link::new(20, 200_000));
    home.push_image("team/app", "latest", &second).await;
    // Home is there: the new one is shown, and streamed.
    until_tag(&mirror, "team/app", "latest", &second.manifest).await;
    regions.cut().await;
    mirror.pull_image("team/app", "latest", &first).await;
    let known = mirror.blob("team/app", &crate::harness::sha256(&second.layers[1])).await.status(503);
    assert_eq!(known.error_code(), "UNAVAILABLE");
    assert!(known.header("retry-after").is_some());
    mirror.manifest("team/app", &second.digest()).await.status(503);
    regions.wan.change(Link::SHORT);
    regions.reunite().await;
    until("the second image is whole", PATIENCE, async || {
        let reply = mirror.manifest("team/app", "latest").await;
        (reply.status == 200 && reply.body == second.manifest).then_some(())
    })
    .await;
    mirror.pull_image("team/app", "latest", &second).await;
}

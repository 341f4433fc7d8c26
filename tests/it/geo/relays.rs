//! Mirrors of mirrors (claim 14): however they are told to follow each other, each change is applied once.

use super::{PATIENCE, following, newest, status, until_tag};
use crate::harness::{Image, Roadstead, Setup, sha256, until};

async fn until_follows(mirror: &Roadstead, upstream: &Roadstead) {
    until("it is level with its upstream", PATIENCE, async || {
        let (newest, status) = (newest(upstream).await, status(mirror).await);
        let mirror = &status["mirror"];
        let is_level = mirror["home_is_there"] == true && mirror["comparing"] == false && mirror["lag_changes"] == 0;
        (is_level && mirror["received_sequence"] == newest && mirror["home"] == upstream.base()).then_some(())
    })
    .await;
}

/// Has a mirror follow another upstream.
async fn turn(mirror: &mut Roadstead, upstream: &Roadstead, name: &str) {
    let token = upstream.command(&format!("mirror token {name}")).succeeds().await;
    std::fs::write(mirror.setup().data().with_file_name("token"), token).expect("the token's file");
    assert!(mirror.terminate().await.success());
    let url = upstream.base().to_owned();
    mirror.restart_as(|setup| setup.instead("--upstream", &url)).await;
    until_follows(mirror, upstream).await;
}

#[tokio::test]
async fn claim_14_in_a_ring_of_mirrors_no_change_goes_round_and_what_home_says_reaches_all_of_them_once() {
    let home = Setup::filesystem().start().await;
    let mut mirrors: Vec<Roadstead> = Vec::new();
    for number in 0..4 {
        let upstream = mirrors.last().unwrap_or(&home);
        let mint = format!("mirror token m{number}");
        let setup = following(upstream, &mint, upstream.base(), Setup::filesystem()).await;
        mirrors.push(setup.start().await);
    }
    let (first, second) = (Image::random(1, &[1_000]), Image::random(2, &[2_000]));
    home.client().push_image("team/app", "latest", &first).await;
    home.client().push_image("team/app", "latest", &second).await;
    let last = mirrors.last().expect("four");
    until_tag(&last.client(), "team/app", "latest", &second.manifest).await;
    for pair in mirrors.windows(2) {
        until_follows(&pair[1], &pair[0]).await;
    }

    // The first one follows the last: none of them hears of home any more.
    let before = changes(&mirrors).await;
    let (first_mirror, others) = mirrors.split_first_mut().expect("four");
    turn(first_mirror, &others[2], "ring").await;
    for pair in mirrors.windows(2) {
        until_follows(&pair[1], &pair[0]).await;
    }
    assert_eq!(changes(&mirrors).await, before);
    let third = Image::random(3, &[3_000]);
    home.client().push_image("team/app", "next", &third).await;
    let pushed = 3;

    // It follows home again, and all of them what is new there.
    turn(&mut mirrors[0], &home, "again").await;
    until_tag(&mirrors[3].client(), "team/app", "next", &third.manifest).await;
    for pair in mirrors.windows(2) {
        until_follows(&pair[1], &pair[0]).await;
    }
    assert_eq!(changes(&mirrors).await, before.map(|changes| changes + pushed));
    for mirror in &mirrors {
        let client = mirror.client();
        assert_eq!(client.tags("team/app").await, ["latest", "next"]);
        client.pull_image("team/app", "latest", &second).await;
        client.pull_image("team/app", "next", &third).await;
    }
}

async fn until_away(mirror: &Roadstead) {
    until("it has noticed", PATIENCE, async || {
        (status(mirror).await["mirror"]["home_is_there"] == false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn p8_what_a_mirror_of_a_part_leaves_out_is_not_denied_by_those_who_follow_it() {
    let mut home = Setup::filesystem().start().await;
    let part = following(&home, "mirror token part", home.base(), Setup::filesystem()).await;
    let mut part = part.flag("--upstream-filter", "team/app:v*").start().await;
    let last = following(&part, "mirror token last", part.base(), Setup::filesystem()).await.start().await;
    let images = [Image::random(1, &[1_000]), Image::random(2, &[3 << 20]), Image::random(3, &[2_000])];
    let places = [("team/app", "v1"), ("team/app", "nightly"), ("other/app", "v1")];
    for ((repository, tag), image) in places.iter().zip(&images) {
        home.client().push_image(repository, tag, image).await;
    }
    until_follows(&part, &home).await;
    until_follows(&last, &part).await;
    let client = last.client();
    assert_eq!(client.tags("team/app").await, ["v1"]);
    for ((repository, tag), image) in places.iter().zip(&images) {
        client.pull_image(repository, tag, image).await;
        let layer = format!("/v2/{repository}/blobs/{}", sha256(&image.layers[0]));
        let size = client.head(&layer).send().await.status(200).header("content-length").map(str::to_owned);
        assert_eq!(size, Some(image.layers[0].len().to_string()));
    }
    client.manifest("other/app", "never").await.status(404);
    client.blob("other/app", &sha256(b"never")).await.status(404);

    // It is at home, which is away from one of them, and then from both.
    home.kill();
    until_away(&part).await;
    for is_cut_off in [false, true] {
        if is_cut_off {
            part.kill();
            until_away(&last).await;
        }
        client.pull_image("team/app", "v1", &images[0]).await;
        for ((repository, tag), image) in places.iter().zip(&images).skip(1) {
            client.manifest(repository, tag).await.status(503);
            client.blob(repository, &sha256(&image.layers[0])).await.status(503);
        }
    }
}

/// How many changes each of them has made of what it was told.
async fn changes(mirrors: &[Roadstead]) -> [u64; 4] {
    let mut changes = [0; 4];
    for (changes, mirror) in changes.iter_mut().zip(mirrors) {
        *changes = newest(mirror).await;
    }
    changes
}

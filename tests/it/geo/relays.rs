//! Mirrors of mirrors (claim 14): however they are told to follow each other, each change is applied once.

use super::{PATIENCE, following, newest, status, until_tag};
use crate::harness::{Image, Roadstead, Setup, until};

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

/// How many changes each of them has made of what it was told.
async fn changes(mirrors: &[Roadstead]) -> [u64; 4] {
    let mut changes = [0; 4];
    for (changes, mirror) in changes.iter_mut().zip(mirrors) {
        *changes = newest(mirror).await;
    }
    changes
}

//! What crosses the link: once, in order of need, and whole.

use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use super::{PATIENCE, Regions, mirror_of_three};
use crate::harness::{Image, Link, Roadstead, Setup, sha256, until};

const MIB: usize = 1 << 20;

/// The most that crosses the link for one transfer of so many bytes: two percent for what is said about them, and two
/// chunks, which on a busy machine may come so late that they are asked for again.
fn one_transfer(size: u64) -> u64 {
    size * 102 / 100 + 2 * (4 << 20)
}

/// Changes a bit in the middle of the stored file that has this length.
fn flip(registry: &Roadstead, length: u64) {
    let files = registry.stored_files();
    let (path, _) = files.iter().find(|(_, found)| *found == length).expect("a file of this length");
    let mut bytes = std::fs::read(path).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("it can be written");
}

/// A mirror that is cut off with the first image under `team/app:latest`, and a home at which the second has taken its place
/// since, of which a layer is damaged: home does not look by itself.
pub(super) async fn damaged_while_cut_off() -> (Regions, Image, Image) {
    let home = Setup::filesystem().flag("--scrub-rate", "0B");
    let regions = Regions::start_with(Link::SHORT, home, Setup::filesystem()).await;
    let (first, second) = (Image::random(1, &[1_000]), Image::random(2, &[300_000]));
    regions.home.client().push_image("team/app", "latest", &first).await;
    regions.until_level().await;
    regions.cut().await;
    regions.home.client().push_image("team/app", "latest", &second).await;
    flip(&regions.home, 300_000);
    (regions, first, second)
}

#[tokio::test]
async fn claim_6_many_cold_pullers_cost_one_transfer_and_begin_before_it_has_ended() {
    let regions = Regions::start(Link::SHORT).await;
    // Slow enough that all of them come while it is under way.
    regions.wan.change(Link::new(40, 8 << 20));
    let size = 24 * MIB;
    let image = Image::random(1, &[size]);
    let layer = sha256(&image.layers[0]);
    let before = regions.wan.carried_back();
    regions.home.client().push_image("team/app", "v1", &image).await;
    let mut pullers = JoinSet::new();
    for _ in 0..16 {
        let (client, layer) = (regions.mirror.client(), layer.clone());
        pullers.spawn(async move {
            let target = format!("/v2/team/app/blobs/{layer}");
            // It may not be announced yet; home is asked then.
            let mut stream = client.get(&target).stream().await;
            let mut whole = stream.next().await.expect("a first piece").expect("no error").to_vec();
            let first = whole.len();
            while let Some(piece) = stream.next().await {
                whole.extend_from_slice(&piece.expect("no piece fails"));
            }
            (first, sha256(&whole))
        });
    }
    while let Some(puller) = pullers.join_next().await {
        let (first, digest) = puller.expect("no pull fails");
        assert!(first < size && digest == layer);
    }
    regions.until_level().await;
    let carried = regions.wan.carried_back() - before;
    assert!(carried < one_transfer(size as u64), "{carried} bytes crossed the link for {size}");
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn claim_8_a_client_does_not_notice_that_home_broke_off_in_the_middle_of_a_blob() {
    let regions = Regions::start(Link::SHORT).await;
    regions.wan.change(Link::new(20, 8 << 20));
    let image = Image::random(1, &[20 * MIB]);
    let layer = sha256(&image.layers[0]);
    regions.home.client().push_image("team/app", "v1", &image).await;
    let client = regions.mirror.client();
    let mut stream = client.get(&format!("/v2/team/app/blobs/{layer}")).stream().await;
    let (mut whole, mut resets) = (Vec::new(), 0);
    while let Some(piece) = stream.next().await {
        whole.extend_from_slice(&piece.expect("no piece fails"));
        if whole.len() > (resets + 1) * 5 * MIB && resets < 3 {
            regions.wan.reset();
            resets += 1;
        }
    }
    assert_eq!((sha256(&whole), resets), (layer, 3));
}

#[tokio::test]
async fn claim_10_what_is_at_the_mirror_already_is_not_sent_again() {
    let regions = Regions::start(Link::SHORT).await;
    let home = regions.home.client();
    let image = Image::random(1, &[3 * MIB, 2 * MIB]);
    home.push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    let before = regions.wan.carried_back();
    // Under another name, in another repository, pushed from anew.
    home.push_image("other/app", "v7", &image).await;
    home.push_image("team/app", "v2", &image).await;
    regions.until_level().await;
    let carried = regions.wan.carried_back() - before;
    assert!(carried < MIB as u64, "{carried} bytes crossed the link");
    regions.mirror.client().pull_image("other/app", "v7", &image).await;
}

#[tokio::test]
async fn a_blob_is_on_its_way_before_any_manifest_names_it() {
    let regions = Regions::start(Link::SHORT).await;
    let home = regions.home.client();
    let image = Image::random(1, &[12 * MIB]);
    for blob in image.blobs() {
        home.push_blob("team/app", blob).await;
    }
    until("the blobs have come", PATIENCE, async || {
        let lag = regions.lag().await;
        (lag["lag_blobs"] == 0 && lag["received_sequence"].as_u64()? >= 2).then_some(())
    })
    .await;
    let before = regions.wan.carried_back();
    home.push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    let carried = regions.wan.carried_back() - before;
    assert!(carried < MIB as u64, "{carried} bytes crossed the link after the manifest");
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
}

#[tokio::test]
async fn a_part_of_what_has_not_arrived_is_streamed_too() {
    let regions = Regions::start(Link::SHORT).await;
    regions.wan.change(Link::new(20, 6 << 20));
    let image = Image::random(1, &[60 * MIB]);
    let layer = sha256(&image.layers[0]);
    regions.home.client().push_image("team/app", "v1", &image).await;
    let client = regions.mirror.client();
    let target = format!("/v2/team/app/blobs/{layer}");
    // The end first, as a client does that fetches a layer in parallel stretches.
    let (from, to) = (55 * MIB, 55 * MIB + 99);
    let reply = client.get(&target).header("range", &format!("bytes={from}-{to}")).send().await.status(206);
    assert_eq!(reply.body, image.layers[0][from..=to]);
    assert_eq!(reply.header("content-range"), Some(format!("bytes {from}-{to}/{}", 60 * MIB).as_str()));
    let lag = regions.lag().await;
    assert!(lag["lag_bytes"].as_u64().expect("a number") > 0, "all of it had come by then: {lag}");
}

/// The replicas of a mirror share what one of them brings: whichever they ask, all pullers together cost one transfer.
#[tokio::test]
async fn claim_6_pullers_of_every_replica_of_a_mirror_cost_one_transfer() {
    let home = Setup::filesystem().start().await;
    let (wan, mirror, _folder) = mirror_of_three(&home, "mirror token test").await;
    wan.change(Link::new(20, 8 << 20));
    let image = Image::random(1, &[24 * MIB]);
    let before = wan.carried_back();
    home.client().push_image("team/app", "v1", &image).await;
    let mut pullers = JoinSet::new();
    for replica in &mirror.replicas {
        for _ in 0..3 {
            let (client, image) = (replica.client(), image.clone());
            pullers.spawn(async move { client.pull_image("team/app", "v1", &image).await });
        }
    }
    while let Some(puller) = pullers.join_next().await {
        puller.expect("no pull fails");
    }
    let carried = wan.carried_back() - before;
    let size = 24 * MIB as u64;
    assert!(carried < one_transfer(size), "{carried} bytes crossed the link for {size}");
}

#[tokio::test]
async fn claim_11_a_bit_that_is_changed_on_the_way_is_never_published() {
    let regions = Regions::start(Link::SHORT).await;
    let image = Image::random(1, &[20 * MIB, 3 * MIB]);
    // In the middle of the larger layer, which is by far most of what crosses the link.
    regions.wan.change(Link::new(10, 16 << 20));
    regions.wan.flip(12 * MIB as u64);
    regions.home.client().push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    assert!(regions.wan.has_flipped(), "nothing was changed");
    assert!(regions.mirror.log().contains("home sent other bytes than it announced"), "{}", regions.mirror.log());
    regions.cut().await;
    regions.mirror.client().pull_image("team/app", "v1", &image).await;
}

/// Home does not know that it is damaged, and sends it.
#[tokio::test]
async fn claim_11_a_bit_that_is_changed_at_home_is_never_published_and_is_told() {
    let (regions, first, second) = damaged_while_cut_off().await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    regions.reunite().await;
    until("it is told", PATIENCE, async || {
        regions.mirror.log().contains("home sent other bytes than it announced").then_some(())
    })
    .await;
    until("all else has come", PATIENCE, async || (regions.lag().await["lag_blobs"] == 1).then_some(())).await;
    regions.cut().await;
    mirror.pull_image("team/app", "latest", &first).await;
    mirror.blob("team/app", &sha256(&second.layers[0])).await.status(503);
    regions.reunite().await;
    // Home is mended, and so all goes on.
    let (_, told) = regions.home.subcommand("scrub").args("--rate 0B").outcome().await;
    assert!(told.contains("damaged"), "{told}");
    home.push_blob("team/app", &second.layers[0]).await;
    regions.until_level().await;
    regions.cut().await;
    mirror.pull_image("team/app", "latest", &second).await;
}

#[tokio::test]
async fn claim_11_what_a_mirror_finds_damaged_is_had_from_home_once_more() {
    let regions = Regions::start(Link::SHORT).await;
    let image = Image::random(1, &[300_000]);
    regions.home.client().push_image("team/app", "v1", &image).await;
    regions.until_level().await;
    flip(&regions.mirror, 300_000);
    // What it found is told by its exit code.
    let (_, told) = regions.mirror.subcommand("scrub").outcome().await;
    assert!(told.contains("damaged"), "{told}");
    let client = regions.mirror.client();
    until("it is mended", PATIENCE, async || {
        let blob = client.blob("team/app", &sha256(&image.layers[0])).await;
        (blob.status == 200 && blob.body == image.layers[0]).then_some(())
    })
    .await;
    until("it is here", PATIENCE, async || (regions.lag().await["fetching"] == 0).then_some(())).await;
    regions.cut().await;
    client.pull_image("team/app", "v1", &image).await;
}

//! Mirrors that copy a part of their home, or at certain hours: what they do not copy is read through (P8).

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::promotion::{json as told, try_push};
use super::{PATIENCE, Regions, Signature, newest, status, until_tag};
use crate::harness::{Client, Image, Link, MEDIA_TYPE_IMAGE, MEDIA_TYPE_INDEX, Setup, sha256, until};

const MIB: usize = 1 << 20;

async fn filtered(filter: &[(&str, &str)]) -> Regions {
    let setup = filter.iter().fold(Setup::filesystem(), |setup, (flag, value)| setup.flag(flag, value));
    Regions::start_with(Link::SHORT, Setup::filesystem(), setup).await
}

impl Regions {
    /// Waits until the mirror has heard of all that home has, whatever of it is still on its way.
    async fn until_received(&self) {
        let newest = newest(&self.home).await;
        until("the mirror has received everything", PATIENCE, async || {
            let mirror = status(&self.mirror).await["mirror"].clone();
            (mirror["received_sequence"].as_u64()? >= newest && mirror["comparing"] == false).then_some(())
        })
        .await;
    }
}

/// What refers to an image, as a registry lists it.
async fn referrers(client: &Client, image: &Image) -> Vec<String> {
    let listed = client.get(&format!("/v2/team/app/referrers/{}", image.digest())).send().await.status(200).json();
    let manifests = listed["manifests"].as_array().expect("a list").iter();
    manifests.map(|manifest| manifest["digest"].as_str().expect("a digest").to_owned()).collect()
}

#[tokio::test]
async fn p8_a_repository_that_is_not_followed_is_read_through_as_home_has_it_and_is_not_denied_without_home() {
    let regions = filtered(&[("--upstream-filter", "team/**")]).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (followed, left_out, next) =
        (Image::random(1, &[1_000, 70_000]), Image::random(2, &[3 * MIB]), Image::random(3, &[2_000]));
    home.push_image("other/app", "v1", &left_out).await;
    home.push_image("other/app", "gone", &left_out).await;
    home.push_image("team/app", "v1", &followed).await;
    regions.until_level().await;
    let carried = regions.wan.carried_back();
    assert!(carried < MIB as u64, "{carried} bytes crossed the link for what is followed");
    // Listings show what is copied.
    assert_eq!((mirror.tags("team/app").await, mirror.tags("other/app").await), (vec!["v1".to_owned()], Vec::new()));

    mirror.pull_image("other/app", "v1", &left_out).await;
    // A tag that moves, or goes, does so at once.
    home.push_image("other/app", "v1", &next).await;
    mirror.pull_image("other/app", "v1", &next).await;
    home.delete("/v2/other/app/manifests/gone").send().await.status(202);
    mirror.manifest("other/app", "gone").await.status(404);
    mirror.manifest("other/app", "never").await.status(404);

    regions.cut().await;
    mirror.pull_image("team/app", "v1", &followed).await;
    mirror.manifest("team/app", "never").await.status(404);
    for reference in ["v1", "never", &next.digest()] {
        let away = mirror.manifest("other/app", reference).await.status(503);
        assert!(away.error_code() == "UNAVAILABLE" && away.header("retry-after").is_some(), "{reference}");
    }
    mirror.blob("other/app", &sha256(&left_out.layers[0])).await.status(503);
    regions.reunite().await;
    mirror.pull_image("other/app", "v1", &next).await;
}

#[tokio::test]
async fn claim_13_a_tag_that_is_followed_has_its_signatures_with_home_down_also_those_that_were_made_before() {
    let mut regions = filtered(&[("--upstream-filter", "team/app:v*")]).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let image = Image::random(1, &[1_000, 2 * MIB]);
    home.push_image("team/app", "nightly", &image).await;
    let signature = Signature::of(&image, &home).await;
    let signed = sha256(&signature.manifest);
    home.put_manifest("team/app", &signed, MEDIA_TYPE_IMAGE, &signature.manifest).await.status(201);
    // The way of clients that know no referrers.
    let named = format!("{}.sig", image.digest().replace(':', "-"));
    let mut by_tag: Value = serde_json::from_slice(&signature.manifest).expect("JSON");
    by_tag.as_object_mut().expect("an object").remove("subject");
    let by_tag = by_tag.to_string().into_bytes();
    home.put_manifest("team/app", &named, MEDIA_TYPE_IMAGE, &by_tag).await.status(201);
    regions.until_level().await;
    let carried = regions.wan.carried_back();
    assert!(carried < MIB as u64, "{carried} bytes crossed the link for a tag that is not followed");
    assert_eq!(mirror.tags("team/app").await, [named.as_str()]);
    mirror.pull_image("team/app", "nightly", &image).await;
    assert_eq!(referrers(&mirror, &image).await, [signed.as_str()]);

    // What was tried and signed is released.
    home.put_manifest("team/app", "v1", MEDIA_TYPE_IMAGE, &image.manifest).await.status(201);
    until_tag(&mirror, "team/app", "v1", &image.manifest).await;
    regions.until_level().await;
    assert_eq!(mirror.tags("team/app").await, [named.as_str(), "v1"]);
    regions.home.kill();
    until("the mirror notices", PATIENCE, async || (regions.lag().await["home_is_there"] == false).then_some(())).await;
    mirror.pull_image("team/app", "v1", &image).await;
    assert_eq!(referrers(&mirror, &image).await, [signed.as_str()]);
    for (reference, manifest) in [(&signed, &signature.manifest), (&named, &by_tag)] {
        assert!(mirror.manifest("team/app", reference).await.status(200).body == *manifest);
    }
    assert!(mirror.blob("team/app", &signature.layer).await.status(200).body == signature.content);
    // Nobody but home knows where this tag points.
    mirror.manifest("team/app", "nightly").await.status(503);

    regions.home.restart().await;
    until("the mirror hears of home", PATIENCE, async || (regions.lag().await["home_is_there"] == true).then_some(()))
        .await;
    let next = Image::random(2, &[5_000]);
    regions.home.client().push_image("team/app", "v1", &next).await;
    until_tag(&mirror, "team/app", "v1", &next.manifest).await;
    regions.home.client().delete("/v2/team/app/manifests/v1").send().await.status(202);
    regions.until_level().await;
    regions.cut().await;
    assert_eq!(mirror.tags("team/app").await, [named.as_str()]);
    regions.mirror.assert_unharmed();
}

/// An index of images for these platforms.
fn index_of(images: &[(&Image, &str)]) -> Vec<u8> {
    let entry = |(image, architecture): &(&Image, &str)| {
        json!({
            "mediaType": MEDIA_TYPE_IMAGE, "digest": image.digest(), "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let manifests: Vec<_> = images.iter().map(entry).collect();
    json!({"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": manifests}).to_string().into_bytes()
}

#[tokio::test]
async fn p8_of_an_index_the_image_for_the_platform_is_served_without_home_and_the_others_are_read_through() {
    let regions = filtered(&[("--upstream-platform", "linux/amd64")]).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (amd64, arm64) = (Image::random(1, &[300_000]), Image::random(2, &[3 * MIB]));
    for image in [&amd64, &arm64] {
        for blob in image.blobs() {
            home.push_blob("team/app", blob).await;
        }
        home.put_manifest("team/app", &image.digest(), MEDIA_TYPE_IMAGE, &image.manifest).await.status(201);
    }
    let index = index_of(&[(&amd64, "amd64"), (&arm64, "arm64")]);
    home.put_manifest("team/app", "v1", MEDIA_TYPE_INDEX, &index).await.status(201);
    until_tag(&mirror, "team/app", "v1", &index).await;
    regions.until_level().await;
    let carried = regions.wan.carried_back();
    assert!(carried < 2 * MIB as u64, "{carried} bytes crossed the link for one platform");
    mirror.pull_image("team/app", &amd64.digest(), &amd64).await;
    mirror.pull_image("team/app", &arm64.digest(), &arm64).await;

    regions.cut().await;
    assert!(mirror.manifest("team/app", "v1").await.status(200).body == index);
    mirror.pull_image("team/app", &amd64.digest(), &amd64).await;
    let away = mirror.manifest("team/app", &arm64.digest()).await.status(503);
    assert!(away.header("retry-after").is_some());
    mirror.blob("team/app", &sha256(&arm64.layers[0])).await.status(503);
    regions.reunite().await;
    mirror.pull_image("team/app", &arm64.digest(), &arm64).await;
}

#[tokio::test]
async fn p8_after_a_restart_with_another_filter_that_is_what_the_mirror_has() {
    let mut regions = filtered(&[("--upstream-filter", "team/**")]).await;
    let home = regions.home.client();
    let (team, other) = (Image::random(1, &[70_000]), Image::random(2, &[70_000]));
    home.push_image("team/app", "v1", &team).await;
    home.push_image("other/app", "v1", &other).await;
    regions.until_level().await;
    let (code, _, said) = regions.mirror.command("promote --yes").ends().await;
    assert!(code == 1 && said.contains("follows a part of its home"), "{said}");

    assert!(regions.mirror.terminate().await.success());
    regions.mirror.restart_as(|setup| setup.instead("--upstream-filter", "other/**")).await;
    let mirror = regions.mirror.client();
    until("the other repository has come and the first has gone", PATIENCE, async || {
        let tags = (mirror.tags("team/app").await, mirror.tags("other/app").await);
        (tags == (Vec::new(), vec!["v1".to_owned()])).then_some(())
    })
    .await;
    regions.until_level().await;
    mirror.pull_image("team/app", "v1", &team).await;
    regions.cut().await;
    mirror.pull_image("other/app", "v1", &other).await;
    mirror.manifest("team/app", "v1").await.status(503);

    // Cut off, it has what it had; then what the new filter says, and the feed goes on from there.
    assert!(regions.mirror.terminate().await.success());
    regions.mirror.restart_as(|setup| setup.instead("--upstream-filter", "**")).await;
    let mirror = regions.mirror.client();
    mirror.pull_image("other/app", "v1", &other).await;
    regions.wan.mend();
    until_tag(&mirror, "team/app", "v1", &team.manifest).await;
    let next = Image::random(3, &[2_000]);
    home.push_image("team/app", "v2", &next).await;
    regions.until_level().await;
    regions.cut().await;
    mirror.pull_image("team/app", "v1", &team).await;
    mirror.pull_image("team/app", "v2", &next).await;
    regions.mirror.assert_unharmed();
}

#[tokio::test]
async fn claim_15_a_mirror_of_a_part_acknowledges_no_push_and_says_what_a_promotion_would_lose() {
    let home = Setup::filesystem().flag("--ack", "one-remote").flag("--ack-timeout", "1s");
    let mut regions = Regions::start_with(Link::SHORT, home, Setup::filesystem()).await;
    let client = regions.home.client();
    until("it is acknowledged", PATIENCE, async || {
        (try_push(&client, "v1", &Image::random(1, &[2_000])).await == 201).then_some(())
    })
    .await;
    assert!(regions.mirror.terminate().await.success());
    regions.mirror.restart_as(|setup| setup.flag("--upstream-filter", "other/**")).await;
    regions.until_received().await;
    assert_eq!(try_push(&client, "v2", &Image::random(2, &[2_000])).await, 503);
    let refused = regions.mirror.command("promote --yes").fails().await;
    assert!(refused.contains("upstream-filter") && refused.contains("--force"), "{refused}");
    let promoted = told(&regions.mirror, "promote --yes --force").await;
    assert_eq!(promoted["region"]["standing"], "home");
}

/// A window that was not open in the last days and is not in the next ones.
pub(super) fn closed() -> String {
    let days = UNIX_EPOCH.elapsed().expect("a time after 1970").as_secs() / (24 * 60 * 60);
    // The first day of all was a Thursday.
    let names = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let day = names[usize::try_from((days + 3) % 7).expect("a day")];
    format!("{day} 12:00-12:01")
}

#[tokio::test]
async fn a_large_blob_waits_for_its_window_unless_it_is_pulled() {
    let window = closed();
    let setup = Setup::filesystem().flag("--upstream-window", &window);
    let mut regions = Regions::start_with(Link::SHORT, Setup::filesystem(), setup).await;
    let (home, mirror) = (regions.home.client(), regions.mirror.client());
    let (large, pulled, small) =
        (Image::random(1, &[1_000, 12 * MIB]), Image::random(2, &[10 * MIB]), Image::random(3, &[8 * MIB]));
    home.push_image("large/app", "v1", &large).await;
    home.push_image("pulled/app", "v1", &pulled).await;
    home.push_image("small/app", "v1", &small).await;
    // What is small goes at any time, and is not held up.
    until("the small one has come", PATIENCE, async || (mirror.tags("small/app").await == ["v1"]).then_some(())).await;
    // So does what somebody waits for.
    mirror.pull_image("pulled/app", "v1", &pulled).await;
    until("what was pulled is kept", PATIENCE, async || (mirror.tags("pulled/app").await == ["v1"]).then_some(()))
        .await;
    until("the rest has come", PATIENCE, async || {
        let lag = regions.lag().await;
        (lag["lag_blobs"] == 1 && lag["lag_bytes"] == 12 * MIB as u64 && lag["fetching"] == 0).then_some(())
    })
    .await;
    assert_eq!(mirror.tags("large/app").await, Vec::<String>::new());
    let carried = regions.wan.carried_back();
    assert!(carried < 22 * MIB as u64, "{carried} bytes crossed the link");
    // What waits for its window grows old, and is not overdue.
    until("it is old", PATIENCE, async || {
        let metrics = mirror.get("/metrics").send().await.status(200);
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let gauge = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let (lag, overdue) = (gauge("roadstead_mirror_lag_seconds ")?, gauge("roadstead_mirror_overdue_seconds ")?);
        (overdue >= 0.0 && lag > overdue + 4.0).then_some(())
    })
    .await;
    regions.cut().await;
    // It is known to be at home.
    mirror.manifest("large/app", "v1").await.status(503);
    regions.wan.mend();

    assert!(regions.mirror.terminate().await.success());
    regions.mirror.restart_as(|setup| setup.instead("--upstream-window", "00:00-24:00")).await;
    regions.until_level().await;
    regions.cut().await;
    regions.mirror.client().pull_image("large/app", "v1", &large).await;
}

//! The home that was comes back (claim 15): as a mirror of its successor, with what that one lacks kept aside.

use serde_json::Value;

use super::promotion::json;
use super::{PATIENCE, Regions, status};
use crate::harness::{Image, Link, Roadstead, sha256, until};

/// What a registry has kept aside: sequence, repository, first tag and whether the new home has it.
async fn aside(registry: &Roadstead) -> Vec<(u64, String, String, bool)> {
    let listed = json(registry, "aside").await;
    let changes = listed["changes"].as_array().expect("changes");
    let of = |change: &Value| {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let sequence = change["sequence"].as_u64().expect("a sequence");
        let is_at_home = change["is_at_home"].as_bool().expect("whether it is at home");
        (sequence, text(&change["repository"]), text(&change["tags"][0]), is_at_home)
    };
    changes.iter().map(of).collect()
}

/// A home that was cut off with three pushes that its successor never had, started again as the mirror of that one.
async fn returned(lost: &Image, next: &Image) -> Regions {
    let mut regions = Regions::writing(Link::SHORT).await;
    let home = regions.home.client();
    let kept = Image::random(1, &[9_000]);
    home.push_image("team/app", "latest", &kept).await;
    home.push_image("team/app", "v1", &kept).await;
    regions.until_level().await;
    regions.cut().await;
    home.push_image("team/app", "latest", lost).await;
    home.push_image("other/app", "v2", lost).await;
    home.push_image("other/app", "v3", &Image::random(9, &[4_000])).await;
    json(&regions.mirror, "promote --yes --force").await;
    regions.mirror.client().push_image("team/app", "latest", next).await;
    follow_successor(&mut regions).await;
    let old = regions.home.client();
    old.pull_image("team/app", "v1", &kept).await;
    regions
}

/// Starts the home that was again as the mirror of the one that is, and waits until it is level and may write there. Nobody
/// has told it: its settings do, and the new home bears them out.
async fn follow_successor(regions: &mut Regions) {
    assert!(regions.home.terminate().await.success());
    let token = regions.home.data().with_file_name("token-of-the-new-home");
    let minted = regions.mirror.command("mirror token old --writes").succeeds().await;
    std::fs::write(&token, minted).expect("the token's file");
    let new = regions.mirror.base().to_owned();
    let token = token.display().to_string();
    regions.home.restart_as(|setup| setup.flag("--upstream", &new).flag("--upstream-token-file", &token)).await;
    until("it has compared itself with the new home", PATIENCE, async || {
        let status = status(&regions.home).await;
        let is_level = status["mirror"]["comparing"] == false && status["mirror"]["lag_changes"] == 0;
        let is_there = status["mirror"]["home_is_there"] == true;
        (is_level && is_there && status["region"]["standing"] == "mirror").then_some(())
    })
    .await;
}

#[tokio::test]
async fn claim_15_the_old_home_becomes_a_mirror_and_keeps_aside_what_the_new_one_does_not_have() {
    let (lost, next) = (Image::random(2, &[9_000]), Image::random(3, &[9_000]));
    let mut regions = returned(&lost, &next).await;
    let old = regions.home.client();
    old.pull_image("team/app", "latest", &next).await;
    // Nothing of what was kept aside is served, by any name.
    old.manifest("other/app", "v2").await.status(404);
    old.manifest("team/app", &lost.digest()).await.status(404);
    old.blob("team/app", &sha256(&lost.layers[0])).await.status(404);

    // It is listed, and stays over a restart.
    regions.home.kill();
    regions.home.restart().await;
    assert_eq!(status(&regions.home).await["kept_aside"], 3);
    let listed = aside(&regions.home).await;
    let named: Vec<_> = listed.iter().map(|(_, repository, tag, at_home)| (&**repository, &**tag, *at_home)).collect();
    assert_eq!(named, [("team/app", "latest", false), ("other/app", "v2", false), ("other/app", "v3", false)]);

    // What is dismissed is forgotten, and nothing else.
    let said = regions.home.command(&format!("aside dismiss {}", listed[2].0)).succeeds().await;
    assert!(said.starts_with("1 changes"), "{said}");
    assert_eq!(aside(&regions.home).await, listed[..2]);
    let unknown = regions.home.command("aside dismiss 1000000").fails().await;
    assert!(unknown.contains("nothing is kept aside under 1000000"), "{unknown}");
    assert_eq!(json(&regions.home, "aside dismiss --all").await["dismissed"], 2);
    assert!(regions.home.command("aside").succeeds().await.contains("nothing is kept aside"));
    regions.home.assert_unharmed();
}

#[tokio::test]
async fn claim_15_what_the_old_home_kept_aside_is_pushed_again_at_the_new_one() {
    let (lost, next) = (Image::random(2, &[9_000, 300_000]), Image::random(3, &[9_000]));
    let mut regions = returned(&lost, &next).await;
    until("it may write there", PATIENCE, async || {
        (status(&regions.home).await["mirror"]["home_is_there"] == true).then_some(())
    })
    .await;
    let pushed = json(&regions.home, "aside push --all").await;
    let pushed: Vec<_> = pushed.as_array().expect("what was pushed").iter().collect();
    let tags: Vec<_> = pushed.iter().map(|pushed| (&pushed["tags"], &pushed["tags_left"])).collect();
    let (none, some) = (Value::from(Vec::<String>::new()), |tag: &str| Value::from(vec![tag]));
    assert_eq!(tags, [(&none, &some("latest")), (&some("v2"), &none), (&some("v3"), &none)]);
    let new = regions.mirror.client();
    new.pull_image("other/app", "v2", &lost).await;
    // Where it points since is left to whoever says otherwise.
    new.pull_image("team/app", "latest", &next).await;
    let listed = aside(&regions.home).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    json(&regions.home, &format!("aside push {} --move-tags", listed[0].0)).await;
    new.pull_image("team/app", "latest", &lost).await;
    assert!(aside(&regions.home).await.is_empty());
    // Home has it itself.
    regions.home.kill();
    new.pull_image("other/app", "v2", &lost).await;
    regions.mirror.assert_unharmed();
}

#[tokio::test]
async fn claim_15_what_was_pushed_more_than_once_is_pushed_again_as_it_was_last() {
    let mut regions = Regions::writing(Link::SHORT).await;
    let home = regions.home.client();
    home.push_image("team/app", "latest", &Image::random(1, &[9_000])).await;
    regions.until_level().await;
    regions.cut().await;
    let (first, second) = (Image::random(2, &[9_000]), Image::random(3, &[9_000]));
    home.push_image("other/app", "edge", &first).await;
    home.push_image("other/app", "gone", &first).await;
    home.push_image("other/app", "kept", &first).await;
    home.push_image("other/app", "edge", &second).await;
    home.delete("/v2/other/app/manifests/gone").send().await.status(202);
    json(&regions.mirror, "promote --yes --force").await;
    follow_successor(&mut regions).await;
    json(&regions.home, "aside push --all").await;
    let new = regions.mirror.client();
    new.pull_image("other/app", "edge", &second).await;
    new.pull_image("other/app", "kept", &first).await;
    new.manifest("other/app", "gone").await.status(404);
    // A deletion is nothing that is pushed.
    let left: Vec<_> = aside(&regions.home).await.into_iter().map(|(_, _, tag, _)| tag).collect();
    assert_eq!(left, ["gone"]);
    regions.mirror.assert_unharmed();
}

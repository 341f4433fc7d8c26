//! Mirrors that follow a part of their home.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use roadstead_domain::{Precondition, PushedManifest};
use roadstead_oci::{Digest, MediaType, Reference};
use serde_json::{Value, json};

use crate::fixture::{Instead, Place, Regions, name, sha256};
use crate::home::HomeError;
use crate::pull::PullError;
use crate::{Calendar, Filter, Mirror, Options, PromoteError};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn filter(rules: &[&str], platforms: &[&str]) -> Filter {
    Filter {
        rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
    }
}

async fn following(rules: &[&str], platforms: &[&str]) -> Regions {
    Regions::with(Calendar::default(), filter(rules, platforms)).await
}

/// Puts any manifest at home, under a tag or its digest.
async fn put(regions: &Regions, repository: &str, tag: Option<&str>, media_type: &str, document: &Value) -> Digest {
    let bytes = Bytes::from(document.to_string());
    let digest = sha256(&bytes);
    let reference = tag.map_or(Reference::Digest(digest), |tag| Reference::Tag(tag.parse().unwrap()));
    let pushed = PushedManifest { declared: Some(MediaType::from_content_type(media_type).unwrap()), bytes };
    let registry = &regions.home.place.registry;
    registry.put_manifest(&name(repository), &reference, &[], Precondition::None, pushed).await.unwrap();
    digest
}

/// Pushes an image without a tag that has one blob with this content; it, and its blob.
async fn image(regions: &Regions, repository: &str, content: &str) -> (Digest, Digest) {
    let blob = regions.home.place.push_blob(repository, content.as_bytes()).await;
    let layer = json!({"mediaType": "application/octet-stream", "digest": blob.to_string(), "size": content.len()});
    let document = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": layer, "layers": [layer]});
    (put(regions, repository, None, IMAGE, &document).await, blob)
}

fn entry(digest: &Digest, platform: &str) -> Value {
    let (os, architecture) = platform.split_once('/').unwrap();
    let platform = json!({"os": os, "architecture": architecture});
    json!({"mediaType": IMAGE, "digest": digest.to_string(), "size": 5, "platform": platform})
}

/// An index that lists so many large images, which are at home without a tag.
async fn large_index(regions: &Regions, of: &str, images: usize) -> Value {
    let blob = regions.home.place.push_blob("app", b"layer").await;
    let layer = json!({"mediaType": "application/octet-stream", "digest": blob.to_string(), "size": 5});
    let mut entries = Vec::new();
    for number in 0..images {
        let annotations = json!({"of": format!("{of} {number}"), "padding": "x".repeat(62_000)});
        let document = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "config": layer, "layers": [layer], "annotations": annotations
        });
        let image = put(regions, "app", None, IMAGE, &document).await;
        entries.push(entry(&image, "linux/amd64"));
    }
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
}

/// The same mirror after a restart, with another filter.
async fn restart(regions: &mut Regions, rules: &[&str]) {
    restart_with(regions, rules, &[]).await;
}

async fn restart_with(regions: &mut Regions, rules: &[&str], platforms: &[&str]) {
    regions.stop().await;
    let options = Options { filter: filter(rules, platforms), ..regions.here.options() };
    let home = Arc::new(Arc::clone(&regions.home));
    regions.mirror = Mirror::new(Arc::clone(&regions.here.registry), home, None, options);
}

/// Puts something at home that refers to a manifest there; it, and its blob.
async fn signature(regions: &Regions, repository: &str, subject: &Digest) -> (Digest, Digest) {
    let blob = regions.home.place.push_blob(repository, format!("signature of {subject}").as_bytes()).await;
    let config = json!({"mediaType": "application/octet-stream", "digest": blob.to_string(), "size": 9});
    let subject = json!({"mediaType": IMAGE, "digest": subject.to_string(), "size": 5});
    let document = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [], "subject": subject});
    (put(regions, repository, None, IMAGE, &document).await, blob)
}

/// Puts a manifest that is at home under another tag too.
async fn retag(regions: &Regions, repository: &str, digest: &Digest, tag: &str) {
    let registry = &regions.home.place.registry;
    let found = registry.find_manifest(&name(repository), &Reference::Digest(*digest)).await.unwrap();
    let bytes = registry.read_manifest(&found).await.unwrap();
    let pushed = PushedManifest { declared: Some(MediaType::from_content_type(IMAGE).unwrap()), bytes };
    let tag = Reference::Tag(tag.parse().unwrap());
    registry.put_manifest(&name(repository), &tag, &[], Precondition::None, pushed).await.unwrap();
}

fn is_here(regions: &Regions, repository: &str, digest: &Digest) -> bool {
    regions.here.registry.metadata().query().unwrap().manifest(&name(repository), digest).unwrap().is_some()
}

fn holds(regions: &Regions, repository: &str, blob: &Digest) -> bool {
    regions.here.registry.metadata().query().unwrap().blob(&name(repository), blob).unwrap().is_some()
}

#[tokio::test]
async fn p8_a_repository_that_is_not_followed_is_read_through_and_not_denied_while_home_is_away() {
    let regions = following(&["team/**"], &[]).await;
    let home = &regions.home;
    let (one, two) = (home.place.push_blob("team/app", b"one").await, home.place.push_blob("other", b"two").await);
    let followed = home.place.put("team/app", "v1", &[one], 0).await;
    let left_out = home.place.put("other", "v1", &[two], 0).await;
    regions.run();
    regions.until_tag("team/app", "v1", followed).await;
    regions.until_received().await;
    assert_eq!((regions.here.tag("other", "v1"), home.asked(two)), (None, 0));
    let tag = Reference::Tag("v1".parse().unwrap());
    let pulled = regions.mirror.find_manifest(&name("other"), &tag).await.unwrap();
    assert_eq!(pulled.digest, left_out);
    assert!(regions.mirror.find_blob(&name("other"), &two).await.is_ok());
    let never = regions.mirror.find_manifest(&name("other"), &Reference::Digest(sha256(b"never"))).await;
    assert!(matches!(never, Err(PullError::Unknown)), "home says so");
    home.go_away(true);
    regions.until("home is away", || !regions.mirror.lag().unwrap().home_is_there).await;
    for reference in [tag.clone(), Reference::Digest(left_out)] {
        let pulled = regions.mirror.find_manifest(&name("other"), &reference).await;
        assert!(matches!(pulled, Err(PullError::HomeAway(_))), "{:?}", pulled.err());
    }
    let pulled = regions.mirror.find_blob(&name("other"), &two).await;
    assert!(matches!(pulled, Err(PullError::HomeAway(_))), "{:?}", pulled.err());
    // What is followed entirely is known entirely.
    assert_eq!(regions.mirror.find_manifest(&name("team/app"), &tag).await.unwrap().digest, followed);
    let never = regions.mirror.find_manifest(&name("team/app"), &Reference::Tag("v2".parse().unwrap())).await;
    assert!(matches!(never, Err(PullError::Unknown)));
    regions.end().await;
}

#[tokio::test]
async fn p9_a_tag_that_is_followed_moves_with_its_blobs_and_signature_and_others_are_not_copied() {
    let regions = following(&["app:v*"], &[]).await;
    regions.run();
    let home = &regions.home;
    let (nightly, stable) = (home.place.push_blob("app", b"n").await, home.place.push_blob("app", b"s").await);
    let left_out = home.place.put("app", "nightly", &[nightly], 0).await;
    let first = home.place.put("app", "v1", &[stable], 0).await;
    regions.until_tag("app", "v1", first).await;
    // A signature that names it, and one whose tag does.
    let (referrer, signed) = signature(&regions, "app", &first).await;
    let config = json!({"mediaType": "application/octet-stream", "digest": signed.to_string(), "size": 9});
    let named = format!("{}.sig", first.to_string().replace(':', "-"));
    let document = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [config]});
    let by_tag = put(&regions, "app", Some(&named), IMAGE, &document).await;
    regions.until_tag("app", &named, by_tag).await;
    regions.until_received().await;
    assert!(is_here(&regions, "app", &referrer) && holds(&regions, "app", &signed));
    assert!(!is_here(&regions, "app", &left_out) && !holds(&regions, "app", &nightly));
    assert_eq!((regions.here.tag("app", "nightly"), home.asked(nightly)), (None, 0));
    // What another tag has brought to home is followed when a tag of the rule comes to it, and goes when home deletes it.
    let tag = Reference::Tag("v1".parse().unwrap());
    retag(&regions, "app", &left_out, "v1").await;
    regions.until_tag("app", "v1", left_out).await;
    assert!(holds(&regions, "app", &nightly) && regions.here.tag("app", "nightly").is_none());
    home.place.registry.delete_manifest(&name("app"), &tag).await.unwrap();
    regions.until("the tag is gone", || regions.here.tag("app", "v1").is_none()).await;
    regions.end().await;
}

#[tokio::test]
async fn p8_of_an_index_the_images_for_the_platforms_are_copied_and_the_others_read_through() {
    let regions = following(&[], &["linux/amd64"]).await;
    let (amd64, wanted) = image(&regions, "app", "amd64").await;
    let (arm64, left_out) = image(&regions, "app", "arm64").await;
    let entries = [entry(&amd64, "linux/amd64"), entry(&arm64, "linux/arm64")];
    let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    regions.run();
    // By its digest alone nobody follows an image.
    regions.until_received().await;
    let index = put(&regions, "app", Some("v1"), INDEX, &document).await;
    regions.until_tag("app", "v1", index).await;
    assert!(is_here(&regions, "app", &amd64) && holds(&regions, "app", &wanted));
    assert!(!is_here(&regions, "app", &arm64) && !holds(&regions, "app", &left_out));
    assert_eq!(regions.home.asked(left_out), 0);
    let pulled = regions.mirror.find_manifest(&name("app"), &Reference::Digest(arm64)).await.unwrap();
    assert_eq!(pulled.digest, arm64);
    regions.home.go_away(true);
    regions.until("home is away", || !regions.mirror.lag().unwrap().home_is_there).await;
    let pulled = regions.mirror.find_manifest(&name("app"), &Reference::Digest(arm64)).await;
    assert!(matches!(pulled, Err(PullError::HomeAway(_))), "{:?}", pulled.err());
    assert_eq!(regions.mirror.find_manifest(&name("app"), &Reference::Digest(amd64)).await.unwrap().digest, amd64);
    regions.end().await;
}

#[tokio::test]
async fn another_filter_is_followed_from_a_comparison_on() {
    let mut regions = following(&["a", "b:v*"], &[]).await;
    let home = Arc::clone(&regions.home);
    let mut digests = Vec::new();
    for (repository, tag) in [("a", "v1"), ("b", "v1"), ("b", "edge"), ("c", "v1")] {
        let blob = home.place.push_blob(repository, format!("{repository}{tag}").as_bytes()).await;
        digests.push((repository, tag, home.place.put(repository, tag, &[blob], 0).await));
    }
    regions.run();
    regions.until_tag("b", "v1", digests[1].2).await;
    regions.until_tag("a", "v1", digests[0].2).await;
    regions.until_received().await;
    assert_eq!((regions.here.tag("b", "edge"), regions.here.tag("c", "v1")), (None, None));
    for (rules, here) in [(&["b:e*", "c"][..], [false, false, true, true]), (&[], [true; 4])] {
        regions.stop().await;
        let options = Options { filter: filter(rules, &[]), ..regions.here.options() };
        regions.mirror = Mirror::new(Arc::clone(&regions.here.registry), Arc::new(Arc::clone(&home)), None, options);
        regions.run();
        regions
            .until("what is followed is here, and nothing else", || {
                digests.iter().zip(here).all(|((repository, tag, digest), here)| {
                    regions.here.tag(repository, tag) == here.then_some(*digest)
                })
            })
            .await;
        regions.until_received().await;
    }
    assert_eq!(home.snapshots.load(Ordering::SeqCst), 2);
    // And the feed goes on from there.
    let blob = home.place.push_blob("c", b"next").await;
    let next = home.place.put("c", "v2", &[blob], 0).await;
    regions.until_tag("c", "v2", next).await;
    regions.end().await;
}

#[tokio::test]
async fn p8_what_a_line_brings_with_it_is_taken_in_by_entries_that_fit_the_log() {
    let regions = following(&["app:v*"], &[]).await;
    let mut indexes = Vec::new();
    for number in 0..12 {
        indexes.push(large_index(&regions, &number.to_string(), 6).await);
    }
    // Behind all images, so in one line: 4.5 MB of manifests go with them.
    let mut last = None;
    for (number, index) in indexes.iter().enumerate() {
        last = Some(put(&regions, "app", Some(&format!("v{number}")), INDEX, index).await);
    }
    regions.run();
    regions.until_tag("app", "v11", last.unwrap()).await;
    for number in 0..12 {
        assert!(regions.here.tag("app", &format!("v{number}")).is_some());
    }
    let snapshots = || regions.home.snapshots.load(Ordering::SeqCst);
    assert_eq!(snapshots(), 0);
    // What one change alone brings, and does not fit, a comparison takes in, and the feed goes on behind it.
    let index = large_index(&regions, "large", 15).await;
    let large = put(&regions, "app", Some("v-large"), INDEX, &index).await;
    regions.until_tag("app", "v-large", large).await;
    regions.until_received().await;
    assert_eq!(snapshots(), 1);
    let blob = regions.home.place.push_blob("app", b"after").await;
    let next = regions.home.place.put("app", "v-next", &[blob], 0).await;
    regions.until_tag("app", "v-next", next).await;
    assert_eq!(snapshots(), 1);
    regions.end().await;
}

#[tokio::test]
async fn a_mirror_whose_filter_was_removed_is_promoted_and_acknowledges_only_when_the_rest_has_come() {
    let mut regions = following(&["a"], &[]).await;
    let home = Arc::clone(&regions.home);
    let mut digests = Vec::new();
    for repository in ["a", "b"] {
        let blob = home.place.push_blob(repository, repository.as_bytes()).await;
        digests.push((repository, home.place.put(repository, "v1", &[blob], 0).await));
    }
    regions.run();
    regions.until_tag("a", "v1", digests[0].1).await;
    regions.until_received().await;
    restart(&mut regions, &[]).await;
    regions.watch();
    regions.until("home is there", || regions.mirror.lag().unwrap().home_is_there).await;
    assert_eq!(regions.mirror.progress().unwrap(), None);
    let refused = regions.mirror.promote(false, None).await.unwrap_err();
    assert!(matches!(&refused, PromoteError::Refused(why) if why.contains("filter that is not set")), "{refused}");
    assert_eq!(home.place.registry.region().unwrap().standing, roadstead_metadata::Standing::Home);
    regions.run();
    for (repository, digest) in &digests {
        regions.until_tag(repository, "v1", *digest).await;
    }
    regions.until_received().await;
    assert!(regions.mirror.progress().unwrap().is_some());
    let promoted = regions.mirror.promote(false, None).await.unwrap();
    assert!(promoted.handed_over);
    regions.end().await;
}

#[tokio::test]
async fn what_a_blob_holds_up_that_home_does_not_give_is_its_repository_and_what_is_left_out_of_that_is_read_through() {
    let regions = following(&["app:v*", "web:v*"], &[]).await;
    let home = &regions.home;
    let (damaged, sound) = (home.place.push_blob("app", b"12345").await, home.place.push_blob("app", b"54321").await);
    home.instead(damaged, Instead::Fails(HomeError::Away("it answered 503".to_owned())));
    let waits = home.place.put("app", "v1", &[damaged], 0).await;
    // Deleted, and there again, which nobody tells a mirror that leaves it out.
    let digest = home.place.put("app", "nightly", &[sound], 0).await;
    home.place.registry.delete_manifest(&name("app"), &Reference::Digest(digest)).await.unwrap();
    home.place.put("app", "nightly", &[sound], 0).await;
    let other = home.place.push_blob("web", b"other").await;
    let comes = home.place.put("web", "v1", &[other], 0).await;
    regions.run();
    regions.until_tag("web", "v1", comes).await;
    regions.until_received().await;
    assert_eq!(regions.here.tag("app", "v1"), None);
    for reference in [Reference::Digest(digest), Reference::Tag("nightly".parse().unwrap())] {
        let pulled = regions.mirror.find_manifest(&name("app"), &reference).await;
        assert_eq!(pulled.map(|found| found.digest).ok(), Some(digest), "{reference}");
    }
    home.as_it_is(damaged);
    regions.until_tag("app", "v1", waits).await;
    regions.end().await;
}

#[tokio::test]
async fn a_tag_goes_whose_next_manifest_home_has_deleted_before_it_was_looked_at() {
    let mut regions = following(&["app:v*"], &[]).await;
    let home = Arc::clone(&regions.home);
    let blob = home.place.push_blob("app", b"layer").await;
    let first = home.place.put("app", "v1", &[blob], 0).await;
    regions.run();
    regions.until_tag("app", "v1", first).await;
    restart(&mut regions, &["app:v*"]).await;
    let second = home.place.put("app", "v1", &[blob], 1).await;
    home.place.registry.delete_manifest(&name("app"), &Reference::Digest(second)).await.unwrap();
    regions.run();
    regions.until("the tag is gone here too", || regions.here.tag("app", "v1").is_none()).await;
    regions.end().await;
}

#[tokio::test]
async fn a_home_that_does_not_say_what_refers_to_an_image_is_followed_without_and_compared_with_once_it_does() {
    let regions = following(&["app:v*"], &[]).await;
    let home = &regions.home;
    home.lists_no_referrers.store(true, Ordering::SeqCst);
    let blob = home.place.push_blob("app", b"layer").await;
    let image = home.place.put("app", "nightly", &[blob], 0).await;
    let (referrer, signed) = signature(&regions, "app", &image).await;
    regions.run();
    regions.until_received().await;
    assert!(!regions.mirror.lists_no_referrers(), "it was not asked");
    retag(&regions, "app", &image, "v1").await;
    regions.until_tag("app", "v1", image).await;
    regions.until_received().await;
    assert!(regions.mirror.lists_no_referrers() && regions.mirror.problem().is_none());
    assert!(!is_here(&regions, "app", &referrer));
    // What is put after it goes with it, as nobody has to ask for that.
    let config = json!({"mediaType": "application/octet-stream", "digest": signed.to_string(), "size": 9});
    let subject = json!({"mediaType": IMAGE, "digest": image.to_string(), "size": 5});
    let later =
        json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [config], "subject": subject});
    let later = put(&regions, "app", None, IMAGE, &later).await;
    regions.until("what came later goes with it", || is_here(&regions, "app", &later)).await;

    home.lists_no_referrers.store(false, Ordering::SeqCst);
    let next = home.place.put("app", "v2", &[blob], 1).await;
    regions.until_tag("app", "v2", next).await;
    regions.until("the signature has come", || is_here(&regions, "app", &referrer)).await;
    assert!(holds(&regions, "app", &signed) && !regions.mirror.lists_no_referrers());
    regions.end().await;
}

#[tokio::test]
async fn a_blob_of_which_a_manifest_says_another_size_comes_all_the_same_and_holds_nothing_up() {
    let regions = following(&["app:v*"], &[]).await;
    let home = &regions.home;
    let blob = home.place.push_blob("app", b"more than five bytes").await;
    home.instead(blob, Instead::Fails(HomeError::Away("it answered 503".to_owned())));
    let image = home.place.put("app", "v1", &[blob], 0).await;
    regions.run();
    regions.until_received().await;
    let believed = regions.here.registry.metadata().query().unwrap().is_wanted(&name("app"), &blob).unwrap();
    assert_eq!(believed, Some(5), "as the manifest says, since home does not");
    home.as_it_is(blob);
    regions.until_tag("app", "v1", image).await;
    assert_eq!(regions.mirror.blob_size(&name("app"), &blob).await.unwrap(), 20);
    regions.end().await;
}

#[tokio::test]
async fn an_image_that_comes_to_home_after_the_index_that_lists_it_is_followed_also_after_a_restart() {
    let mut regions = following(&["app:v*"], &["linux/amd64"]).await;
    let blob = regions.home.place.push_blob("app", b"layer").await;
    let layer = json!({"mediaType": "application/octet-stream", "digest": blob.to_string(), "size": 5});
    let document = |of: &str| json!({"schemaVersion": 2, "mediaType": IMAGE, "config": layer, "layers": [layer], "annotations": {"of": of}});
    let digest_of = |document: &Value| sha256(document.to_string().as_bytes());
    let [first, second, other, unlisted] = ["first", "second", "other", "unlisted"].map(document);
    let entries = [entry(&digest_of(&first), "linux/amd64"), entry(&digest_of(&second), "linux/amd64")];
    let entries = [entries.to_vec(), vec![entry(&digest_of(&other), "linux/arm64")]].concat();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    regions.run();
    let index = put(&regions, "app", Some("v1"), INDEX, &index).await;
    regions.until_tag("app", "v1", index).await;
    for image in [&unlisted, &other, &first] {
        put(&regions, "app", None, IMAGE, image).await;
    }
    regions.until("the first has come", || is_here(&regions, "app", &digest_of(&first))).await;
    assert!(holds(&regions, "app", &blob));
    restart_with(&mut regions, &["app:v*"], &["linux/amd64"]).await;
    regions.run();
    put(&regions, "app", None, IMAGE, &second).await;
    regions.until("the second has come", || is_here(&regions, "app", &digest_of(&second))).await;
    regions.until_received().await;
    assert!(!is_here(&regions, "app", &digest_of(&other)) && !is_here(&regions, "app", &digest_of(&unlisted)));
    regions.end().await;
}

#[tokio::test]
async fn a_blob_that_comes_to_home_after_its_manifest_is_followed() {
    let home = Place::new(1, true).await;
    let regions = Regions::of(home, Calendar::default(), filter(&["app:v*"], &[])).await;
    let (named, other) = (sha256(b"named"), sha256(b"other"));
    regions.run();
    let image = regions.home.place.put("app", "v1", &[named], 0).await;
    regions.until_tag("app", "v1", image).await;
    assert_eq!(regions.home.place.push_blob("app", b"other").await, other);
    assert_eq!(regions.home.place.push_blob("app", b"named").await, named);
    regions.until("it has come", || holds(&regions, "app", &named)).await;
    regions.until_received().await;
    assert!(!holds(&regions, "app", &other));
    regions.end().await;
}

#[tokio::test]
async fn p8_a_blob_that_home_lets_go_and_holds_again_stays_with_the_image_that_is_followed() {
    let regions = following(&["app:v*"], &[]).await;
    let home = &regions.home.place;
    let blob = home.push_blob("app", b"layer").await;
    let image = home.put("app", "v1", &[blob], 0).await;
    regions.run();
    regions.until_tag("app", "v1", image).await;
    // Both in one line, and in the order of home's feed behind a blob that does not come.
    let stuck = home.push_blob("app", b"stuck").await;
    regions.home.instead(stuck, Instead::Stalls);
    let next = home.put("app", "v2", &[stuck], 1).await;
    home.registry.delete_blob(&name("app"), blob).await.unwrap();
    home.push_blob("app", b"layer").await;
    regions.until_received().await;
    regions.home.as_it_is(stuck);
    regions.until_tag("app", "v2", next).await;
    regions.until("it is held again", || holds(&regions, "app", &blob)).await;
    regions.end().await;
}

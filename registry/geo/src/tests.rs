//! A mirror and its home in one process, and what goes wrong between them.

mod filter;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use roadstead_domain::ManifestReadError;
use roadstead_metadata::{CommandId, Examined, LogTime, SetQuarantine};
use roadstead_oci::Reference;

use crate::fetch::FetchError;
use crate::fixture::{Instead, Regions, name, sha256};
use crate::home::HomeError;
use crate::limits::{MAX_WAITING, SMALL_BYTES};
use crate::pull::{PullError, PulledBlob};
use crate::{Awaits, Calendar, Filter};

/// Larger than what the facts hold.
const LARGE: usize = 70 << 10;

fn away() -> Instead {
    Instead::Fails(HomeError::Away("it answered 503".to_owned()))
}

#[tokio::test]
async fn a_large_manifest_is_asked_for_and_stored_once_however_long_its_blobs_take() {
    let regions = Regions::new().await;
    let home = &regions.home;
    let (slow, quick) = (home.place.push_blob("app", b"slow").await, home.place.push_blob("app", b"quick").await);
    home.instead(slow, away());
    let large = home.place.put("app", "large", &[slow, quick], LARGE).await;
    regions.run();
    regions.until_received().await;
    // Its blob is asked for each two seconds, the inbox looked at each half.
    regions.until("the blob was asked for again", || home.asked(slow) >= 3).await;
    assert_eq!(home.asked(large), 1, "it is known what it waits for");
    home.as_it_is(slow);
    regions.until_tag("app", "large", large).await;
    assert!(home.asked(large) <= 2, "{}", home.asked(large));
    let query = regions.here.registry.metadata().query().unwrap();
    let reserved = query.reserved_before(LogTime(u64::MAX), 1_000).unwrap();
    assert!(reserved.iter().all(|key| !key.to_string().starts_with("manifests/")), "{reserved:?}");
    drop(query);
    regions.end().await;
}

#[tokio::test]
async fn a_repository_whose_manifest_is_not_to_be_had_holds_up_no_other() {
    let regions = Regions::new().await;
    let home = &regions.home;
    let mut bad = Vec::new();
    let kinds = [Instead::Bytes(Bytes::from_static(b"{}")), away(), Instead::Stalls];
    for (repository, instead) in ["a/unfit", "b/failing", "c/stalling"].into_iter().zip(kinds) {
        let blob = home.place.push_blob(repository, b"blob").await;
        let digest = home.place.put(repository, "v1", &[blob], LARGE).await;
        home.instead(digest, instead);
        bad.push((repository, digest));
    }
    let blob = home.place.push_blob("d/good", b"blob").await;
    let good = home.place.put("d/good", "v1", &[blob], LARGE).await;
    regions.run();
    regions.until_tag("d/good", "v1", good).await;
    for (repository, digest) in bad {
        assert_eq!(regions.here.tag(repository, "v1"), None);
        home.as_it_is(digest);
        regions.until_tag(repository, "v1", digest).await;
    }
    regions.end().await;
}

#[tokio::test]
async fn an_inbox_that_is_full_behind_a_blob_that_home_has_deleted_is_emptied_by_a_comparison() {
    let regions = Regions::new().await;
    let home = &regions.home;
    let gone = home.place.push_blob("app", b"gone").await;
    let first = home.place.put("app", "first", &[gone], 0).await;
    home.instead(gone, away());
    regions.run();
    regions.until_received().await;
    // More than may wait, and what deletes the blob behind it.
    let blob = home.place.push_blob("app", b"blob").await;
    let mut last = first;
    for number in 0..MAX_WAITING + 300 {
        last = home.place.put("app", "last", &[blob], usize::try_from(number).unwrap()).await;
    }
    let registry = &home.place.registry;
    registry.delete_manifest(&name("app"), &Reference::Digest(first)).await.unwrap();
    registry.delete_blob(&name("app"), gone).await.unwrap();
    home.as_it_is(gone);
    regions.until_tag("app", "last", last).await;
    assert_eq!(regions.here.tag("app", "first"), None);
    let here = &regions.here.registry;
    assert!(matches!(
        here.find_manifest(&name("app"), &Reference::Digest(first)).await,
        Err(ManifestReadError::Unknown)
    ));
    regions.end().await;
}

#[tokio::test]
async fn a_comparison_goes_on_past_a_manifest_that_is_not_to_be_had_and_keeps_what_it_has_brought() {
    let regions = Regions::new().await;
    let home = &regions.home;
    let mut good = Vec::new();
    for repository in ["a/app", "b/app", "c/app"] {
        let blob = home.place.push_blob(repository, repository.as_bytes()).await;
        good.push((repository, home.place.put(repository, "v1", &[blob], 0).await));
    }
    let (_, unfit) = good.remove(1);
    home.instead(unfit, Instead::Bytes(Bytes::from_static(b"{}")));
    // Somebody began one that did not end.
    let cluster = home.place.registry.metadata().identity().cluster;
    regions.here.registry.begin_comparison(cluster).await.unwrap();
    regions.run();
    for (repository, digest) in &good {
        regions.until_tag(repository, "v1", *digest).await;
    }
    regions.until_received().await;
    assert_eq!(regions.here.tag("b/app", "v1"), None);
    assert_eq!(home.snapshots.load(Ordering::SeqCst), 1, "one comparison was enough");
    // Not by the comparison, but as its turn has come.
    home.as_it_is(unfit);
    regions.until_tag("b/app", "v1", unfit).await;
    regions.end().await;
}

#[tokio::test]
async fn what_was_told_to_be_gone_is_not_shown_again_while_home_is_away() {
    let regions = Regions::new().await;
    let home = &regions.home;
    let blob = home.place.push_blob("app", b"blob").await;
    let kept = home.place.put("app", "v1", &[blob], 0).await;
    regions.run();
    regions.until_tag("app", "v1", kept).await;
    // The deletion waits behind a blob that does not come.
    home.instead(sha256(b"slow"), away());
    let slow = home.place.push_blob("app", b"slow").await;
    home.place.put("app", "v2", &[slow], 0).await;
    let tag = Reference::Tag("v1".parse().unwrap());
    home.place.registry.delete_manifest(&name("app"), &tag).await.unwrap();
    regions.until_received().await;
    assert_eq!(regions.here.tag("app", "v1"), Some(kept));
    let pulled = regions.mirror.find_manifest(&name("app"), &tag).await;
    assert!(matches!(pulled, Err(PullError::Unknown)), "{:?}", pulled.err());
    home.go_away(true);
    regions.until("home is away", || !regions.mirror.lag().unwrap().home_is_there).await;
    let pulled = regions.mirror.find_manifest(&name("app"), &tag).await;
    assert!(matches!(pulled, Err(PullError::Unknown)), "{:?}", pulled.err());
    regions.end().await;
}

/// A tag may be passed on before the feed has told of it, or while the mirror is compared with home and has forgotten what
/// was announced.
#[tokio::test]
async fn p8_content_of_a_tag_that_was_passed_on_is_not_unknown_when_home_is_lost_before_it_was_announced() {
    let regions = Regions::new().await;
    let home = &regions.home;
    let blob = home.place.push_blob("app", b"blob").await;
    let manifest = home.place.put("app", "v1", &[blob], 0).await;
    regions.watch();
    regions.until("home is there", || regions.mirror.lag().unwrap().home_is_there).await;
    let tag = Reference::Tag("v1".parse().unwrap());
    assert_eq!(regions.mirror.find_manifest(&name("app"), &tag).await.unwrap().digest, manifest);
    home.go_away(true);
    regions.until("home is away", || !regions.mirror.lag().unwrap().home_is_there).await;
    let pulled = regions.mirror.find_manifest(&name("app"), &Reference::Digest(manifest)).await;
    assert!(matches!(pulled, Err(PullError::HomeAway(_))), "{:?}", pulled.err());
    let pulled = regions.mirror.find_blob(&name("app"), &blob).await;
    assert!(matches!(pulled, Err(PullError::HomeAway(_))), "{:?}", pulled.err());
    regions.end().await;
}

#[tokio::test]
async fn p8_what_is_damaged_here_is_not_unknown_while_home_is_away() {
    let regions = Regions::new().await;
    let home = &regions.home;
    let blob = home.place.push_blob("app", b"blob").await;
    let manifest = home.place.put("app", "v1", &[blob], 0).await;
    regions.run();
    regions.until_tag("app", "v1", manifest).await;
    home.go_away(true);
    regions.until("home is away", || !regions.mirror.lag().unwrap().home_is_there).await;
    let query = regions.here.registry.metadata().query().unwrap();
    let key = query.object_key(false, &blob).unwrap().unwrap();
    let content = query.manifest_content(false, &name("app"), &manifest).unwrap().unwrap();
    drop(query);
    let damaged_manifest = Examined::Manifest { repository: name("app"), digest: manifest, content };
    for (id, examined) in [(1, Examined::Blob { digest: blob, key }), (2, damaged_manifest)] {
        let set = SetQuarantine { examined, quarantined: true };
        assert!(regions.here.registry.metadata().propose(CommandId(id), LogTime(1), set).await.unwrap().unwrap());
    }
    let pulled = regions.mirror.find_blob(&name("app"), &blob).await;
    assert!(matches!(pulled, Err(PullError::HomeAway(_))), "{:?}", pulled.err());
    let size = regions.mirror.blob_size(&name("app"), &blob).await;
    assert!(matches!(size, Err(PullError::HomeAway(_))), "{size:?}");
    for reference in [Reference::Digest(manifest), Reference::Tag("v1".parse().unwrap())] {
        let pulled = regions.mirror.find_manifest(&name("app"), &reference).await;
        assert!(matches!(pulled, Err(PullError::HomeAway(_))), "{reference}: {:?}", pulled.err());
    }
    home.go_away(false);
    regions
        .until("it is mended", || {
            let query = regions.here.registry.metadata().query().unwrap();
            let is_here = query.blob(&name("app"), &blob).unwrap().is_some();
            is_here && query.manifest(&name("app"), &manifest).unwrap().is_some()
        })
        .await;
    home.go_away(true);
    regions.until("home is away", || !regions.mirror.lag().unwrap().home_is_there).await;
    let pulled = regions.mirror.find_manifest(&name("app"), &Reference::Tag("v1".parse().unwrap())).await;
    assert_eq!(pulled.unwrap().digest, manifest);
    let never = regions.mirror.find_manifest(&name("app"), &Reference::Tag("never".parse().unwrap())).await;
    assert!(matches!(never, Err(PullError::Unknown)));
    regions.end().await;
}

#[tokio::test]
async fn p11_a_blob_on_its_way_for_one_repository_is_not_shown_in_another_that_does_not_hold_it() {
    let regions = Regions::new().await;
    let home = &regions.home;
    let blob = home.place.push_blob("a/app", b"blob").await;
    home.place.push_blob("b/app", b"another").await;
    home.instead(blob, Instead::Stalls);
    regions.run();
    regions.until_received().await;
    regions.until("the blob is on its way", || home.asked(blob) > 0).await;
    assert!(regions.mirror.find_blob(&name("a/app"), &blob).await.is_ok());
    let pulled = regions.mirror.find_blob(&name("b/app"), &blob).await;
    assert!(matches!(pulled, Err(PullError::Unknown)), "{:?}", pulled.err());
    home.as_it_is(blob);
    regions.end().await;
}

#[tokio::test]
async fn p1_no_manifest_is_passed_on_whose_bytes_are_not_what_its_digest_says() {
    let regions = Regions::new().await;
    let home = &regions.home;
    regions.run();
    regions.until("home is there", || regions.mirror.lag().unwrap().home_is_there).await;
    let blob = home.place.push_blob("app", b"blob").await;
    home.instead(blob, away());
    // Too large for the feed, and waiting for its blob: so home is asked.
    let manifest = home.place.put("app", "v1", &[blob], LARGE).await;
    home.instead(manifest, Instead::Bytes(Bytes::from_static(b"{}")));
    regions.until_received().await;
    for reference in [Reference::Digest(manifest), Reference::Tag("v1".parse().unwrap())] {
        let pulled = regions.mirror.find_manifest(&name("app"), &reference).await;
        assert!(matches!(pulled, Err(PullError::HomeAway(_))), "{reference}: {:?}", pulled.err());
    }
    home.as_it_is(manifest);
    let pulled = regions.mirror.find_manifest(&name("app"), &Reference::Digest(manifest)).await;
    assert_eq!(pulled.unwrap().digest, manifest);
    regions.end().await;
}

#[tokio::test]
async fn blobs_on_their_way_are_promised_their_room_on_the_disk_together() {
    let regions = Regions::new().await;
    let (one, two) = (sha256(b"one"), sha256(b"two"));
    for digest in [one, two] {
        regions.home.instead(digest, Instead::Stalls);
    }
    // Each fits, and both do not, though nothing of them is written yet.
    let size = regions.free() / 5 * 3;
    let first = regions.mirror.fetch(&name("app"), one, Some(size)).await;
    assert!(first.is_ok(), "{:?}", first.err());
    let second = regions.mirror.fetch(&name("app"), two, Some(size)).await;
    assert!(matches!(second, Err(FetchError::Spool(_))), "{:?}", second.err());
    let small = regions.mirror.fetch(&name("app"), two, Some(5)).await;
    assert!(small.is_ok(), "{:?}", small.err());
    regions.end().await;
}

/// It is Tuesday, 22:13, where these tests run.
fn calendar(window: &str) -> Calendar {
    Calendar(vec![window.parse().unwrap()])
}

#[tokio::test]
async fn outside_of_its_windows_a_mirror_copies_no_large_blob_ahead_and_pulls_bring_them_still() {
    let regions = Regions::with(calendar("tue 23:00-23:59"), Filter::default()).await;
    let home = &regions.home;
    let content = vec![7; usize::try_from(SMALL_BYTES).unwrap() + 1];
    let (large, small) = (home.place.push_blob("large", &content).await, home.place.push_blob("small", b"small").await);
    let waits = home.place.put("large", "v1", &[large], 0).await;
    let comes = home.place.put("small", "v1", &[small], 0).await;
    regions.run();
    regions.until_tag("small", "v1", comes).await;
    regions.until_received().await;
    assert_eq!((home.asked(large), regions.here.tag("large", "v1")), (0, None));
    assert_eq!(regions.mirror.lag().unwrap().blobs, 1);
    // Whoever pulls does not wait for a window, and what was pulled is kept.
    let PulledBlob::Coming(coming) = regions.mirror.find_blob(&name("large"), &large).await.unwrap() else {
        panic!("it cannot be here");
    };
    let pieces: Vec<Bytes> = coming.stream(0..coming.size()).await.unwrap().try_collect().await.unwrap();
    assert!(pieces.concat() == content);
    regions.until_tag("large", "v1", waits).await;
    regions.end().await;
}

#[tokio::test]
async fn a_promotion_that_waits_for_large_blobs_waits_for_no_window() {
    let regions = Regions::with(calendar("tue 23:00-23:59"), Filter::default()).await;
    let content = vec![7; usize::try_from(SMALL_BYTES).unwrap() + 1];
    let large = regions.home.place.push_blob("large", &content).await;
    let digest = regions.home.place.put("large", "v1", &[large], 0).await;
    regions.run();
    regions.until_received().await;
    assert_eq!((regions.home.asked(large), regions.here.tag("large", "v1")), (0, None));
    regions.mirror.attempt.lock().awaits = Some(Awaits::Nearness);
    regions.until_tag("large", "v1", digest).await;
    regions.end().await;
}

#[tokio::test]
async fn within_its_windows_a_mirror_copies_large_blobs_ahead() {
    let regions = Regions::with(calendar("mon-tue 22:00-23:00"), Filter::default()).await;
    let content = vec![7; usize::try_from(SMALL_BYTES).unwrap() + 1];
    let large = regions.home.place.push_blob("large", &content).await;
    let digest = regions.home.place.put("large", "v1", &[large], 0).await;
    regions.run();
    regions.until_tag("large", "v1", digest).await;
    regions.end().await;
}

#[tokio::test]
async fn a_mirror_that_ends_begins_to_bring_nothing_more() {
    let regions = Regions::new().await;
    regions.run();
    regions.mirror.end().await;
    let digest = regions.home.place.push_blob("app", b"too late").await;
    regions.until_received().await;
    let pulled = regions.mirror.find_blob(&name("app"), &digest).await;
    assert!(
        matches!(&pulled, Err(PullError::HomeAway(why)) if why.contains("the registry ends")),
        "{:?}",
        pulled.err()
    );
    assert_eq!(regions.home.asked(digest), 0);
    regions.end().await;
}

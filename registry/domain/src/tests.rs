//! Pulls, mounts, manifests and listings through the verbs.

use std::time::Duration;

use roadstead_blobs::{BlobError, Fault as StoreFault, Moment, ObjectStore as _, Operation};
use roadstead_oci::{Manifest, MediaType, Page, Reference, RepositoryName};

use crate::fixture::{GRACE, World, bytes, repository, sha256, sha512, sized};
use crate::{Identity, ListTagsError, ManifestPutError, ManifestReadError, Precondition, PushedManifest};

fn image(layer: &[u8], padding: usize) -> Manifest {
    let descriptor = |content: &[u8]| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}"#,
            sha256(content),
            content.len()
        )
    };
    let json = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}],"annotations":{{"padding":"{}"}}}}"#,
        descriptor(b"{}"),
        descriptor(layer),
        "x".repeat(padding)
    );
    Manifest::parse(Some(&MediaType::OCI_MANIFEST), json.into()).expect("a manifest")
}

fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}

fn pages(n: u32, last: Option<&str>) -> Page {
    Page { n: Some(n), last: last.map(str::to_owned) }
}

async fn push_blobs(world: &World, repository: &RepositoryName, contents: &[&[u8]]) {
    for content in contents {
        world.registry.upload_blob(repository, sha256(content), sized(content)).await.expect("pushed");
    }
}

async fn put(
    world: &World,
    name: &str,
    tag: &str,
    manifest: &Manifest,
    if_: Precondition,
) -> Result<(), ManifestPutError> {
    world.registry.put_manifest(&repository(name), &reference(tag), &[], if_, manifest).await.map(|_stored| ())
}

#[tokio::test]
async fn a_manifest_is_served_byte_for_byte_small_or_large() {
    let world = World::new().await;
    push_blobs(&world, &repository("app"), &[b"{}", b"layer"]).await;
    for padding in [0, 100_000, 2_000_000] {
        let manifest = image(b"layer", padding);
        put(&world, "app", "v1", &manifest, Precondition::None).await.expect("stored");
        for name in ["v1".to_owned(), sha256(manifest.bytes()).to_string()] {
            let found = world.registry.find_manifest(&repository("app"), &reference(&name)).await.expect("found");
            assert_eq!(found.digest, sha256(manifest.bytes()));
            assert_eq!(found.media_type, MediaType::OCI_MANIFEST.as_str());
            for _cached in 0..2 {
                assert_eq!(&world.registry.read_manifest(&found).await.expect("read"), manifest.bytes());
            }
        }
    }
}

#[tokio::test]
async fn p1_a_manifest_under_a_wrong_digest_is_refused() {
    let world = World::new().await;
    push_blobs(&world, &repository("app"), &[b"{}", b"layer"]).await;
    let (manifest, wrong) = (image(b"layer", 0), sha512(b"something else").to_string());
    let error = put(&world, "app", &wrong, &manifest, Precondition::None).await.expect_err("wrong");
    assert!(matches!(error, ManifestPutError::DigestMismatch { .. }), "{error:?}");
    let error = world.registry.find_manifest(&repository("app"), &reference(&wrong)).await.expect_err("not there");
    assert!(matches!(error, ManifestReadError::Unknown), "{error:?}");
}

#[tokio::test]
async fn a_manifest_without_its_blobs_is_refused_and_names_them() {
    let world = World::new().await;
    push_blobs(&world, &repository("app"), &[b"{}"]).await;
    push_blobs(&world, &repository("other"), &[b"layer"]).await;
    let error = put(&world, "app", "v1", &image(b"layer", 0), Precondition::None).await.expect_err("a blob is missing");
    assert!(matches!(&error, ManifestPutError::BlobsUnknown(missing) if *missing == [sha256(b"layer")]), "{error:?}");
}

#[tokio::test]
async fn p3_preconditions_decide_which_push_wins() {
    let world = World::new().await;
    push_blobs(&world, &repository("app"), &[b"{}", b"layer"]).await;
    let (first, second) = (image(b"layer", 1), image(b"layer", 2));
    let error = put(&world, "app", "v1", &first, Precondition::Exists).await.expect_err("nothing was there");
    assert!(matches!(error, ManifestPutError::PreconditionFailed), "{error:?}");
    put(&world, "app", "v1", &first, Precondition::Absent).await.expect("nothing was there");
    let error = put(&world, "app", "v1", &second, Precondition::Absent).await.expect_err("something is");
    assert!(matches!(error, ManifestPutError::PreconditionFailed), "{error:?}");
    let expected = Precondition::Match(vec![sha256(second.bytes())]);
    put(&world, "app", "v1", &second, expected).await.expect_err("it is the first");
    let expected = Precondition::Match(vec![sha256(first.bytes())]);
    put(&world, "app", "v1", &second, expected).await.expect("it is the first");
    put(&world, "app", "v1", &first, Precondition::Exists).await.expect("something is there");
}

#[tokio::test]
async fn a_manifest_that_is_held_is_tagged_without_being_read() {
    let world = World::new().await;
    push_blobs(&world, &repository("app"), &[b"{}", b"layer"]).await;
    let subject = image(b"layer", 0);
    let text = std::str::from_utf8(subject.bytes()).expect("JSON").strip_suffix('}').expect("an object");
    let (media_type, digest, size) = (MediaType::OCI_MANIFEST, sha256(subject.bytes()), subject.bytes().len());
    let json = format!(r#"{text},"subject":{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}}}"#);
    let signature = Manifest::parse(Some(&MediaType::OCI_MANIFEST), json.into()).expect("a manifest");
    let put_as = async |tag: &str, pushed: PushedManifest| {
        let app = repository("app");
        world.registry.put_manifest(&app, &reference(tag), &[], Precondition::None, pushed).await
    };
    let first = put_as("v1", (&signature).into()).await.expect("stored");
    assert_eq!(first.subject, Some(sha256(subject.bytes())));
    assert_eq!(put_as("v2", (&signature).into()).await.expect("tagged"), first);
    let other = PushedManifest { declared: Some(MediaType::DOCKER_MANIFEST), bytes: signature.bytes().clone() };
    assert_eq!(put_as("v3", other).await.expect("stored as another type"), first);
    let found = world.registry.find_manifest(&repository("app"), &reference("v1")).await.expect("found");
    assert_eq!(found.media_type, MediaType::DOCKER_MANIFEST.as_str());
    let app = repository("app");
    world.registry.delete_manifest(&app, &reference(&first.digest.to_string())).await.expect("deleted");
    assert_eq!(put_as("v4", (&signature).into()).await.expect("stored anew"), first);
    world.registry.delete_blob(&app, sha256(b"layer")).await.expect("deleted");
    let error = put_as("v5", (&signature).into()).await.expect_err("a blob has gone");
    assert!(matches!(&error, ManifestPutError::BlobsUnknown(missing) if *missing == [sha256(b"layer")]), "{error:?}");
}

#[tokio::test]
async fn deleting_a_manifest_drops_its_tags_and_deleting_a_tag_keeps_its_manifest() {
    let world = World::new().await;
    push_blobs(&world, &repository("app"), &[b"{}", b"layer"]).await;
    let manifest = image(b"layer", 0);
    let digest = reference(&sha256(manifest.bytes()).to_string());
    for tag in ["a", "b"] {
        put(&world, "app", tag, &manifest, Precondition::None).await.expect("stored");
    }
    world.registry.delete_manifest(&repository("app"), &reference("a")).await.expect("deleted");
    world.registry.delete_manifest(&repository("app"), &reference("a")).await.expect_err("deleted already");
    world.registry.find_manifest(&repository("app"), &digest).await.expect("still there");
    world.registry.delete_manifest(&repository("app"), &digest).await.expect("deleted");
    world.registry.find_manifest(&repository("app"), &reference("b")).await.expect_err("gone with its manifest");
}

#[tokio::test]
async fn listings_go_page_by_page_to_their_end() {
    let world = World::new().await;
    for name in ["a", "a/b", "c"] {
        push_blobs(&world, &repository(name), &[b"{}", b"layer"]).await;
    }
    for tag in ["1", "10", "2", "Z", "a"] {
        put(&world, "a", tag, &image(b"layer", 0), Precondition::None).await.expect("stored");
    }
    let mut seen = Vec::new();
    let mut last = None;
    loop {
        let page = world.registry.list_tags(&repository("a"), &pages(2, last.as_deref())).await.expect("a page");
        assert!(page.entries.len() <= 2);
        seen.extend(page.entries.iter().map(ToString::to_string));
        match page.next {
            Some(next) => last = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ["1", "10", "2", "Z", "a"]);
    let nothing = world.registry.list_tags(&repository("a"), &pages(0, None)).await.expect("a page");
    assert!(nothing.entries.is_empty() && nothing.next.is_none());
    let error = world.registry.list_tags(&repository("b"), &Page::default()).await.expect_err("no such repository");
    assert!(matches!(error, ListTagsError::RepositoryUnknown), "{error:?}");

    let page = world.registry.list_repositories(&Identity::Anonymous, &pages(2, None)).await.expect("a page");
    assert_eq!(page.entries, [repository("a"), repository("a/b")]);
    let rest = world.registry.list_repositories(&Identity::Anonymous, &pages(2, page.next.as_deref())).await;
    assert_eq!(rest.expect("a page").entries, [repository("c")]);
}

#[tokio::test]
async fn a_blob_is_mounted_from_where_it_is_and_nowhere_else() {
    let world = World::new().await;
    let content = bytes(3000);
    let (digest, anybody) = (sha256(&content), Identity::Anonymous);
    push_blobs(&world, &repository("from"), &[&content]).await;
    let mount = |to: &'static str, from: Option<&'static str>| {
        let (world, anybody) = (&world, &anybody);
        async move {
            let from = from.map(repository);
            world.registry.mount_blob(anybody, &repository(to), digest, from.as_ref()).await.expect("an answer")
        }
    };
    assert!(!mount("to", Some("elsewhere")).await);
    assert!(mount("to", Some("from")).await);
    assert!(mount("to2", None).await);
    assert_eq!(world.pull(&repository("to"), digest).await, content);
    world.registry.delete_blob(&repository("to"), digest).await.expect("deleted");
    world.registry.find_blob(&repository("to"), &digest).await.expect_err("deleted");
    assert_eq!(world.pull(&repository("from"), digest).await, content);
}

#[tokio::test]
async fn p7_what_nothing_names_is_collected_and_what_is_promised_stays() {
    let world = World::new().await;
    let app = repository("app");
    push_blobs(&world, &app, &[b"{}", b"layer", b"asked for", b"garbage"]).await;
    let manifest = image(b"layer", 0);
    put(&world, "app", "v1", &manifest, Precondition::None).await.expect("stored");

    let almost = GRACE.saturating_sub(Duration::from_secs(1));
    world.clock.advance(almost);
    world.registry.promise_blob(&app, &sha256(b"asked for")).await.expect("still there");
    world.clock.advance(almost);
    world.registry.sweep().await.expect("a sweep");
    world.registry.find_blob(&app, &sha256(b"garbage")).await.expect_err("nothing has named it for a grace");
    world.registry.promise_blob(&app, &sha256(b"garbage")).await.expect_err("so it is not promised any more");
    world.registry.promise_blob(&app, &sha256(b"asked for")).await.expect("promised");
    for needed in [b"{}".as_slice(), b"layer"] {
        assert_eq!(world.pull(&app, sha256(needed)).await, needed);
    }

    world.clock.advance(GRACE + Duration::from_secs(1));
    let condemned = world.registry.sweep().await.expect("a sweep").condemned;
    assert_eq!(condemned, 1, "its object, after a grace of its own");
    assert_eq!(world.objects_after_sweep().await.len(), 4, "its readers may not have ended");
    world.clock.advance(Duration::from_hours(3));
    assert_eq!(
        world.objects_after_sweep().await.len(),
        3,
        "the garbage is gone, what was asked for has its last grace"
    );
}

#[tokio::test]
async fn p7_a_clock_that_is_a_year_ahead_condemns_nothing() {
    let mut world = World::new().await;
    let app = repository("app");
    push_blobs(&world, &app, &[b"layer"]).await;
    world.clock.set_ahead(Duration::from_hours(365 * 24));
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(10));
        world.registry.sweep().await.expect("a sweep");
        world.registry.promise_blob(&app, &sha256(b"layer")).await.expect("half a grace has not passed");
        world.restart();
    }
    world.clock.set_ahead(Duration::ZERO);
    world.clock.advance(2 * GRACE);
    world.registry.sweep().await.expect("a sweep");
    world.registry.find_blob(&app, &sha256(b"layer")).await.expect_err("time goes on, whatever the clock said");
}

#[tokio::test]
async fn one_object_that_cannot_be_deleted_does_not_keep_the_others() {
    let world = World::new().await;
    for _ in 0..3 {
        let upload = world.registry.start_upload(&repository("app"), false).await.expect("a session");
        world.registry.append_upload(&repository("app"), upload, sized(b"bytes")).await.expect("appended");
        world.registry.cancel_upload(&repository("app"), upload).await.expect("cancelled");
    }
    let denied = || StoreFault::Fail(Moment::Before, BlobError::Denied("injected".to_owned()));
    world.store.inject(Operation::Delete, denied()); // the batch
    world.store.inject(Operation::Delete, denied()); // the first of it
    world.registry.sweep().await.expect_err("what was refused is told");
    let left = world.store.list("", None).await.expect("a listing").items;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(world.objects_after_sweep().await, Vec::<String>::new(), "the next sweep tries again");
}

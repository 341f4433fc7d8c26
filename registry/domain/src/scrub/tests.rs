//! Each kind of damage, and each race.

use std::time::Duration;

use bytes::Bytes;
use roadstead_blobs::{BlobError, Fault as StoreFault, Gate, Moment, ObjectStore as _, Operation};
use roadstead_metadata::{ManifestContent, NewManifest, Precondition, PutManifest};
use roadstead_oci::{Algorithm, Digest, Hasher, Manifest, MediaType, ObjectKey, Reference};
use uuid::Uuid;

use super::{Finding, FindingKind, ScrubOptions, ScrubWatch, Tally};
use crate::fault::Fault;
use crate::fixture::{GRACE, World, bytes, repository, sha256, sha512, sized, streamed};
use crate::{BlobReadError, ManifestPutError, ManifestReadError};

const OPTIONS: ScrubOptions = ScrubOptions { rate: 0, orphan_age: Duration::from_hours(24), delete_orphans: false };

async fn try_scrub(world: &World, options: ScrubOptions) -> (Result<Tally, Fault>, Vec<Finding>) {
    let (watch, mut found) = ScrubWatch::new();
    let pass = async {
        let watch = watch; // dropped at the end, which ends the findings
        world.registry.scrub(&options, &watch).await
    };
    let listen = async {
        let mut findings = Vec::new();
        while let Some(finding) = found.recv().await {
            findings.push(finding);
        }
        findings
    };
    tokio::join!(pass, listen)
}

/// What a pass finds: kinds, digests and keys.
async fn scrub(world: &World) -> (Tally, Vec<(FindingKind, Option<Digest>)>) {
    let (tally, findings) = try_scrub(world, OPTIONS).await;
    (tally.expect("a whole pass"), findings.into_iter().map(|finding| (finding.kind, finding.digest)).collect())
}

async fn push(world: &World, name: &str, content: &[u8]) -> Digest {
    let digest = sha256(content);
    world.registry.upload_blob(&repository(name), digest, sized(content)).await.expect("pushed");
    digest
}

fn key_of(world: &World, digest: &Digest) -> ObjectKey {
    world.registry.metadata().query().unwrap().object_key(false, digest).unwrap().expect("the blob has an object")
}

async fn is_held(world: &World, name: &str, digest: &Digest) -> bool {
    match world.registry.find_blob(&repository(name), digest).await {
        Ok(_) => true,
        Err(BlobReadError::Unknown) => false,
        Err(BlobReadError::Fault(fault)) => panic!("{fault}"),
    }
}

async fn overwrite(world: &World, key: &ObjectKey, content: &[u8]) {
    world.store.inner().put(key, Bytes::copy_from_slice(content)).await.unwrap();
}

fn manifest(padding: usize) -> Manifest {
    let json = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"padding":"{}"}}}}"#, "x".repeat(padding));
    Manifest::parse(Some(&MediaType::OCI_INDEX), json.into()).expect("an index")
}

async fn put(world: &World, manifest: &Manifest) -> Result<(), ManifestPutError> {
    let tag: Reference = "v1".parse().unwrap();
    let none = Precondition::None;
    world.registry.put_manifest(&repository("app"), &tag, &[], none, manifest).await.map(|_stored| ())
}

#[tokio::test]
async fn what_is_as_it_should_be_is_read_to_its_last_byte_and_left_alone() {
    let world = World::new().await;
    for size in [0, 1, 999, 5_000] {
        push(&world, "app", &bytes(size)).await;
    }
    let long = bytes(3_000);
    world.registry.upload_blob(&repository("app"), sha512(&long), sized(&long)).await.unwrap();
    let (small, large) = (manifest(10), manifest(100_000));
    put(&world, &small).await.unwrap();
    put(&world, &large).await.unwrap();
    // Parts, a tail, and keys that wait to be used.
    let upload = world.registry.start_upload(&repository("app"), false).await.unwrap();
    world.registry.append_upload(&repository("app"), upload, streamed(&bytes(2_500))).await.unwrap();
    world.clock.advance(Duration::from_hours(25));

    let (tally, findings) = scrub(&world).await;
    assert_eq!(findings, []);
    let total = 6_000 + 3_000 + small.bytes().len() + large.bytes().len();
    let expected = Tally { percent: 100, contents: 7, bytes: total as u64, ..Tally::default() };
    assert_eq!(tally, expected);
    assert!(tally.is_sound());
}

#[tokio::test]
async fn a_damaged_or_missing_blob_is_set_aside_and_a_push_mends_it_for_all() {
    let content = bytes(5_000);
    let mut flipped = content.clone();
    flipped[4_321] ^= 1;
    for damage in [Some(&flipped[..]), Some(&content[..4_999]), Some(&[&content[..], b"x"].concat()), None] {
        let world = World::new().await;
        let digest = push(&world, "app", &content).await;
        push(&world, "other", &content).await;
        let sound = push(&world, "app", b"sound").await;
        let key = key_of(&world, &digest);
        match damage {
            Some(damaged) => overwrite(&world, &key, damaged).await,
            None => world.store.inner().delete(std::slice::from_ref(&key)).await.unwrap(),
        }
        let kind = if damage.is_some() { FindingKind::Damaged } else { FindingKind::Missing };
        for pass in ["it is found", "and found again"] {
            let (tally, findings) = scrub(&world).await;
            assert_eq!(findings, [(kind, Some(digest))], "{pass}");
            assert!(!tally.is_sound());
            assert_eq!(tally.contents, 2);
        }
        assert!(!is_held(&world, "app", &digest).await && !is_held(&world, "other", &digest).await);
        assert!(is_held(&world, "app", &sound).await);
        let mounted = world.registry.mount_blob(&crate::Identity::Anonymous, &repository("third"), digest, None).await;
        assert!(!mounted.unwrap(), "what is damaged does not spread");

        push(&world, "app", &content).await;
        assert_eq!(world.pull(&repository("other"), digest).await, content);
        assert_eq!(scrub(&world).await.1, []);
        world.registry.sweep().await.unwrap();
        assert_eq!(world.store.head(&key).await.unwrap().is_some(), damage.is_some(), "nothing is deleted by itself");
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_set_aside_and_a_push_mends_it() {
    let world = World::new().await;
    let large = manifest(100_000);
    put(&world, &large).await.unwrap();
    let digest = sha256(large.bytes());
    let query = world.registry.metadata().query().unwrap();
    let Some(ManifestContent::Object(key)) = query.manifest_content(false, &repository("app"), &digest).unwrap() else {
        panic!("a large manifest is an object")
    };
    drop(query);
    overwrite(&world, &key, &bytes(large.bytes().len())).await;
    assert_eq!(scrub(&world).await.1, [(FindingKind::Damaged, Some(digest))]);
    let by_tag = "v1".parse().unwrap();
    let found = world.registry.find_manifest(&repository("app"), &by_tag).await;
    assert!(matches!(found, Err(ManifestReadError::Unknown)));
    put(&world, &large).await.unwrap();
    let found = world.registry.find_manifest(&repository("app"), &by_tag).await.unwrap();
    assert_eq!(world.registry.read_manifest(&found).await.unwrap(), large.bytes());
    assert_eq!(scrub(&world).await.1, []);
}

#[tokio::test]
async fn a_manifest_that_is_damaged_in_the_state_is_mended_by_a_push_too() {
    let world = World::new().await;
    let small = manifest(10);
    let digest = Hasher::digest(Algorithm::Sha256, small.bytes());
    let wrong = PutManifest::new(
        digest,
        NewManifest {
            repository: repository("app"),
            media_type: small.media_type().to_string(),
            size: small.bytes().len() as u64,
            content: ManifestContent::Inline(Bytes::from_static(b"{}")),
            blobs: Vec::new(),
            referrer: None,
            tags: vec!["v1".parse().unwrap()],
            precondition: Precondition::None,
            sparse: false,
        },
    );
    let digest = wrong.digest();
    world.registry.propose(wrong).await.unwrap().unwrap();
    assert_eq!(scrub(&world).await.1, [(FindingKind::Damaged, Some(digest))]);
    put(&world, &small).await.unwrap();
    let found = world.registry.find_manifest(&repository("app"), &"v1".parse().unwrap()).await.unwrap();
    assert_eq!(world.registry.read_manifest(&found).await.unwrap(), small.bytes());
    assert_eq!(scrub(&world).await.1, []);
}

#[tokio::test]
async fn what_is_sound_again_is_served_again() {
    let world = World::new().await;
    let content = bytes(3_000);
    let digest = push(&world, "app", &content).await;
    let key = key_of(&world, &digest);
    overwrite(&world, &key, &bytes(3_001)).await;
    scrub(&world).await;
    overwrite(&world, &key, &content).await;
    let (tally, findings) = scrub(&world).await;
    assert_eq!(findings, [(FindingKind::Released, Some(digest))]);
    assert!(tally.is_sound() && tally.released == 1);
    assert_eq!(world.pull(&repository("app"), digest).await, content);
}

#[tokio::test]
async fn one_bad_read_is_no_damage() {
    let world = World::new().await;
    let digest = push(&world, "app", &bytes(3_000)).await;
    for fault in [
        StoreFault::Flip(2_000),
        StoreFault::Truncate(10),
        StoreFault::Cut(10),
        StoreFault::Fail(Moment::Before, BlobError::NotFound),
    ] {
        world.store.inject(Operation::Get, fault);
        let (tally, findings) = scrub(&world).await;
        assert_eq!((tally.contents, findings), (1, vec![]));
    }
    assert!(is_held(&world, "app", &digest).await);
}

#[tokio::test]
async fn what_the_store_fails_to_read_is_told_of_and_stays_and_a_store_that_is_away_ends_the_pass() {
    let world = World::new().await;
    let away = || StoreFault::Fail(Moment::Before, BlobError::Unavailable("away".into()));
    let digests = [push(&world, "app", b"1").await, push(&world, "app", b"2").await];
    world.store.inject(Operation::Get, away());
    world.store.inject(Operation::Get, away());
    let (tally, findings) = scrub(&world).await;
    assert_eq!(findings.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [FindingKind::Unreadable]);
    assert!(!tally.is_sound() && tally.contents == 2);

    for number in 3..20_u8 {
        push(&world, "app", &[number]).await;
    }
    for _ in 0..100 {
        world.store.inject(Operation::Head, away());
    }
    let (tally, findings) = try_scrub(&world, OPTIONS).await;
    assert!(matches!(tally, Err(Fault::Blobs(BlobError::Unavailable(_)))));
    assert_eq!(findings.len(), 10);
    for digest in digests {
        assert!(is_held(&world, "app", &digest).await, "nothing is set aside for a store that is away");
    }
}

#[tokio::test]
async fn what_is_collected_while_it_is_looked_at_is_no_damage() {
    let world = World::new().await;
    let digest = push(&world, "app", &bytes(3_000)).await;
    let gate = Gate::default();
    world.store.inject(Operation::Head, StoreFault::Hang(Moment::Before, gate.clone()));
    let meanwhile = async {
        gate.reached().await;
        world.registry.delete_blob(&repository("app"), digest).await.unwrap();
        for later in [GRACE, Duration::from_hours(3)] {
            world.clock.advance(later + Duration::from_secs(1));
            world.registry.sweep().await.unwrap();
        }
        assert_eq!(world.objects_after_sweep().await, [""; 0]);
        gate.open();
    };
    let ((_, findings), ()) = tokio::join!(scrub(&world), meanwhile);
    assert_eq!(findings, []);
}

#[tokio::test]
async fn what_is_deleted_and_pushed_again_while_it_is_looked_at_is_no_damage() {
    let world = World::new().await;
    let content = bytes(3_000);
    let digest = push(&world, "app", &content).await;
    let first = key_of(&world, &digest);
    overwrite(&world, &first, b"damaged").await;
    let gate = Gate::default();
    world.store.inject(Operation::Head, StoreFault::Hang(Moment::After, gate.clone()));
    let meanwhile = async {
        gate.reached().await;
        world.registry.delete_blob(&repository("app"), digest).await.unwrap();
        world.clock.advance(GRACE + Duration::from_secs(1));
        world.registry.sweep().await.unwrap();
        push(&world, "app", &content).await;
        assert_ne!(key_of(&world, &digest), first);
        gate.open();
    };
    let ((_, findings), ()) = tokio::join!(scrub(&world), meanwhile);
    assert_eq!(findings, []);
    assert_eq!(world.pull(&repository("app"), digest).await, content);
}

#[tokio::test]
async fn an_object_that_no_fact_knows_is_told_of_when_it_is_old_and_deleted_only_when_asked() {
    let world = World::new().await;
    push(&world, "app", b"sound").await;
    let orphans = [ObjectKey::blob(Uuid::from_u128(7)), ObjectKey::manifest(sha256(b"lost"), Uuid::from_u128(8))];
    for key in &orphans {
        overwrite(&world, key, b"lost").await;
    }
    assert_eq!(scrub(&world).await.1, [], "it may be on its way");
    world.clock.advance(Duration::from_hours(24));
    let (tally, findings) = try_scrub(&world, OPTIONS).await;
    let mut keys: Vec<_> = findings.into_iter().map(|finding| (finding.kind, finding.key.unwrap())).collect();
    keys.sort();
    assert_eq!(keys, orphans.clone().map(|key| (FindingKind::Orphan, key)));
    let tally = tally.unwrap();
    assert!(tally.is_sound() && (tally.orphans, tally.orphan_bytes, tally.condemned) == (2, 8, 0));
    assert_eq!(world.objects_after_sweep().await.len(), 3, "told of, and left where it is");

    let (tally, _) = try_scrub(&world, ScrubOptions { delete_orphans: true, ..OPTIONS }).await;
    assert_eq!(tally.unwrap().condemned, 2);
    assert_eq!(world.objects_after_sweep().await.len(), 1);
    assert_eq!(scrub(&world).await.1, []);
}

#[tokio::test]
async fn what_the_janitor_deletes_while_it_is_listed_is_no_orphan() {
    let world = World::new().await;
    let digest = push(&world, "app", b"short lived").await;
    world.registry.delete_blob(&repository("app"), digest).await.unwrap();
    world.clock.advance(GRACE + Duration::from_secs(1));
    world.registry.sweep().await.unwrap();
    world.clock.advance(Duration::from_hours(25));
    let gate = Gate::default();
    world.store.inject(Operation::List, StoreFault::Hang(Moment::After, gate.clone()));
    let meanwhile = async {
        gate.reached().await;
        while world.registry.sweep().await.unwrap().objects > 0 {}
        gate.open();
    };
    let ((_, findings), ()) = tokio::join!(scrub(&world), meanwhile);
    assert_eq!(findings, []);
}

#[tokio::test]
async fn a_pass_outlives_a_store_that_is_away_for_a_moment() {
    let world = World::new().await;
    push(&world, "app", b"sound").await;
    overwrite(&world, &ObjectKey::blob(Uuid::from_u128(7)), b"lost").await;
    world.clock.advance(Duration::from_hours(24));
    for _ in 0..5 {
        world.store.inject(Operation::List, StoreFault::Fail(Moment::Before, BlobError::Unavailable("away".into())));
    }
    assert_eq!(scrub(&world).await.1, [(FindingKind::Orphan, None)]);
}

#[tokio::test]
async fn a_pass_takes_the_time_that_its_rate_gives_it() {
    let world = World::new().await;
    push(&world, "app", &bytes(500_000)).await;
    let began = tokio::time::Instant::now();
    try_scrub(&world, ScrubOptions { rate: 1_000_000, ..OPTIONS }).await.0.unwrap();
    // Half a second, less what may be read at once.
    assert!(began.elapsed() >= Duration::from_millis(390), "{:?}", began.elapsed());
}

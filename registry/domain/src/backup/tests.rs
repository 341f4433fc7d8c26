//! Shipping, pruning and restoring, through a store that fails.

use std::sync::Arc;

use bytes::Bytes;
use roadstead_blobs::{BlobError, Fault as StoreFault, Moment, ObjectStore as _, Operation};
use roadstead_metadata::Until;
use roadstead_oci::{Manifest, MediaType, ObjectKind, Page};

use super::*;
use crate::fixture::{self, BACKUP_INTERVAL, World, bytes, repository, sha256, sized};
use crate::{Identity, Precondition};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Pushes an image of this number: a layer, a config and a manifest, tagged with the number.
async fn push(world: &World, number: usize) {
    let (name, layer) = (repository("app"), bytes(100 + number));
    for blob in [b"{}".as_slice(), &layer] {
        world.registry.upload_blob(&name, sha256(blob), sized(blob)).await.expect("pushed");
    }
    let descriptor =
        |content: &[u8]| format!(r#"{{"mediaType":"x/y","digest":"{}","size":{}}}"#, sha256(content), content.len());
    let json = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, descriptor(b"{}"), descriptor(&layer));
    let manifest = Manifest::parse(Some(&MediaType::OCI_MANIFEST), json.into()).expect("a manifest");
    let tag = format!("v{number}").parse().expect("a tag");
    world.registry.put_manifest(&name, &tag, &[], Precondition::None, &manifest).await.expect("stored");
}

/// Everything that a client sees: each tag with its manifest's bytes, and the names of all layers' bytes.
async fn seen(world: &World) -> Vec<(String, Bytes)> {
    let everything = Page { n: Some(1_000), last: None };
    let mut seen = Vec::new();
    for name in world.registry.list_repositories(&Identity::Anonymous, &everything).await.expect("listed").entries {
        for tag in world.registry.list_tags(&name, &everything).await.expect("listed").entries {
            let found = world.registry.find_manifest(&name, &tag.to_string().parse().unwrap()).await.expect("found");
            let manifest = world.registry.read_manifest(&found).await.expect("read");
            seen.push((format!("{name}:{tag}"), manifest));
        }
    }
    seen
}

async fn assert_pulls(world: &World, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        let layer = bytes(100 + number);
        assert_eq!(world.pull(&repository("app"), sha256(&layer)).await, layer);
    }
}

async fn ship_all(world: &World) -> Result<Shipped, ShipError> {
    loop {
        let shipped = world.registry.ship().await?;
        if !shipped.more {
            return Ok(shipped);
        }
    }
}

fn sequence(world: &World) -> u64 {
    world.registry.metadata().query().unwrap().position().unwrap().sequence
}

async fn restore_to(world: &World, until: Until) -> Result<(World, Restored), RestoreError> {
    restore_from(world, None, until).await
}

/// What a registry has shipped, even if the store was restored into another one since.
async fn restore_own(world: &World, until: Until) -> Result<(World, Restored), RestoreError> {
    let history = world.registry.metadata().query().unwrap().history().unwrap().unwrap().id;
    restore_from(world, Some(history), until).await
}

async fn restore_from(
    world: &World,
    history: Option<uuid::Uuid>,
    until: Until,
) -> Result<(World, Restored), RestoreError> {
    let folder = fixture::folder();
    let options = RestoreOptions { folder: folder.path().join("metadata"), history, until };
    let restored = restore(Arc::clone(&world.store) as _, &world.ports(), &options, |_| ()).await?;
    Ok((world.beside(folder).await, restored))
}

/// Restored elsewhere, as if the data folder were lost: the original goes on as long as the test has it.
async fn restored(world: &World) -> World {
    let (restored, told) = restore_to(world, Until::End).await.expect("restored");
    assert_eq!(told.stopped, None);
    restored.registry.claim_store().await.expect("the store is the restored one's");
    restored
}

async fn keys(world: &World, wanted: fn(ObjectKind) -> bool) -> usize {
    let page = world.store.inner().list("meta/", None).await.expect("a listing");
    page.items.iter().filter(|object| wanted(object.key.kind())).count()
}

fn is_segment(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::LogSegment { .. })
}

fn is_snapshot(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Snapshot { .. })
}

fn away() -> StoreFault {
    StoreFault::Fail(Moment::Before, BlobError::Unavailable("injected".into()))
}

#[tokio::test]
async fn what_was_shipped_is_restored_with_or_without_a_snapshot() {
    for snapshot_at in [None, Some(1), Some(3)] {
        let world = World::with_backup(Some(DAY)).await;
        world.registry.claim_store().await.unwrap();
        for number in 1..=3 {
            push(&world, number).await;
            ship_all(&world).await.unwrap();
            if snapshot_at == Some(number) {
                let taken = world.registry.take_snapshot().await.unwrap();
                assert_eq!(taken.place.position.sequence, sequence(&world));
            }
        }
        let shipped = world.registry.shipped().unwrap();
        assert_eq!(shipped.place.unwrap().position.sequence, sequence(&world));
        assert_eq!(world.registry.backup_lag(), Duration::ZERO);
        let anew = restored(&world).await;
        assert_eq!(seen(&anew).await, seen(&world).await);
        assert_pulls(&anew, 1..=3).await;
        assert_eq!(sequence(&anew), sequence(&world));
    }
}

#[tokio::test]
async fn a_restore_goes_back_to_an_earlier_sequence_or_time() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    let mut stages = Vec::new();
    for number in 1..=4 {
        push(&world, number).await;
        let time = world.registry.metadata().query().unwrap().time().unwrap();
        stages.push((sequence(&world), time, seen(&world).await));
        if number % 2 == 0 {
            ship_all(&world).await.unwrap();
            world.registry.take_snapshot().await.unwrap();
        }
        world.clock.advance(HOUR);
    }
    for (sequence, time, expected) in stages {
        for until in [Until::Sequence(sequence), Until::Time(LogTime(time.0 + 1))] {
            let (anew, told) = restore_own(&world, until).await.unwrap();
            assert_eq!((told.from.position.sequence, told.stopped), (sequence, None), "{until:?}");
            assert_eq!(seen(&anew).await, expected, "{until:?}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_due_after_the_interval_if_anything_has_changed() {
    let mut world = World::with_backup(Some(DAY)).await;
    let is_due = async |world: &World| world.registry.snapshot_is_due().await.unwrap();
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    ship_all(&world).await.unwrap();
    assert!(!is_due(&world).await, "it has just begun");
    world.clock.advance(BACKUP_INTERVAL + HOUR);
    assert!(is_due(&world).await);
    let taken = world.registry.take_snapshot().await.unwrap();
    assert_eq!(world.registry.newest_snapshot(), Some(taken.clone()));
    world.clock.advance(BACKUP_INTERVAL + HOUR);
    assert!(!is_due(&world).await, "nothing has changed");
    push(&world, 2).await;
    ship_all(&world).await.unwrap();
    assert!(is_due(&world).await);

    // Another process finds when the newest one was taken.
    let taken = world.registry.take_snapshot().await.unwrap();
    world.restart();
    world.registry.claim_store().await.unwrap();
    push(&world, 3).await;
    ship_all(&world).await.unwrap();
    assert_eq!(world.registry.newest_snapshot(), None);
    assert!(!is_due(&world).await, "there is one of a moment ago");
    assert_eq!(world.registry.newest_snapshot(), Some(taken));
}

#[tokio::test]
async fn a_snapshot_that_could_not_be_written_is_told_until_one_is() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    ship_all(&world).await.unwrap();
    assert!(!world.registry.snapshot_failed());
    world.store.inject(Operation::CreateMultipart, away());
    world.registry.take_snapshot().await.expect_err("the store is away");
    assert!(world.registry.snapshot_failed());
    world.registry.take_snapshot().await.expect("the store is back");
    assert!(!world.registry.snapshot_failed());
}

/// A process that dies, or is cut off, at any call to the store, before or after that had its effect.
#[tokio::test]
async fn a_crash_between_any_two_steps_loses_nothing_that_was_shipped() {
    let operations = [
        Operation::Put,
        Operation::PutNew,
        Operation::List,
        Operation::Get,
        Operation::CreateMultipart,
        Operation::PutPart,
        Operation::Complete,
        Operation::Abort,
        Operation::Delete,
    ];
    let mut met = 0;
    for operation in operations {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::with_backup(Some(HOUR)).await;
            push(&world, 1).await;
            world.store.inject(operation, StoreFault::Fail(moment, BlobError::Unavailable("injected".into())));
            for number in 2..=5 {
                let step = async {
                    world.registry.claim_store().await.ok()?;
                    ship_all(&world).await.ok()?;
                    world.registry.take_snapshot().await.ok()?;
                    world.registry.prune_backup().await.ok()
                };
                if step.await.is_none() {
                    met += 1;
                    world.restart();
                }
                push(&world, number).await;
                world.clock.advance(HOUR);
            }
            world.registry.claim_store().await.unwrap();
            ship_all(&world).await.unwrap();
            let anew = restored(&world).await;
            assert_eq!(seen(&anew).await, seen(&world).await, "{operation:?} {moment:?}");
        }
    }
    assert!(met >= 12, "the faults were met: {met}");
}

#[tokio::test]
async fn while_the_store_is_away_entries_wait_and_so_do_deletions() {
    let world = World::with_backup(Some(HOUR)).await;
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    ship_all(&world).await.unwrap();
    let content = b"garbage";
    world.registry.upload_blob(&repository("app"), sha256(content), sized(content)).await.unwrap();
    let objects = async |world: &World| world.store.inner().list("blobs/", None).await.unwrap().items.len();
    let before = objects(&world).await;

    // Collected, retired, and old enough for everybody: but the store has not been told that it is.
    for _ in 0..3 {
        world.clock.advance(DAY);
        world.store.inject(Operation::Put, away());
        world.registry.ship().await.expect_err("the store is away");
        world.registry.sweep().await.unwrap();
    }
    assert_eq!(objects(&world).await, before);
    assert!(world.registry.shipped().unwrap().place.unwrap().position.sequence < sequence(&world));

    ship_all(&world).await.unwrap();
    world.registry.sweep().await.unwrap();
    assert_eq!(objects(&world).await, before - 1, "shipped, and no restore goes back so far");
    let anew = restored(&world).await;
    assert_eq!(seen(&anew).await, seen(&world).await);
}

#[tokio::test]
async fn what_a_restore_can_name_is_not_deleted() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    let before = sequence(&world);
    let manifest = sha256(&seen(&world).await[0].1).to_string();
    world.registry.delete_manifest(&repository("app"), &manifest.parse().unwrap()).await.unwrap();
    for _ in 0..4 {
        world.clock.advance(fixture::GRACE + Duration::from_secs(1));
        ship_all(&world).await.unwrap();
        world.registry.sweep().await.unwrap();
    }
    world.registry.find_blob(&repository("app"), &sha256(&bytes(101))).await.expect_err("nothing names it");
    world.clock.advance(21 * HOUR);
    ship_all(&world).await.unwrap();
    world.registry.sweep().await.unwrap();
    let (anew, _) = restore_to(&world, Until::Sequence(before)).await.unwrap();
    anew.registry.claim_store().await.unwrap();
    assert_pulls(&anew, [1]).await;

    // Nor is anything, for a while, that the restore has left out and another one may want.
    push(&anew, 2).await;
    ship_all(&anew).await.unwrap();
    let objects = async |world: &World| world.store.inner().list("blobs/", None).await.unwrap().items.len();
    let kept = objects(&anew).await;
    for _ in 0..5 {
        anew.clock.advance(3 * HOUR);
        ship_all(&anew).await.unwrap();
        anew.registry.sweep().await.unwrap();
    }
    assert_eq!(objects(&anew).await, kept);
    assert_pulls(&anew, [1, 2]).await;
}

#[tokio::test]
async fn a_torn_segment_ends_a_restore_before_it_and_is_told() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    let mut expected = Vec::new();
    for number in 1..=3 {
        push(&world, number).await;
        ship_all(&world).await.unwrap();
        expected.push(seen(&world).await);
    }
    let page = world.store.inner().list("meta/", None).await.unwrap();
    let segments: Vec<_> = page.items.into_iter().filter(|object| is_segment(object.key.kind())).collect();
    let last = segments.last().unwrap();
    let whole = marker::read(world.store.inner(), &last.key, last.size).await.unwrap();
    world.store.inner().put(&last.key, whole.slice(..whole.len() / 2)).await.unwrap();
    let (anew, told) = restore_to(&world, Until::End).await.unwrap();
    assert_eq!(seen(&anew).await, expected[1]);
    assert!(told.stopped.unwrap().contains(last.key.as_str()));
}

#[tokio::test]
async fn a_damaged_snapshot_is_replaced_by_an_older_one_and_the_log() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    let mut newest = None;
    for number in 1..=2 {
        push(&world, number).await;
        ship_all(&world).await.unwrap();
        newest = Some(world.registry.take_snapshot().await.unwrap());
    }
    let SnapshotTaken { key, size, .. } = newest.unwrap();
    let mut damaged = marker::read(world.store.inner(), &key, size).await.unwrap().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    world.store.inner().put(&key, damaged.into()).await.unwrap();
    let anew = restored(&world).await;
    assert_eq!(seen(&anew).await, seen(&world).await);
}

/// A folder that was restored has no log behind it: a snapshot closes the gap.
#[tokio::test]
async fn a_restored_registry_ships_a_history_of_its_own() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    ship_all(&world).await.unwrap();
    let kept_before = kept(world.store.inner()).await.unwrap();
    assert!(kept_before.len() == 1 && kept_before[0].is_current && kept_before[0].snapshots.is_empty());

    let second = restored(&world).await;
    push(&second, 2).await;
    ship_all(&second).await.unwrap();
    assert_eq!(keys(&second, is_snapshot).await, 1, "the log begins behind what was restored");
    let third = restored(&second).await;
    assert_eq!(seen(&third).await, seen(&second).await);
    // The store still has the first history, until that is older than a restore goes back.
    push(&third, 3).await;
    ship_all(&third).await.unwrap();
    assert_eq!(kept(third.store.inner()).await.unwrap().len(), 3);
    third.clock.advance(DAY + HOUR);
    third.registry.prune_backup().await.unwrap();
    let left = kept(third.store.inner()).await.unwrap();
    assert_eq!(left.iter().map(|history| history.is_current).collect::<Vec<_>>(), [true]);
    let fourth = restored(&third).await;
    assert_eq!(seen(&fourth).await, seen(&third).await);
}

#[tokio::test]
async fn a_restore_that_has_shipped_nothing_yet_is_restored_from_its_parent() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    let first = sequence(&world);
    let expected = seen(&world).await;
    push(&world, 2).await;
    ship_all(&world).await.unwrap();
    drop(restore_to(&world, Until::Sequence(first)).await.unwrap());
    let again = restored(&world).await;
    assert_eq!(seen(&again).await, expected, "what was left out stays out");
    let (_, told) = restore_to(&again, Until::Sequence(first + 1)).await.unwrap();
    assert_eq!(told.from.position.sequence, first);
    assert!(told.stopped.unwrap().contains("--history"), "how to get what was left out is told");
}

#[tokio::test]
async fn a_store_belongs_to_one_registry() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    world.registry.claim_store().await.expect("once more");
    push(&world, 1).await;
    ship_all(&world).await.unwrap();

    let stranger = world.beside(fixture::folder()).await;
    let refused = stranger.registry.claim_store().await.unwrap_err();
    assert!(matches!(&refused, ClaimError::Foreign { ours: None, .. }), "{refused}");
    assert!(matches!(stranger.registry.ship().await, Err(ShipError::NotOwner)));

    let successor = restored(&world).await;
    successor.registry.check_store().await.unwrap();
    let fenced = world.registry.check_store().await.unwrap_err();
    assert!(matches!(&fenced, ClaimError::Foreign { ours: Some(_), .. }), "{fenced}");
    assert!(fenced.advice().contains("taken over"), "{}", fenced.advice());
    assert!(matches!(world.registry.ship().await, Err(ShipError::NotOwner)));
    world.registry.claim_store().await.expect_err("nor does it come back");
}

#[tokio::test]
async fn of_two_restores_at_once_one_is_told() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    ship_all(&world).await.unwrap();
    let (one, two) = tokio::join!(restore_to(&world, Until::End), restore_to(&world, Until::End));
    let won = [&one, &two].map(Result::is_ok);
    assert_ne!(won[0], won[1]);
    let lost = one.err().or(two.err()).unwrap();
    assert!(matches!(&lost, RestoreError::Claim(ClaimError::Foreign { .. })), "{lost}");
}

#[tokio::test]
async fn a_folder_that_was_set_back_does_not_ship() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    ship_all(&world).await.unwrap();
    // What an image of the disk has that was taken now: the same history, without what comes next.
    let (earlier, _) = restore_to(&world, Until::End).await.unwrap();
    drop(earlier);
    let shipped = world.registry.shipped().unwrap().entries;
    world.registry.backup.inventory.lock().as_mut().unwrap().next = shipped + 100;
    assert!(matches!(world.registry.ship().await, Err(ShipError::SetBack { .. })));
}

#[tokio::test]
async fn a_backup_keeps_what_a_restore_can_want_and_no_more() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    let mut stages = Vec::new();
    for number in 1..=6 {
        push(&world, number).await;
        ship_all(&world).await.unwrap();
        world.registry.take_snapshot().await.unwrap();
        world.registry.prune_backup().await.unwrap();
        stages.push((sequence(&world), seen(&world).await));
        world.clock.advance(DAY / 2);
    }
    // Half a day and none ago, and one from before the day that a restore can go back.
    assert_eq!(keys(&world, is_snapshot).await, 3);
    assert!(keys(&world, is_segment).await <= 3);
    for (sequence, expected) in &stages[3..] {
        let (anew, _) = restore_own(&world, Until::Sequence(*sequence)).await.unwrap();
        assert_eq!(&seen(&anew).await, expected);
    }
    assert!(matches!(restore_own(&world, Until::Sequence(stages[1].0)).await, Err(RestoreError::TooEarly(_))));
}

#[tokio::test]
async fn nothing_is_restored_over_facts_or_from_nothing() {
    let world = World::with_backup(Some(DAY)).await;
    assert!(matches!(restore_to(&world, Until::End).await, Err(RestoreError::NoBackup(None))));
    world.registry.claim_store().await.unwrap();
    assert!(matches!(restore_to(&world, Until::End).await, Err(RestoreError::NoBackup(Some(_)))));
    ship_all(&world).await.unwrap();
    let options = RestoreOptions { folder: world.folder.path().join("metadata"), history: None, until: Until::End };
    let refused = restore(Arc::clone(&world.store) as _, &world.ports(), &options, |_| ()).await;
    assert!(matches!(refused, Err(RestoreError::NotEmpty(_))));
}

#[tokio::test]
async fn what_facts_name_and_the_store_has_not_is_told() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    push(&world, 1).await;
    ship_all(&world).await.unwrap();
    let blobs = world.store.inner().list("blobs/", None).await.unwrap().items;
    let lost = blobs.last().unwrap().key.clone();
    world.store.inner().delete(std::slice::from_ref(&lost)).await.unwrap();
    let (_, told) = restore_to(&world, Until::End).await.unwrap();
    assert_eq!(told.missing, Missing { named: blobs.len() as u64, missing: 1, keys: vec![lost] });
}

#[tokio::test]
async fn a_recovery_that_was_cut_off_goes_on_and_keeps_what_it_finds() {
    let world = World::with_backup(Some(DAY)).await;
    world.registry.claim_store().await.unwrap();
    for number in 1..=3 {
        push(&world, number).await;
    }
    let layers: Vec<_> = (1..=3).map(|number| bytes(100 + number)).collect();
    let place = fixture::folder();
    let folder = place.path().join("metadata");
    let ports = world.ports();
    let attempt = || recover(Arc::clone(&world.store) as _, &ports, &folder, |_| ());
    // Right after the folder was made: the first listing is that of the markers, which a cut of streams lets pass.
    world.store.inject(Operation::List, StoreFault::Cut(0));
    world.store.inject(Operation::List, away());
    attempt().await.expect_err("cut off");
    // And in the middle of the blobs.
    world.store.inject(Operation::Get, away());
    attempt().await.expect_err("cut off");
    let told = attempt().await.unwrap();
    assert_eq!((told.blobs, told.inventories, told.lost), (4, 1, Vec::new()), "three layers and a config");
    attempt().await.expect_err("there are facts now");

    let anew = world.beside(place).await;
    anew.registry.check_store().await.expect("it has taken the store over");
    anew.clock.advance(10 * DAY);
    for _ in 0..4 {
        anew.clock.advance(DAY);
        ship_all(&anew).await.unwrap();
        anew.registry.sweep().await.unwrap();
    }
    for layer in layers {
        assert_eq!(anew.pull(&repository("recovered"), sha256(&layer)).await, layer);
    }
}

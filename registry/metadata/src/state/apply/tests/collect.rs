use roadstead_oci::ObjectKey;

use crate::fixtures::{World, digest, key, new_manifest, repository, verified};
use crate::{
    CollectBlobs, Collected, DeleteManifest, KeyState, LinkBlob, LogTime, MountBlob, NewManifest, PutManifest,
    ReserveKeys, TouchBlob, TouchBlobRefused, UnlinkBlob,
};

/// Far longer than the time that passes with each command.
const GRACE: u64 = 1_000_000;

/// Repository 1 holds blob 1.
fn world() -> World {
    let mut world = World::new();
    world.propose(ReserveKeys { keys: (1..=9).map(key).collect() }).unwrap();
    world.propose(LinkBlob::new(repository(1), verified(1), 5, key(1), None)).unwrap();
    world
}

fn collect(world: &mut World) -> (u32, u32) {
    let before = LogTime(world.now.saturating_sub(GRACE));
    let Ok(Collected { unlinked, condemned }) = world.propose(CollectBlobs { before, limit: 10 });
    (unlinked, condemned)
}

fn later(world: &mut World, by: u64) {
    world.now += by;
}

fn image_of_blob_1() -> PutManifest {
    PutManifest::new(verified(2), NewManifest { blobs: vec![digest(1)], ..new_manifest(1) })
}

fn deletable(world: &World, before: u64) -> Vec<ObjectKey> {
    world.query().retired(LogTime(before), 9).unwrap()
}

#[test]
fn p7_a_blob_that_nothing_names_goes_after_two_graces_and_its_object_is_retired() {
    let mut world = world();
    assert_eq!(collect(&mut world), (0, 0));
    later(&mut world, GRACE + 1);
    assert_eq!(collect(&mut world), (1, 0));
    assert_eq!(world.query().blob(&repository(1), &digest(1)).unwrap(), None);
    assert_eq!(collect(&mut world), (0, 0), "the object has a grace of its own");
    later(&mut world, GRACE + 1);
    assert_eq!(collect(&mut world), (0, 1));
    assert_eq!(world.query().key_state(&key(1)).unwrap(), Some(KeyState::Condemned));
    assert_eq!(deletable(&world, world.now), []);
    assert_eq!(deletable(&world, world.now + 1), [key(1)]);
    assert_eq!(world.query().condemned(LogTime(u64::MAX), 9).unwrap(), [], "a backup may name it");
    assert_eq!(deletable(&world, u64::MAX), [key(1)]);
}

#[test]
fn p7_a_blob_that_a_manifest_names_stays_and_its_lease_begins_when_that_goes() {
    let mut world = world();
    world.propose(image_of_blob_1()).unwrap();
    later(&mut world, 10 * GRACE);
    assert_eq!(collect(&mut world), (0, 0));
    world.propose(DeleteManifest { repository: repository(1), digest: digest(2) }).unwrap();
    later(&mut world, GRACE - 1);
    assert_eq!(collect(&mut world), (0, 0));
    later(&mut world, 2);
    assert_eq!(collect(&mut world), (1, 0));
}

#[test]
fn p7_a_touch_a_push_and_a_mount_renew_the_lease() {
    for renew in 0..3 {
        let mut world = world();
        later(&mut world, GRACE);
        match renew {
            0 => world.propose(TouchBlob { repository: repository(1), digest: digest(1) }).unwrap(),
            1 => drop(world.propose(LinkBlob::new(repository(1), verified(1), 5, key(2), None)).unwrap()),
            _ => {
                let (from, to) = (repository(1), repository(1));
                world.propose(MountBlob { repository: to, digest: digest(1), from }).unwrap();
            }
        }
        later(&mut world, GRACE - 1);
        assert_eq!(collect(&mut world), (0, 0), "renewed by {renew}");
        later(&mut world, 2);
        assert_eq!(collect(&mut world), (1, 0));
        let touch = TouchBlob { repository: repository(1), digest: digest(1) };
        assert_eq!(world.propose(touch), Err(TouchBlobRefused::BlobUnknown));
    }
}

#[test]
fn p7_a_blob_that_is_pushed_again_in_its_last_grace_keeps_its_object() {
    let mut world = world();
    world.propose(UnlinkBlob { repository: repository(1), digest: digest(1) }).unwrap();
    later(&mut world, GRACE);
    world.propose(LinkBlob::new(repository(2), verified(1), 5, key(2), None)).unwrap();
    later(&mut world, GRACE);
    assert_eq!(collect(&mut world), (0, 0));
    assert_eq!(world.query().key_state(&key(1)).unwrap(), Some(KeyState::Linked));
}

#[test]
fn p7_after_its_object_was_condemned_a_blob_gets_a_new_one() {
    let mut world = world();
    world.propose(UnlinkBlob { repository: repository(1), digest: digest(1) }).unwrap();
    later(&mut world, GRACE + 1);
    assert_eq!(collect(&mut world), (0, 1));
    world.propose(LinkBlob::new(repository(1), verified(1), 5, key(2), None)).unwrap();
    assert_eq!(world.query().blob(&repository(1), &digest(1)).unwrap().unwrap().key, key(2));
    assert_eq!(deletable(&world, u64::MAX), [key(1)]);
}

#[test]
fn one_entry_collects_no_more_than_its_limit() {
    let mut world = world();
    for number in 2..=5 {
        world.propose(LinkBlob::new(repository(1), verified(number), 5, key(number), None)).unwrap();
    }
    later(&mut world, GRACE + 1);
    let before = LogTime(world.now - GRACE);
    let mut unlinked = Vec::new();
    for _ in 0..3 {
        let Ok(collected) = world.propose(CollectBlobs { before, limit: 2 });
        unlinked.push(collected.unlinked);
    }
    assert_eq!(unlinked, [2, 2, 1]);
}

//! Blobs that clients give to a mirror: shown where they were given, for a grace, and held when home holds them.

use crate::fixtures::{World, digest, key, repository, verified};
use crate::{
    AdmitMirror, AdmitWriter, ChangeKind, ClusterId, CollectBlobs, DismissMirror, LandBlob, LandBlobRefused, LinkBlob,
    LogTime, Position, ReceiveChanges, ReceivedChange, ReserveKeys,
};

const HOME: ClusterId = ClusterId(8);

/// A mirror that has heard of home, which has nothing.
fn mirror() -> World {
    let mut world = World::new();
    world.propose(ReceiveChanges { home: HOME, after: Position::default(), changes: Vec::new() }).unwrap();
    world
}

fn upload(world: &mut World, blob: u8) {
    world.propose(ReserveKeys { keys: vec![key(blob)] }).unwrap();
    world.propose(LinkBlob::new(repository(1), verified(blob), 5, key(blob), None)).unwrap();
}

fn land(world: &mut World, blob: u8) -> Result<(), LandBlobRefused> {
    world.propose(LandBlob { repository: repository(1), digest: digest(blob) })
}

fn is_shown(world: &World, repo: u8, blob: u8) -> bool {
    world.query().landed_blob(&repository(repo), &digest(blob)).unwrap().is_some()
}

#[test]
fn p11_what_is_pushed_to_a_mirror_is_shown_in_its_repository_only_and_is_no_change_of_the_feed() {
    let mut world = mirror();
    upload(&mut world, 11);
    assert!(!is_shown(&world, 1, 11), "its upload is not answered yet");
    land(&mut world, 11).unwrap();
    assert!(is_shown(&world, 1, 11) && !is_shown(&world, 2, 11));
    assert_eq!(world.query().blob(&repository(1), &digest(11)).unwrap(), None, "home does not hold it");
    assert_eq!(world.query().position().unwrap().sequence, 0);
    assert_eq!(land(&mut world, 12), Err(LandBlobRefused::BlobUnknown));
}

#[test]
fn p7_what_has_landed_stays_for_a_grace_after_it_was_relied_on_last() {
    let mut world = mirror();
    upload(&mut world, 11);
    land(&mut world, 11).unwrap();
    world.now += 1_000;
    let before = LogTime(world.now);
    world.now += 1_000;
    land(&mut world, 11).unwrap();
    assert!(!world.query().is_garbage_before(before).unwrap());
    assert_eq!(world.propose(CollectBlobs { before, limit: 10 }).unwrap().condemned, 0);
    assert!(is_shown(&world, 1, 11));
    let before = LogTime(world.now + 1);
    assert!(world.query().is_garbage_before(before).unwrap());
    assert_eq!(world.propose(CollectBlobs { before, limit: 10 }).unwrap().condemned, 1);
    assert!(!is_shown(&world, 1, 11) && !world.query().is_garbage_before(before).unwrap());
}

#[test]
fn claim_10_what_home_comes_to_hold_is_held_here_without_being_wanted() {
    let mut world = mirror();
    upload(&mut world, 11);
    land(&mut world, 11).unwrap();
    let kind = ChangeKind::BlobLinked { repository: repository(1), digest: digest(11), size: 5 };
    let position = Position { epoch: 1, sequence: 1 };
    let change = ReceivedChange { position, at: LogTime(1), kind, manifest: None };
    world.propose(ReceiveChanges { home: HOME, after: Position::default(), changes: vec![change] }).unwrap();
    let query = world.query();
    assert!(query.blob(&repository(1), &digest(11)).unwrap().is_some());
    assert_eq!(query.following().unwrap().unwrap().wanted_blobs, 0);
    assert!(!is_shown(&world, 1, 11), "it is home's from now on");
    // What home lets go is not shown as if it had just been pushed.
    let kind = ChangeKind::BlobUnlinked { repository: repository(1), digest: digest(11) };
    let change = ReceivedChange { position: Position { epoch: 1, sequence: 2 }, at: LogTime(2), kind, manifest: None };
    world.propose(ReceiveChanges { home: HOME, after: position, changes: vec![change] }).unwrap();
    assert!(!is_shown(&world, 1, 11));
}

#[test]
fn only_a_token_that_was_minted_for_it_writes() {
    let mut world = World::new();
    let writes = |world: &World, token: u8| world.query().admitted_mirror(&digest(token)).unwrap().unwrap().writes;
    world.propose(AdmitWriter { name: "eu".to_owned(), token: digest(1) }).unwrap();
    world.propose(AdmitMirror { name: "us".to_owned(), token: digest(2) }).unwrap();
    assert!(writes(&world, 1) && !writes(&world, 2));
    let listed = world.query().admitted_mirrors().unwrap();
    assert_eq!(listed.iter().map(|mirror| mirror.writes).collect::<Vec<_>>(), [true, false]);
    // Another token is another grant.
    world.propose(AdmitMirror { name: "eu".to_owned(), token: digest(3) }).unwrap();
    assert!(!writes(&world, 3));
    assert_eq!(world.query().admitted_mirror(&digest(1)).unwrap(), None);
    world.propose(AdmitWriter { name: "us".to_owned(), token: digest(2) }).unwrap();
    assert!(writes(&world, 2));
    assert!(world.propose(DismissMirror { name: "us".to_owned() }).unwrap());
    world.propose(AdmitMirror { name: "us".to_owned(), token: digest(2) }).unwrap();
    assert!(!writes(&world, 2), "a grant goes with its token");
}

use roadstead_oci::ObjectKey;
use uuid::Uuid;

use crate::fixtures::{World, digest, key, new_manifest, put_manifest, repository, tag, verified};
use crate::{
    CollectBlobs, Collected, DeleteManifest, Examined, KeyState, LinkBlob, Linked, LogTime, ManifestContent, MountBlob,
    MountBlobRefused, NewManifest, Precondition, PutManifest, PutManifestRefused, ReserveKeys, SetQuarantine,
    TouchBlob, TouchBlobRefused, UnlinkBlob,
};

/// Far longer than the time that passes with each command.
const GRACE: u64 = 1_000_000;

/// Repositories 1 and 2 hold blob 1, whose object is key 1.
fn world() -> World {
    let mut world = World::new();
    let keys = (1..=9).map(key).chain([manifest_key(1), manifest_key(2)]).collect();
    world.propose(ReserveKeys { keys }).unwrap();
    world.propose(link(1, 1)).unwrap();
    world.propose(MountBlob { repository: repository(2), digest: digest(1), from: repository(1) }).unwrap();
    world
}

fn link(repo: u8, object: u8) -> LinkBlob {
    LinkBlob::new(repository(repo), verified(1), 5, key(object), None)
}

fn manifest_key(number: u8) -> ObjectKey {
    ObjectKey::manifest(digest(2), Uuid::from_u128(number.into()))
}

fn blob(object: u8) -> Examined {
    Examined::Blob { digest: digest(1), key: key(object) }
}

fn set(world: &mut World, examined: Examined, quarantined: bool) -> bool {
    let Ok(changed) = world.propose(SetQuarantine { examined, quarantined });
    changed
}

fn holders(world: &World) -> [bool; 2] {
    [1, 2].map(|number| world.query().blob(&repository(number), &digest(1)).unwrap().is_some())
}

fn collect(world: &mut World) -> (u32, u32) {
    world.now += GRACE + 1;
    let before = LogTime(world.now - GRACE);
    let Ok(Collected { unlinked, condemned }) = world.propose(CollectBlobs { before, limit: 10 });
    (unlinked, condemned)
}

#[test]
fn a_quarantined_blob_looks_as_if_it_were_not_there_and_one_push_mends_it_for_all_who_hold_it() {
    let mut world = world();
    assert!(set(&mut world, blob(1), true));
    assert_eq!(holders(&world), [false, false]);
    let mount = MountBlob { repository: repository(3), digest: digest(1), from: repository(1) };
    assert_eq!(world.propose(mount), Err(MountBlobRefused::BlobUnknown));
    let touch = TouchBlob { repository: repository(1), digest: digest(1) };
    assert_eq!(world.propose(touch), Err(TouchBlobRefused::BlobUnknown));
    let image = PutManifest::new(verified(2), NewManifest { blobs: vec![digest(1)], ..new_manifest(2) });
    assert_eq!(world.propose(image.clone()), Err(PutManifestRefused::BlobsUnknown(vec![digest(1)])));
    assert_eq!(world.query().key_state(&key(1)).unwrap(), Some(KeyState::Linked), "its object stays");

    assert_eq!(world.propose(link(1, 2)), Ok(Linked { deduplicated: false }));
    assert_eq!(holders(&world), [true, true]);
    assert_eq!(world.query().blob(&repository(2), &digest(1)).unwrap().unwrap().key, key(2));
    assert_eq!(world.query().objects(false, None, 9).unwrap()[0].memberships, 2);
    world.propose(image).unwrap();
    assert_eq!(world.query().key_state(&key(1)).unwrap(), None, "the damaged object is nobody's");
    assert_eq!(world.query().condemned(LogTime(u64::MAX), 9).unwrap(), [], "and is not deleted");
    assert_eq!(world.query().retired(LogTime(u64::MAX), 9).unwrap(), [], "later neither");
}

#[test]
fn only_what_was_looked_at_is_quarantined_and_released() {
    let mut world = world();
    assert!(!set(&mut world, blob(2), true), "another object");
    assert!(!set(&mut world, blob(1), false), "it is not quarantined");
    assert!(set(&mut world, blob(1), true));
    assert!(!set(&mut world, blob(1), true), "it is already");
    assert!(set(&mut world, blob(1), false));
    assert_eq!(holders(&world), [true, true]);
    let position = world.query().position().unwrap();
    assert_eq!(position.sequence, 2, "clients see no change of what holds what");
}

#[test]
fn a_quarantined_blob_is_let_go_and_collected_like_any_other() {
    let mut world = world();
    assert!(set(&mut world, blob(1), true));
    world.propose(UnlinkBlob { repository: repository(1), digest: digest(1) }).unwrap();
    assert_eq!(collect(&mut world), (1, 0));
    assert_eq!(collect(&mut world), (0, 1));
    assert_eq!(world.query().key_state(&key(1)).unwrap(), Some(KeyState::Condemned));
    assert_eq!(world.query().objects(true, None, 9).unwrap(), []);
}

#[test]
fn a_quarantined_blob_that_nobody_holds_is_mended_too() {
    let mut world = world();
    for number in [1, 2] {
        world.propose(UnlinkBlob { repository: repository(number), digest: digest(1) }).unwrap();
    }
    assert!(set(&mut world, blob(1), true));
    world.propose(link(3, 2)).unwrap();
    assert_eq!(collect(&mut world), (1, 0), "only its lease ended");
    assert_eq!(world.query().key_state(&key(2)).unwrap(), Some(KeyState::Linked));
}

#[test]
fn a_quarantined_manifest_keeps_its_tags_and_is_mended_by_a_push() {
    let mut world = world();
    world.propose(put_manifest(2, &[1])).unwrap();
    let content = new_manifest(2).content;
    let examined = Examined::Manifest { repository: repository(1), digest: digest(2), content };
    assert!(set(&mut world, examined.clone(), true));
    assert!(!set(&mut world, examined, true), "it is already");
    assert_eq!(world.query().manifest(&repository(1), &digest(2)).unwrap(), None);
    assert_eq!(world.query().tag(&repository(1), &tag(1)).unwrap(), Some(digest(2)));

    // As a client does that found nothing under the digest.
    let absent = NewManifest { precondition: Precondition::Absent, ..new_manifest(2) };
    assert!(world.propose(PutManifest::new(verified(2), absent)).unwrap().created);
    assert!(world.query().manifest(&repository(1), &digest(2)).unwrap().is_some());
    let counts = world.query().repository(&repository(1)).unwrap().unwrap();
    assert_eq!((counts.manifests, counts.tags), (1, 1));
}

#[test]
fn a_quarantined_manifest_gets_a_new_object_or_goes_with_its_own() {
    let mut world = world();
    let large = |number| NewManifest { content: ManifestContent::Object(manifest_key(number)), ..new_manifest(2) };
    let put = |number| PutManifest::new(verified(2), large(number));
    let examined = |number| Examined::Manifest {
        repository: repository(1),
        digest: digest(2),
        content: ManifestContent::Object(manifest_key(number)),
    };
    world.propose(put(1)).unwrap();
    assert!(set(&mut world, examined(1), true));
    assert_eq!(world.propose(put(1)), Err(PutManifestRefused::KeyNotReserved), "the damaged object is no content");
    world.propose(put(2)).unwrap();
    assert_eq!(
        [1, 2].map(|number| world.query().key_state(&manifest_key(number)).unwrap()),
        [None, Some(KeyState::Linked)]
    );

    assert!(set(&mut world, examined(2), true));
    world.propose(DeleteManifest { repository: repository(1), digest: digest(2) }).unwrap();
    assert_eq!(world.query().key_state(&manifest_key(2)).unwrap(), Some(KeyState::Condemned));
}

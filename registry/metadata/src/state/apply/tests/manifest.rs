use roadstead_oci::{Digest, ObjectKey};
use uuid::Uuid;

use crate::fixtures::{World, digest, key, new_manifest, put_manifest, repository, tag, verified};
use crate::{
    ChangeKind, Command, DeleteManifest, DeleteManifestRefused, DeleteTag, DeleteTagRefused, Examined, KeyState,
    LinkBlob, ManifestContent, ManifestPut, MovedTag, NewManifest, Outcome, Position, Precondition, PutManifest,
    PutManifestRefused, Referrer, ReferrerEntry, Repository, ReserveKeys, SetQuarantine, TagManifest,
    TagManifestRefused, UnlinkBlob,
};

fn put(number: u8, manifest: NewManifest) -> PutManifest {
    PutManifest::new(verified(number), manifest)
}

fn put_if(number: u8, precondition: Precondition) -> PutManifest {
    put(number, NewManifest { tags: vec![tag(1)], precondition, ..new_manifest(number) })
}

fn moved(number: u8, previous: Option<u8>) -> MovedTag {
    MovedTag { tag: tag(number), previous: previous.map(digest) }
}

fn tag_of(world: &World, number: u8) -> Option<Digest> {
    world.query().tag(&repository(1), &tag(number)).unwrap()
}

fn counts(world: &World) -> Option<(u64, u64, u64)> {
    let counts = world.query().repository(&repository(1)).unwrap();
    counts.map(|Repository { manifests, tags, blobs }| (manifests, tags, blobs))
}

fn manifest_key(number: u8) -> ObjectKey {
    ObjectKey::manifest(digest(number), Uuid::from_u128(number.into()))
}

#[test]
fn several_tags_move_in_one_step() {
    let mut world = World::new();
    let done = world.propose(put_manifest(1, &[1, 2])).unwrap();
    assert_eq!(done, ManifestPut { created: true, moved: vec![moved(1, None), moved(2, None)] });
    let done = world.propose(put_manifest(2, &[2, 3])).unwrap();
    assert_eq!(done, ManifestPut { created: true, moved: vec![moved(2, Some(1)), moved(3, None)] });
    assert_eq!([1, 2, 3].map(|number| tag_of(&world, number)), [Some(digest(1)), Some(digest(2)), Some(digest(2))]);
    assert_eq!(counts(&world), Some((2, 3, 0)));
    let done = world.propose(put_manifest(1, &[1])).unwrap();
    assert_eq!(done, ManifestPut { created: false, moved: Vec::new() }, "the same again");
    let kind = world.query().changes(Position::default(), 9).unwrap().pop().unwrap().kind;
    assert_eq!(kind, ChangeKind::ManifestPut { repository: repository(1), digest: digest(1), tags: vec![tag(1)] });
}

#[test]
fn a_manifest_is_read_back_as_it_was_put() {
    let mut world = World::new();
    world.propose(put_manifest(1, &[])).unwrap();
    let stored = world.query().manifest(&repository(1), &digest(1)).unwrap().unwrap();
    assert_eq!((stored.content, stored.size), (new_manifest(1).content, 1));
    assert_eq!(world.query().manifest(&repository(2), &digest(1)).unwrap(), None);
    let again = NewManifest { media_type: "application/newer".to_owned(), ..new_manifest(1) };
    world.propose(put(1, again)).unwrap();
    assert_eq!(world.query().manifest(&repository(1), &digest(1)).unwrap().unwrap().media_type, "application/newer");
}

#[test]
fn a_manifest_needs_its_blobs_in_its_own_repository() {
    let mut world = World::new();
    world.propose(ReserveKeys { keys: vec![key(1), key(2)] }).unwrap();
    let manifest = put(9, NewManifest { blobs: vec![digest(1), digest(2)], tags: vec![tag(1)], ..new_manifest(9) });
    world.propose(LinkBlob::new(repository(1), verified(1), 5, key(1), None)).unwrap();
    world.propose(LinkBlob::new(repository(2), verified(2), 5, key(2), None)).unwrap();
    assert_eq!(world.propose(manifest.clone()), Err(PutManifestRefused::BlobsUnknown(vec![digest(2)])));
    assert_eq!(tag_of(&world, 1), None);
    world.propose(UnlinkBlob { repository: repository(1), digest: digest(1) }).unwrap();
    assert_eq!(world.propose(manifest), Err(PutManifestRefused::BlobsUnknown(vec![digest(1), digest(2)])));
}

#[test]
fn a_sparse_manifest_may_name_blobs_that_come_later_or_never() {
    let mut world = World::new();
    world.propose(put(9, NewManifest { blobs: vec![digest(1)], sparse: true, ..new_manifest(9) })).unwrap();
    assert_eq!(world.query().blob(&repository(1), &digest(1)).unwrap(), None);
    assert_eq!(counts(&world), Some((1, 0, 0)));
    world.propose(ReserveKeys { keys: vec![key(1)] }).unwrap();
    world.propose(LinkBlob::new(repository(1), verified(1), 5, key(1), None)).unwrap();
    assert_eq!(counts(&world), Some((1, 0, 1)));
}

#[test]
fn a_precondition_is_judged_on_every_tag_as_it_is_now() {
    let mut world = World::new();
    let failed = |current: Option<u8>| Err(PutManifestRefused::PreconditionFailed { current: current.map(digest) });
    let matches = |number| Precondition::Match(vec![digest(number)]);
    assert_eq!(world.propose(put_if(1, matches(1))), failed(None), "there is nothing yet");
    assert!(world.propose(put_if(1, Precondition::Absent)).is_ok());
    assert_eq!(world.propose(put_if(1, Precondition::Absent)), failed(Some(1)), "not even for the same manifest");
    assert_eq!(world.propose(put_if(2, matches(2))), failed(Some(1)));
    assert!(world.propose(put_if(2, Precondition::Match(vec![digest(9), digest(1)]))).is_ok());
    assert_eq!(tag_of(&world, 1), Some(digest(2)));
    assert!(world.propose(put_if(2, matches(1))).is_ok(), "what is repeated holds already");
    assert_eq!(world.propose(put_if(3, matches(1))), failed(Some(2)));

    let both = NewManifest { tags: vec![tag(1), tag(2)], precondition: matches(2), ..new_manifest(3) };
    assert_eq!(world.propose(put(3, both)), failed(None), "tag 2 does not exist");
    assert_eq!(tag_of(&world, 1), Some(digest(2)), "all or nothing");
}

#[test]
fn a_precondition_without_tags_is_about_the_manifest_itself() {
    let mut world = World::new();
    let put_if = |precondition| put(1, NewManifest { precondition, ..new_manifest(1) });
    let failed = |current| Err(PutManifestRefused::PreconditionFailed { current });
    assert_eq!(world.propose(put_if(Precondition::Exists)), failed(None));
    assert!(world.propose(put_if(Precondition::Absent)).is_ok());
    assert_eq!(world.propose(put_if(Precondition::Absent)), failed(Some(digest(1))));
    assert!(world.propose(put_if(Precondition::Exists)).is_ok());
}

#[test]
fn a_tag_that_is_to_exist_is_moved_and_never_made() {
    let mut world = World::new();
    let failed = Err(PutManifestRefused::PreconditionFailed { current: None });
    assert_eq!(world.propose(put_if(1, Precondition::Exists)), failed);
    assert_eq!(tag_of(&world, 1), None);
    world.propose(put_if(1, Precondition::None)).unwrap();
    world.propose(put_if(2, Precondition::Exists)).unwrap();
    assert_eq!(tag_of(&world, 1), Some(digest(2)));

    let both = NewManifest { tags: vec![tag(1), tag(2)], precondition: Precondition::Exists, ..new_manifest(3) };
    assert_eq!(world.propose(put(3, both)), failed, "all or nothing");
    assert_eq!(tag_of(&world, 1), Some(digest(2)));
    world.propose(DeleteTag { repository: repository(1), tag: tag(1) }).unwrap();
    assert_eq!(world.propose(put_if(3, Precondition::Exists)), failed, "there is nothing any more");
}

fn retag(number: u8, tags: &[u8]) -> TagManifest {
    TagManifest {
        repository: repository(1),
        digest: digest(number),
        media_type: new_manifest(number).media_type,
        tags: tags.iter().copied().map(tag).collect(),
        precondition: Precondition::None,
        sparse: false,
    }
}

#[test]
fn tagging_a_manifest_that_is_there_is_what_putting_it_again_is() {
    let worlds = [put_manifest(1, &[2, 3]).into(), Command::from(retag(1, &[2, 3]))].map(|again| {
        let mut world = World::new();
        world.propose(put_manifest(1, &[1])).unwrap();
        world.propose(put_manifest(2, &[2])).unwrap();
        let done = match world.apply(again) {
            Outcome::PutManifest(done) => done.unwrap(),
            Outcome::TagManifest(done) => done.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(done, ManifestPut { created: false, moved: vec![moved(2, Some(2)), moved(3, None)] });
        world
    });
    let changes = |world: &World| world.query().changes(Position::default(), 9).unwrap();
    assert_eq!(changes(&worlds[0]), changes(&worlds[1]));
    assert_eq!(counts(&worlds[1]), Some((2, 3, 0)));
    assert_eq!(tag_of(&worlds[1], 2), Some(digest(1)));
}

#[test]
fn a_manifest_that_is_not_there_cannot_be_tagged() {
    let mut world = World::new();
    assert_eq!(world.propose(retag(1, &[1])), Err(TagManifestRefused::ManifestUnknown));
    world.propose(put_manifest(1, &[1])).unwrap();
    let other_type = TagManifest { media_type: "application/newer".to_owned(), ..retag(1, &[2]) };
    assert_eq!(world.propose(other_type), Err(TagManifestRefused::ManifestUnknown), "it may name other blobs");
    let other_repository = TagManifest { repository: repository(2), ..retag(1, &[2]) };
    assert_eq!(world.propose(other_repository), Err(TagManifestRefused::ManifestUnknown));
    let precondition = Precondition::Match(vec![digest(2)]);
    let failed = world.propose(TagManifest { precondition, ..retag(1, &[2]) });
    assert_eq!(failed, Err(TagManifestRefused::PreconditionFailed { current: None }));
    assert_eq!(tag_of(&world, 2), None);
}

#[test]
fn a_manifest_whose_blobs_have_gone_cannot_be_tagged_unless_it_may_be_sparse() {
    let mut world = World::new();
    world.propose(ReserveKeys { keys: vec![key(1), key(2)] }).unwrap();
    for number in [1, 2] {
        world.propose(LinkBlob::new(repository(1), verified(number), 5, key(number), None)).unwrap();
    }
    world.propose(put(9, NewManifest { blobs: vec![digest(1), digest(2)], ..new_manifest(9) })).unwrap();
    assert!(world.propose(retag(9, &[1])).is_ok());
    world.propose(UnlinkBlob { repository: repository(1), digest: digest(1) }).unwrap();
    let examined = Examined::Blob { digest: digest(2), key: key(2) };
    world.propose(SetQuarantine { examined, quarantined: true }).unwrap();
    let unknown = vec![digest(1), digest(2)];
    assert_eq!(world.propose(retag(9, &[2])), Err(TagManifestRefused::BlobsUnknown(unknown)));
    assert!(world.propose(TagManifest { sparse: true, ..retag(9, &[2]) }).is_ok());
}

#[test]
fn a_large_manifest_has_an_object_of_its_own_in_each_repository() {
    let mut world = World::new();
    let large =
        |key_number| NewManifest { content: ManifestContent::Object(manifest_key(key_number)), ..new_manifest(1) };
    assert_eq!(world.propose(put(1, large(1))), Err(PutManifestRefused::KeyNotReserved));
    world.propose(ReserveKeys { keys: (1..=3).map(manifest_key).collect() }).unwrap();
    world.propose(put(1, large(1))).unwrap();
    world.propose(put(1, large(1))).unwrap(); // the same object again
    world.propose(put(1, large(2))).unwrap(); // another one with the same bytes
    world.propose(put(1, NewManifest { repository: repository(2), ..large(3) })).unwrap();
    let states = [1, 2, 3].map(|number| world.query().key_state(&manifest_key(number)).unwrap());
    assert_eq!(states, [Some(KeyState::Linked), Some(KeyState::Condemned), Some(KeyState::Linked)]);
    let content = world.query().manifest(&repository(1), &digest(1)).unwrap().unwrap().content;
    assert_eq!(content, ManifestContent::Object(manifest_key(1)));

    world.propose(DeleteManifest { repository: repository(1), digest: digest(1) }).unwrap();
    assert_eq!(world.query().key_state(&manifest_key(1)).unwrap(), Some(KeyState::Condemned));
    assert_eq!(world.query().key_state(&manifest_key(3)).unwrap(), Some(KeyState::Linked));
}

#[test]
fn deleting_a_manifest_takes_its_tags_with_it() {
    let mut world = World::new();
    let delete = || DeleteManifest { repository: repository(1), digest: digest(1) };
    assert_eq!(world.propose(delete()), Err(DeleteManifestRefused::ManifestUnknown));
    world.propose(put_manifest(1, &[1, 2, 3])).unwrap();
    world.propose(put_manifest(2, &[3])).unwrap();
    assert_eq!(world.propose(delete()), Ok(2));
    assert_eq!([1, 2, 3].map(|number| tag_of(&world, number)), [None, None, Some(digest(2))]);
    assert_eq!(counts(&world), Some((1, 1, 0)));
    assert_eq!(world.query().manifest(&repository(1), &digest(1)).unwrap(), None);
}

#[test]
fn a_repository_is_gone_with_the_last_thing_in_it() {
    let mut world = World::new();
    world.propose(put_manifest(1, &[1])).unwrap();
    let delete_tag = DeleteTag { repository: repository(1), tag: tag(1) };
    assert_eq!(world.propose(delete_tag.clone()), Ok(()));
    assert_eq!(world.propose(delete_tag), Err(DeleteTagRefused::TagUnknown));
    assert_eq!(counts(&world), Some((1, 0, 0)), "its manifest stays");
    assert_eq!(world.query().repositories(None, 9).unwrap(), [repository(1)]);
    world.propose(DeleteManifest { repository: repository(1), digest: digest(1) }).unwrap();
    assert_eq!(counts(&world), None);
    assert_eq!(world.query().repositories(None, 9).unwrap(), []);
}

#[test]
fn a_blob_that_was_unlinked_under_a_manifest_counts_right_when_it_comes_back() {
    let mut world = World::new();
    world.propose(ReserveKeys { keys: vec![key(1), key(2)] }).unwrap();
    let link = |key_number| LinkBlob::new(repository(1), verified(1), 5, key(key_number), None);
    world.propose(link(1)).unwrap();
    world.propose(put(9, NewManifest { blobs: vec![digest(1)], ..new_manifest(9) })).unwrap();
    world.propose(UnlinkBlob { repository: repository(1), digest: digest(1) }).unwrap();
    world.propose(link(2)).unwrap();
    world.propose(DeleteManifest { repository: repository(1), digest: digest(9) }).unwrap();
    assert_eq!(counts(&world), Some((0, 0, 1)), "the blob itself was linked, and stays");
}

#[test]
fn referrers_are_listed_by_subject_whether_or_not_that_exists() {
    let mut world = World::new();
    let referring = |number: u8, artifact_type: &str| {
        let annotations = vec![("number".to_owned(), number.to_string())];
        let referrer = Referrer { subject: digest(1), artifact_type: Some(artifact_type.to_owned()), annotations };
        put(number, NewManifest { referrer: Some(referrer), ..new_manifest(number) })
    };
    for (number, artifact_type) in [(2, "signature"), (3, "sbom"), (4, "signature")] {
        world.propose(referring(number, artifact_type)).unwrap();
    }
    let list = |world: &World, artifact_type, after: Option<&Digest>, limit| {
        let entries = world.query().referrers(&repository(1), &digest(1), artifact_type, after, limit).unwrap();
        entries.into_iter().map(|entry| entry.digest).collect::<Vec<_>>()
    };
    let mut all = [2, 3, 4].map(digest);
    all.sort();
    assert_eq!(list(&world, None, None, 9), all);
    assert_eq!(list(&world, None, Some(&all[0]), 1), [all[1]]);
    assert_eq!(list(&world, Some("sbom"), None, 9), [digest(3)]);
    let entry = world.query().referrers(&repository(1), &digest(1), Some("sbom"), None, 1).unwrap().remove(0);
    let annotations = vec![("number".to_owned(), "3".to_owned())];
    let (media_type, artifact_type) = (new_manifest(3).media_type, Some("sbom".to_owned()));
    assert_eq!(entry, ReferrerEntry { digest: digest(3), media_type, size: 1, artifact_type, annotations });

    world.propose(DeleteManifest { repository: repository(1), digest: digest(3) }).unwrap();
    assert_eq!(list(&world, Some("sbom"), None, 9), []);
}

#[test]
fn pages_begin_behind_any_text() {
    let mut world = World::new();
    world.propose(put_manifest(1, &[1, 2, 3, 10])).unwrap();
    let tags = |last, limit| world.query().tags(&repository(1), last, limit).unwrap();
    assert_eq!(tags(None, 9), [tag(1), tag(10), tag(2), tag(3)], "byte by byte");
    assert_eq!(tags(Some("v1"), 2), [tag(10), tag(2)]);
    assert_eq!(tags(Some("v11"), 9), [tag(2), tag(3)], "no such tag");
    assert_eq!(tags(Some(""), 1), [tag(1)]);
    assert_eq!(tags(Some("v2\u{ff} no tag at all"), 9), [tag(3)]);
    assert_eq!(tags(Some("zzz"), 9), []);
    assert_eq!(tags(None, 0), []);
    let repositories = |last| world.query().repositories(last, 9).unwrap();
    assert_eq!(repositories(Some("library")), [repository(1)]);
    assert_eq!(repositories(Some("library/repository-1")), []);
}

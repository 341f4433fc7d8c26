use crate::fixtures::{World, digest, key, open_upload, repository, upload, verified};
use crate::{
    Blob, ChangeKind, Epoch, KeyState, LinkBlob, LinkBlobRefused, Linked, LogTime, MountBlob, MountBlobRefused,
    Position, ReserveKeys, UnlinkBlob, UnlinkBlobRefused, UploadState,
};

fn link(repo: u8, blob: u8, key_number: u8) -> LinkBlob {
    LinkBlob::new(repository(repo), verified(blob), 5, key(key_number), None)
}

fn world_with_keys() -> World {
    let mut world = World::new();
    world.propose(ReserveKeys { keys: (1..=9).map(key).collect() }).unwrap();
    world
}

#[test]
fn a_blob_belongs_to_the_repository_that_linked_it_only() {
    let mut world = world_with_keys();
    assert_eq!(world.propose(link(1, 1, 1)), Ok(Linked { deduplicated: false }));
    assert_eq!(
        world.query().blob(&repository(1), &digest(1)).unwrap(),
        Some(Blob { size: 5, key: key(1), unnamed_since: Some(LogTime(world.now)) })
    );
    assert_eq!(world.query().blob(&repository(2), &digest(1)).unwrap(), None);
    assert_eq!(world.query().key_state(&key(1)).unwrap(), Some(KeyState::Linked));
    assert_eq!(world.query().repository(&repository(1)).unwrap().unwrap().blobs, 1);
}

#[test]
fn the_second_object_of_a_blob_is_condemned() {
    let mut world = world_with_keys();
    world.propose(link(1, 1, 1)).unwrap();
    assert_eq!(world.propose(link(2, 1, 2)), Ok(Linked { deduplicated: true }));
    assert_eq!(world.query().blob(&repository(2), &digest(1)).unwrap().unwrap().key, key(1));
    assert_eq!(world.query().condemned(LogTime(u64::MAX), 9).unwrap()[0].key, key(2));
    assert_eq!(world.query().holders(&digest(1), None, 9).unwrap(), [repository(1), repository(2)]);
    assert_eq!(world.query().holders(&digest(1), Some(&repository(1)), 9).unwrap(), [repository(2)]);
}

#[test]
fn a_finished_link_can_be_repeated() {
    let mut world = world_with_keys();
    world.propose(link(1, 1, 1)).unwrap();
    let position = world.query().position().unwrap();
    assert_eq!(world.propose(link(1, 1, 1)), Ok(Linked { deduplicated: false }));
    assert_eq!(world.query().position().unwrap(), position, "nothing changed");
    assert_eq!(world.propose(link(1, 2, 1)), Err(LinkBlobRefused::KeyNotReserved), "the object of another blob");
    assert_eq!(world.propose(link(2, 1, 1)), Err(LinkBlobRefused::KeyNotReserved), "another repository");
    assert_eq!(world.propose(link(1, 2, 20)), Err(LinkBlobRefused::KeyNotReserved), "never reserved");
}

#[test]
fn a_small_upload_becomes_a_blob_in_one_step() {
    let mut world = world_with_keys();
    world.propose(open_upload(1)).unwrap();
    let close =
        |repo, blob, epoch| LinkBlob::new(repository(repo), verified(blob), 5, key(1), Some((upload(1), Epoch(epoch))));
    assert_eq!(world.propose(close(2, 1, 1)), Err(LinkBlobRefused::UploadUnknown), "another repository's session");
    assert_eq!(world.propose(close(1, 1, 2)), Err(LinkBlobRefused::Fenced));
    assert_eq!(world.propose(close(1, 1, 1)), Ok(Linked { deduplicated: false }));
    assert_eq!(world.query().uploads_open().unwrap(), 0);
    let finished = UploadState::Finished { digest: digest(1), size: 5 };
    assert_eq!(world.query().upload(&upload(1)).unwrap().unwrap().state, finished);

    assert_eq!(world.propose(close(1, 1, 1)), Ok(Linked { deduplicated: false }), "repeated");
    assert_eq!(world.propose(close(1, 2, 1)), Err(LinkBlobRefused::NotReceiving), "as another blob");
}

#[test]
fn a_mount_needs_a_repository_that_holds_the_blob() {
    let mut world = world_with_keys();
    let mount = |from, to| MountBlob { repository: repository(to), digest: digest(1), from: repository(from) };
    assert_eq!(world.propose(mount(1, 2)), Err(MountBlobRefused::BlobUnknown));
    world.propose(link(1, 1, 1)).unwrap();
    world.propose(mount(1, 2)).unwrap();
    assert_eq!(
        world.query().blob(&repository(2), &digest(1)).unwrap(),
        Some(Blob { size: 5, key: key(1), unnamed_since: Some(LogTime(world.now)) })
    );
    world.propose(UnlinkBlob { repository: repository(1), digest: digest(1) }).unwrap();
    assert_eq!(world.propose(mount(1, 3)), Err(MountBlobRefused::BlobUnknown));
    world.propose(mount(2, 3)).unwrap();
}

#[test]
fn a_blob_that_nobody_holds_keeps_its_object_for_now_and_can_come_back() {
    let mut world = world_with_keys();
    world.propose(link(1, 1, 1)).unwrap();
    let unlink = UnlinkBlob { repository: repository(1), digest: digest(1) };
    world.propose(unlink.clone()).unwrap();
    assert_eq!(world.query().blob(&repository(1), &digest(1)).unwrap(), None);
    assert_eq!(world.query().repository(&repository(1)).unwrap(), None);
    assert_eq!(world.propose(unlink), Err(UnlinkBlobRefused::BlobUnknown));
    assert_eq!(world.propose(link(2, 1, 2)), Ok(Linked { deduplicated: true }));
    assert_eq!(world.query().blob(&repository(2), &digest(1)).unwrap().unwrap().key, key(1));
}

#[test]
fn the_feed_tells_who_holds_what_since_when() {
    let mut world = world_with_keys();
    world.propose(link(1, 1, 1)).unwrap();
    world.propose(UnlinkBlob { repository: repository(1), digest: digest(1) }).unwrap();
    let changes = world.query().changes(Position::default(), 9).unwrap();
    let (repository, digest) = (repository(1), digest(1));
    assert_eq!(changes.iter().map(|change| change.position.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(changes[0].kind, ChangeKind::BlobLinked { repository: repository.clone(), digest, size: 5 });
    assert_eq!(changes[1].kind, ChangeKind::BlobUnlinked { repository, digest });
    assert_eq!(changes[1].at.0, world.now);
}

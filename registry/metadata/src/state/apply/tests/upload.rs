use roadstead_oci::{MultipartId, ObjectKey, Part};

use crate::fixtures::{World, digest, hash, key, multipart, open_upload, part, repository, tail_key, upload, verified};
use crate::{
    AdvanceUploadRefused, BeginCompletion, BeginMultipart, CancelUpload, CancelUploadRefused, CheckpointUpload,
    ClaimUpload, ClaimUploadRefused, CondemnKeys, Epoch, ExpireUploads, FinishUpload, FinishUploadRefused, Incarnation,
    KeyState, LinkBlob, Linked, LogTime, Multipart, OpenUploadRefused, Progress, ReserveKeys, ShowParts, Tail,
    UploadState,
};

/// Keys 1 to 9 reserved, for blobs and for tails, and session 1 open.
fn world() -> World {
    let mut world = World::new();
    world.propose(ReserveKeys { keys: (1..=9).flat_map(|number| [key(number), tail_key(number)]).collect() }).unwrap();
    world.propose(open_upload(1)).unwrap();
    world
}

fn begin(key_number: u8) -> BeginMultipart {
    BeginMultipart {
        upload: upload(1),
        epoch: Epoch(1),
        key: key(key_number),
        multipart: multipart(key_number),
        parts: Vec::new(),
        tail: None,
    }
}

fn checkpoint(offset: u64, parts: &[u32], tail: Option<Tail>) -> CheckpointUpload {
    let parts = parts.iter().copied().map(part).collect();
    CheckpointUpload { upload: upload(1), epoch: Epoch(1), offset, parts, tail, hash: hash() }
}

fn complete(parts: &[u32]) -> BeginCompletion {
    BeginCompletion::new(upload(1), Epoch(1), verified(1), 25, parts.iter().copied().map(part).collect())
}

#[expect(clippy::unnecessary_wraps, reason = "as it stands in the commands")]
fn tail(number: u8) -> Option<Tail> {
    Some(Tail::Object { key: tail_key(number), size: 5 })
}

fn progress(world: &World) -> Progress {
    match world.query().upload(&upload(1)).unwrap().unwrap().state {
        UploadState::Receiving(progress) => progress,
        other => panic!("{other:?}"),
    }
}

fn condemned(world: &World) -> Vec<(ObjectKey, Option<MultipartId>)> {
    let condemned = world.query().condemned(LogTime(u64::MAX), 99).unwrap();
    condemned.into_iter().map(|condemned| (condemned.key, condemned.multipart)).collect()
}

fn numbers(parts: &[Part]) -> Vec<u32> {
    parts.iter().map(|part| part.number).collect()
}

#[test]
fn a_session_is_known_from_its_opening() {
    let mut world = world();
    let session = world.query().upload(&upload(1)).unwrap().unwrap();
    assert_eq!((session.repository, session.epoch, session.touched.0), (repository(1), Epoch(1), world.now));
    assert_eq!(progress(&world).offset, 0);
    assert_eq!(world.query().uploads_open().unwrap(), 1);
    assert_eq!(world.propose(open_upload(1)), Err(OpenUploadRefused::UploadExists));
}

#[test]
fn the_newest_claim_owns_a_session_and_the_former_owner_is_fenced() {
    let mut world = world();
    let claim = ClaimUpload { upload: upload(1), owner: Incarnation(8) };
    assert_eq!(world.propose(claim.clone()), Ok(Epoch(2)));
    assert_eq!(world.query().upload(&upload(1)).unwrap().unwrap().owner, Incarnation(8));
    assert_eq!(world.propose(begin(1)), Err(AdvanceUploadRefused::Fenced));
    assert_eq!(world.propose(checkpoint(5, &[], tail(1))), Err(AdvanceUploadRefused::Fenced));
    assert_eq!(world.propose(complete(&[])), Err(AdvanceUploadRefused::Fenced));
    assert_eq!(world.propose(ClaimUpload { upload: upload(2), ..claim }), Err(ClaimUploadRefused::UploadUnknown));
}

#[test]
fn a_checkpoint_moves_offset_parts_and_tail_together() {
    let mut world = world();
    assert_eq!(world.propose(checkpoint(10, &[1], None)), Err(AdvanceUploadRefused::NoMultipart));
    world.propose(begin(1)).unwrap();
    world.propose(checkpoint(15, &[1], tail(1))).unwrap();
    world.propose(checkpoint(25, &[2], tail(2))).unwrap();
    let progress = progress(&world);
    assert_eq!((progress.offset, numbers(&progress.parts), progress.tail), (25, vec![1, 2], tail(2)));
    assert_eq!(progress.multipart, Some(Multipart { key: key(1), id: multipart(1) }));
    assert_eq!(condemned(&world), [(tail_key(1), None)], "the former tail");
    assert_eq!(world.query().key_state(&tail_key(2)).unwrap(), Some(KeyState::Held));
}

#[test]
fn keys_that_a_session_holds_are_out_of_the_sweeps_reach() {
    let mut world = world();
    world.propose(begin(1)).unwrap();
    world.propose(checkpoint(5, &[], tail(1))).unwrap();
    assert_eq!(world.propose(CondemnKeys { keys: vec![key(1), tail_key(1)] }), Ok(0));
    let reserved = world.query().reserved_before(LogTime(u64::MAX), 99).unwrap();
    assert!(!reserved.contains(&key(1)) && !reserved.contains(&tail_key(1)));
}

#[test]
fn only_reserved_keys_can_be_written_to() {
    let mut world = world();
    world.propose(CondemnKeys { keys: vec![key(1), tail_key(1)] }).unwrap();
    assert_eq!(world.propose(begin(1)), Err(AdvanceUploadRefused::KeyNotReserved));
    assert_eq!(world.propose(checkpoint(5, &[], tail(1))), Err(AdvanceUploadRefused::KeyNotReserved));
    world.propose(begin(2)).unwrap();
    assert_eq!(world.propose(begin(2)), Ok(()), "the same again");
    let another = BeginMultipart { multipart: multipart(9), ..begin(2) };
    assert_eq!(world.propose(another), Err(AdvanceUploadRefused::KeyNotReserved), "a second one under one key");
    let shared = Some(Tail::Object { key: key(3), size: 5 });
    let both = BeginMultipart { tail: shared, ..begin(3) };
    assert_eq!(world.propose(both), Err(AdvanceUploadRefused::KeyNotReserved), "one key for two objects");
    let tail_too = checkpoint(5, &[], Some(Tail::Object { key: key(2), size: 5 }));
    assert_eq!(world.propose(tail_too), Err(AdvanceUploadRefused::KeyNotReserved), "one key for two objects");
}

#[test]
fn a_second_multipart_upload_takes_the_place_of_the_first() {
    let mut world = world();
    world.propose(begin(1)).unwrap();
    world.propose(checkpoint(25, &[1, 2], Some(Tail::FinalPart(part(3))))).unwrap();
    world.propose(BeginMultipart { parts: vec![part(1), part(2)], tail: tail(1), ..begin(2) }).unwrap();
    let progress = progress(&world);
    assert_eq!((progress.offset, numbers(&progress.parts), progress.tail), (25, vec![1, 2], tail(1)));
    assert_eq!(progress.multipart, Some(Multipart { key: key(2), id: multipart(2) }));
    assert_eq!(condemned(&world), [(key(1), Some(multipart(1)))]);
}

#[test]
fn a_session_that_goes_back_loses_the_parts_beyond() {
    let mut world = world();
    world.propose(begin(1)).unwrap();
    world.propose(checkpoint(30, &[1, 2, 3], None)).unwrap();
    world.propose(checkpoint(15, &[], tail(1))).unwrap();
    assert_eq!(numbers(&progress(&world).parts), [1]);
}

fn show(parts: &[u32]) -> ShowParts {
    ShowParts { upload: upload(1), epoch: Epoch(1), parts: parts.iter().copied().map(part).collect() }
}

/// The numbers of the parts behind the first that are shown, and up to where there is something to be read.
fn shown(world: &World) -> (Vec<u32>, u64) {
    let outline = world.query().upload_outline(&upload(1)).unwrap().unwrap();
    (numbers(&world.query().shown_parts(&upload(1), 1).unwrap()), outline.whole)
}

#[test]
fn what_a_closing_request_shows_is_no_part_of_its_session() {
    let mut world = world();
    assert_eq!(world.propose(show(&[1])), Err(AdvanceUploadRefused::NoMultipart));
    assert_eq!(world.propose(show(&[])), Ok(()), "the session is in use");
    assert_eq!(world.query().upload(&upload(1)).unwrap().unwrap().touched.0, world.now);
    world.propose(begin(1)).unwrap();
    world.propose(checkpoint(15, &[1], tail(1))).unwrap();
    world.propose(show(&[2, 3])).unwrap();
    world.propose(show(&[4])).unwrap();
    let before = progress(&world);
    assert_eq!((before.offset, numbers(&before.parts), before.tail), (15, vec![1], tail(1)));
    assert_eq!(shown(&world), (vec![2, 3, 4], 40));
    world.propose(show(&[])).unwrap();
    assert_eq!(shown(&world), (vec![2, 3, 4], 40));

    world.propose(show(&[2])).unwrap();
    assert_eq!(shown(&world), (vec![2], 20), "another request begins where the former one began");
    world.propose(complete(&[2, 3])).unwrap();
    let UploadState::Completing { parts, .. } = world.query().upload(&upload(1)).unwrap().unwrap().state else {
        panic!("it is being completed")
    };
    assert_eq!(numbers(&parts), [1, 2, 3]);
    assert_eq!(world.propose(show(&[4])), Err(AdvanceUploadRefused::NotReceiving));
    assert_eq!(shown(&world), (vec![], 25));
}

#[test]
fn what_was_shown_is_hidden_when_the_session_goes_on_otherwise() {
    let mut world = world();
    world.propose(begin(1)).unwrap();
    let claim = ClaimUpload { upload: upload(1), owner: Incarnation(8) };
    let another = BeginMultipart { parts: vec![part(1)], tail: tail(2), ..begin(2) };
    for goes_on in [checkpoint(15, &[1], tail(1)).into(), crate::Command::from(another)] {
        world.propose(show(&[1, 2, 3])).unwrap();
        assert_eq!(shown(&world), (vec![2, 3], 30));
        assert!(world.apply(goes_on).is_done());
        assert_eq!(shown(&world), (vec![], 10));
    }
    world.propose(show(&[2, 3])).unwrap();
    assert_eq!(world.propose(claim), Ok(Epoch(2)));
    assert_eq!(world.propose(show(&[4])), Err(AdvanceUploadRefused::Fenced));
    world.propose(CancelUpload { upload: upload(1), repository: repository(1) }).unwrap();
    assert_eq!(world.query().shown_parts(&upload(1), 0).unwrap(), []);
}

#[test]
fn a_completion_is_begun_once_and_finished_by_whoever_owns_it() {
    let mut world = world();
    assert_eq!(world.propose(complete(&[])), Err(AdvanceUploadRefused::NoMultipart));
    world.propose(begin(1)).unwrap();
    let finish = |epoch| FinishUpload { upload: upload(1), epoch: Epoch(epoch) };
    assert_eq!(world.propose(finish(1)), Err(FinishUploadRefused::NotCompleting));
    world.propose(checkpoint(25, &[1, 2], tail(1))).unwrap();
    world.propose(complete(&[3])).unwrap();
    assert_eq!(world.propose(complete(&[3])), Ok(()), "the same again");
    assert_eq!(world.propose(checkpoint(35, &[4], None)), Err(AdvanceUploadRefused::NotReceiving));
    assert_eq!(condemned(&world), [(tail_key(1), None)], "its bytes are in the final part");
    let parts = vec![part(1), part(2), part(3)];
    let multipart = Multipart { key: key(1), id: multipart(1) };
    let completing = UploadState::Completing { digest: digest(1), size: 25, multipart, parts };
    assert_eq!(world.query().upload(&upload(1)).unwrap().unwrap().state, completing);

    assert_eq!(world.propose(ClaimUpload { upload: upload(1), owner: Incarnation(8) }), Ok(Epoch(2)));
    assert_eq!(world.propose(finish(1)), Err(FinishUploadRefused::Fenced));
    assert_eq!(world.propose(finish(2)), Ok(Linked { deduplicated: false }));
    assert_eq!(world.query().blob(&repository(1), &digest(1)).unwrap().unwrap().key, key(1));
    assert_eq!(world.query().uploads_open().unwrap(), 0);
    assert_eq!(world.propose(finish(1)), Ok(Linked { deduplicated: false }), "a repeated close gets its answer");
    assert_eq!(
        world.propose(ClaimUpload { upload: upload(1), owner: Incarnation(8) }),
        Err(ClaimUploadRefused::Finished { digest: digest(1), size: 25 })
    );
}

#[test]
fn a_completion_of_known_content_condemns_its_object_with_the_multipart_upload() {
    let mut world = world();
    world.propose(LinkBlob::new(repository(2), verified(1), 25, key(9), None)).unwrap();
    world.propose(begin(1)).unwrap();
    world.propose(complete(&[1])).unwrap();
    let finish = FinishUpload { upload: upload(1), epoch: Epoch(1) };
    assert_eq!(world.propose(finish.clone()), Ok(Linked { deduplicated: true }));
    assert_eq!(world.propose(finish), Ok(Linked { deduplicated: true }));
    assert_eq!(condemned(&world), [(key(1), Some(multipart(1)))]);
    assert_eq!(world.query().blob(&repository(1), &digest(1)).unwrap().unwrap().key, key(9));
}

#[test]
fn a_tail_that_closes_the_session_becomes_the_blob_and_the_rest_is_condemned() {
    let mut world = world();
    world.propose(begin(1)).unwrap();
    world.propose(checkpoint(5, &[], tail(1))).unwrap();
    let link = LinkBlob::new(repository(1), verified(1), 5, tail_key(1), Some((upload(1), Epoch(1))));
    world.propose(link).unwrap();
    assert_eq!(world.query().blob(&repository(1), &digest(1)).unwrap().unwrap().key, tail_key(1));
    assert_eq!(condemned(&world), [(key(1), Some(multipart(1)))]);
}

#[test]
fn a_cancelled_session_is_gone_and_its_keys_are_condemned() {
    let mut world = world();
    world.propose(begin(1)).unwrap();
    world.propose(checkpoint(15, &[1], tail(1))).unwrap();
    let cancel = |repo| CancelUpload { upload: upload(1), repository: repository(repo) };
    assert_eq!(world.propose(cancel(2)), Err(CancelUploadRefused::UploadUnknown));
    assert_eq!(world.propose(cancel(1)), Ok(()));
    assert_eq!(world.query().upload(&upload(1)).unwrap(), None);
    assert_eq!(world.query().uploads_open().unwrap(), 0);
    assert_eq!(condemned(&world), [(key(1), Some(multipart(1))), (tail_key(1), None)]);
    assert_eq!(world.propose(cancel(1)), Err(CancelUploadRefused::UploadUnknown));
}

#[test]
fn sessions_that_nobody_touches_expire_oldest_first() {
    let mut world = world();
    world.propose(open_upload(2)).unwrap();
    let two_touched = LogTime(world.now);
    world.propose(begin(1)).unwrap();
    let all = LogTime(world.now + 1);
    assert_eq!(world.query().uploads_untouched_since(all, 9).unwrap(), [upload(2), upload(1)]);
    assert_eq!(world.query().uploads_untouched_since(two_touched, 9).unwrap(), []);
    assert_eq!(world.propose(ExpireUploads { before: two_touched, limit: 9 }), Ok(0));
    assert_eq!(world.propose(ExpireUploads { before: all, limit: 1 }), Ok(1));
    assert_eq!(world.query().upload(&upload(2)).unwrap(), None);
    assert_eq!(world.propose(ExpireUploads { before: all, limit: 9 }), Ok(1));
    assert_eq!(condemned(&world), [(key(1), Some(multipart(1)))]);
    assert_eq!(world.query().uploads_open().unwrap(), 0);
}

#[test]
fn a_finished_session_is_forgotten_when_it_expires_and_its_blob_stays() {
    let mut world = world();
    world.propose(LinkBlob::new(repository(1), verified(1), 5, key(1), Some((upload(1), Epoch(1))))).unwrap();
    assert_eq!(world.propose(ExpireUploads { before: LogTime(u64::MAX), limit: 9 }), Ok(1));
    assert_eq!(world.query().upload(&upload(1)).unwrap(), None);
    assert_eq!(condemned(&world), []);
    assert!(world.query().blob(&repository(1), &digest(1)).unwrap().is_some());
}

//! Uploads through the verbs, on real facts and a store in memory.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use proptest::prelude::*;
use roadstead_blobs::{BlobError, Fault as StoreFault, Gate, Moment, MultipartStore as _, Operation};
use roadstead_oci::{Digest, UploadId};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fixture::{PART_SIZE, World, broken, bytes, chunk, repository, sha256, sha512, sized, stalled, streamed};

async fn open(world: &World) -> UploadId {
    world.registry.start_upload(&repository("app"), false).await.expect("a session")
}

async fn offset(world: &World, upload: UploadId) -> u64 {
    world.registry.upload_status(&repository("app"), upload).await.expect("a status").offset
}

async fn append(world: &World, upload: UploadId, content: Content) -> Result<u64, UploadError> {
    world.registry.append_upload(&repository("app"), upload, content).await.map(|status| status.offset)
}

async fn close(world: &World, upload: UploadId, digest: Digest, content: Content) -> Result<(), UploadError> {
    world.registry.close_upload(&repository("app"), upload, digest, content).await
}

/// A closed session left one object and one blob, with these bytes.
async fn assert_blob(world: &World, digest: Digest, content: &[u8]) {
    assert_eq!(world.pull(&repository("app"), digest).await, content);
    assert_eq!(world.objects_after_sweep().await.len(), 1);
}

#[tokio::test]
async fn p5_any_size_is_pushed_by_one_stream_and_an_empty_close() {
    for size in [0, 1, 999, 1000, 1001, 1999, 2000, 2001, 5000, 5001, 12_345] {
        let world = World::new().await;
        let (content, upload) = (bytes(size), open(&world).await);
        assert_eq!(append(&world, upload, streamed(&content)).await.expect("appended"), size as u64);
        assert_eq!(offset(&world, upload).await, size as u64);
        close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
        assert_blob(&world, sha256(&content), &content).await;
    }
}

#[tokio::test]
async fn p5_any_size_is_pushed_by_one_closing_request() {
    for size in [0, 1, 999, 1000, 1001, 2000, 2001, 12_345] {
        let world = World::new().await;
        let (content, upload) = (bytes(size), open(&world).await);
        close(&world, upload, sha256(&content), sized(&content)).await.expect("closed");
        assert_blob(&world, sha256(&content), &content).await;
    }
}

#[tokio::test]
async fn any_size_is_pushed_without_a_session() {
    for size in [0, 1, 1000, 1001, 5001] {
        let world = World::new().await;
        let content = bytes(size);
        world.registry.upload_blob(&repository("app"), sha256(&content), sized(&content)).await.expect("pushed");
        assert_blob(&world, sha256(&content), &content).await;
    }
}

#[tokio::test]
async fn p1_a_wrong_digest_ends_the_session_and_leaves_nothing() {
    for size in [0, 10, 1000, 4321] {
        let world = World::new().await;
        let (content, wrong) = (bytes(size), sha256(b"something else"));
        let upload = open(&world).await;
        append(&world, upload, streamed(&content)).await.expect("appended");
        let error = close(&world, upload, wrong, streamed(b"more")).await.expect_err("wrong");
        let actual = sha256(&[content.as_slice(), b"more"].concat());
        assert!(matches!(error, UploadError::DigestMismatch { actual: a } if a == actual), "{error:?}");
        assert!(matches!(append(&world, upload, streamed(b"x")).await, Err(UploadError::Unknown)));

        let error = world.registry.upload_blob(&repository("app"), wrong, sized(&content)).await.expect_err("wrong");
        assert!(matches!(error, UploadError::DigestMismatch { .. }), "{error:?}");
        assert_eq!(world.objects_after_sweep().await, Vec::<String>::new());
        assert!(!world.registry.repository_exists(&repository("app")).expect("a query"));
    }
}

#[tokio::test]
async fn p4_a_broken_stream_resumes_after_its_last_full_part() {
    let mut world = World::new().await;
    let (content, upload) = (bytes(5500), open(&world).await);
    let error = append(&world, upload, broken(&content[..3700])).await.expect_err("broken");
    assert!(matches!(error, UploadError::Body(BodyError::Broken)), "{error:?}");
    assert_eq!(offset(&world, upload).await, 3000);

    world.restart();
    assert_eq!(offset(&world, upload).await, 3000);
    append(&world, upload, chunk(3000, &content[3000..])).await.expect("resumed");
    close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn p4_a_broken_closing_request_rolls_back_to_its_own_start() {
    let world = World::new().await;
    let (content, upload) = (bytes(5500), open(&world).await);
    append(&world, upload, streamed(&content[..1500])).await.expect("appended");
    let error = close(&world, upload, sha256(&content), broken(&content[1500..4800])).await.expect_err("broken");
    assert!(matches!(error, UploadError::Body(BodyError::Broken)), "{error:?}");
    assert_eq!(offset(&world, upload).await, 1500);
    close(&world, upload, sha256(&content), sized(&content[1500..])).await.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn p4_a_chunk_out_of_order_is_told_the_offset_and_changes_nothing() {
    let world = World::new().await;
    let (content, upload) = (bytes(4000), open(&world).await);
    append(&world, upload, chunk(0, &content[..1200])).await.expect("appended");
    for start in [0, 1199, 1201, 4000] {
        let error = append(&world, upload, chunk(start, b"stray")).await.expect_err("out of order");
        assert!(matches!(error, UploadError::OutOfOrder { offset: 1200 }), "{error:?}");
    }
    let error = close(&world, upload, sha256(&content), chunk(7, &content[7..])).await.expect_err("out of order");
    assert!(matches!(error, UploadError::OutOfOrder { offset: 1200 }), "{error:?}");
    close(&world, upload, sha256(&content), chunk(1200, &content[1200..])).await.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn p4_the_newest_request_wins_and_the_older_is_told_where_the_session_stands() {
    let world = World::new().await;
    let (content, upload) = (bytes(3000), open(&world).await);
    let registry = Arc::clone(&world.registry);
    let stalling = stalled(&content[..2500]);
    let mut older = Box::pin(async move { registry.append_upload(&repository("app"), upload, stalling).await });
    // Drive the older one until it has nothing left to read: two parts are durable, the third waits for bytes.
    tokio::select! {
        biased;
        _ = &mut older => panic!("a stalled request ended"),
        () = async { while offset(&world, upload).await < 1000 { tokio::task::yield_now().await; } } => {}
    }
    let newer = append(&world, upload, streamed(&[]));
    let (older, newer) = tokio::join!(older, newer);
    let newer = newer.expect("the newest request goes on");
    assert!(matches!(older, Err(UploadError::Superseded { offset }) if offset == newer), "{older:?} {newer}");
    let rest = &content[usize::try_from(newer).expect("small")..];
    close(&world, upload, sha256(&content), sized(rest)).await.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn a_repeated_close_is_answered_like_the_first() {
    for size in [700, 4321] {
        let mut world = World::new().await;
        let (content, upload) = (bytes(size), open(&world).await);
        append(&world, upload, streamed(&content)).await.expect("appended");
        close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
        close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed again");
        world.restart();
        close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed by a new process");
        let other = close(&world, upload, sha256(b"other"), streamed(&[])).await;
        assert!(matches!(other, Err(UploadError::Unknown)), "{other:?}");
        assert_blob(&world, sha256(&content), &content).await;
    }
}

#[tokio::test]
async fn sha512_is_verified_announced_or_not() {
    for (size, announced) in [(10, false), (10, true), (4321, true), (4321, false)] {
        let world = World::new().await;
        let content = bytes(size);
        let upload = world.registry.start_upload(&repository("app"), announced).await.expect("a session");
        append(&world, upload, streamed(&content)).await.expect("appended");
        close(&world, upload, sha512(&content), streamed(&[])).await.expect("closed");
        assert_blob(&world, sha512(&content), &content).await;

        let upload = world.registry.start_upload(&repository("app"), announced).await.expect("a session");
        append(&world, upload, streamed(&content)).await.expect("appended");
        let error = close(&world, upload, sha512(b"other"), streamed(&[])).await.expect_err("wrong");
        assert!(matches!(error, UploadError::DigestMismatch { .. }), "{error:?}");
        assert_eq!(world.objects_after_sweep().await.len(), 1);
    }
}

#[tokio::test]
async fn a_cancelled_or_expired_session_leaves_nothing() {
    let world = World::new().await;
    let cancelled = open(&world).await;
    append(&world, cancelled, streamed(&bytes(2500))).await.expect("appended");
    world.registry.cancel_upload(&repository("other"), cancelled).await.expect_err("of another repository");
    world.registry.cancel_upload(&repository("app"), cancelled).await.expect("cancelled");
    world.registry.cancel_upload(&repository("app"), cancelled).await.expect_err("cancelled already");

    let expired = open(&world).await;
    append(&world, expired, chunk(0, &bytes(2500))).await.expect("appended");
    world.clock.advance(Duration::from_secs(3601));
    assert_eq!(world.objects_after_sweep().await, Vec::<String>::new());
    assert!(matches!(append(&world, expired, streamed(b"x")).await, Err(UploadError::Unknown)));
    assert!(world.store.list_multiparts(None).await.expect("a listing").items.is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_its_range_is_refused() {
    let world = World::new().await;
    let upload = open(&world).await;
    let short = Content { length: None, range: Some("0-99".parse().expect("a range")), ..streamed(&bytes(50)) };
    assert!(matches!(append(&world, upload, short).await, Err(UploadError::Length)));
    let long = Content { length: None, range: Some("0-99".parse().expect("a range")), ..streamed(&bytes(150)) };
    assert!(matches!(append(&world, upload, long).await, Err(UploadError::Length)));
    assert_eq!(offset(&world, upload).await, 0);
}

#[tokio::test]
async fn too_many_sessions_are_refused_until_some_end() {
    let world = World::new().await;
    let mut open_ones = Vec::new();
    for _ in 0..100 {
        open_ones.push(open(&world).await);
    }
    let error = world.registry.start_upload(&repository("app"), false).await.expect_err("one too many");
    assert!(matches!(error, UploadError::TooMany), "{error:?}");
    world.registry.cancel_upload(&repository("app"), open_ones[7]).await.expect("cancelled");
    open(&world).await;
}

fn unavailable(moment: Moment) -> StoreFault {
    StoreFault::Fail(moment, BlobError::Unavailable("injected".to_owned()))
}

#[tokio::test]
async fn p2_a_part_that_is_lost_ends_the_prefix_that_is_kept() {
    for moment in [Moment::Before, Moment::After] {
        let world = World::new().await;
        let (content, upload) = (bytes(5500), open(&world).await);
        append(&world, upload, chunk(0, &content[..1000])).await.expect("appended");
        world.store.inject(Operation::PutPart, unavailable(moment));
        let error = append(&world, upload, streamed(&content[1000..])).await.expect_err("a part was lost");
        assert!(matches!(&error, UploadError::Fault(fault) if fault.is_transient()), "{error:?}");
        assert_eq!(offset(&world, upload).await, 1000);
        append(&world, upload, streamed(&content[1000..])).await.expect("appended");
        close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
        assert_blob(&world, sha256(&content), &content).await;
    }
}

#[tokio::test]
async fn p2_what_a_request_was_told_survives_a_power_cut() {
    let world = World::new().await;
    let (content, upload) = (bytes(5500), open(&world).await);
    append(&world, upload, chunk(0, &content[..2000])).await.expect("appended");
    append(&world, upload, broken(&content[2000..4500])).await.expect_err("broken");
    assert_eq!(offset(&world, upload).await, 4000);
    world.store.inner().cut_power();
    append(&world, upload, streamed(&content[4000..])).await.expect("appended");
    world.store.inner().cut_power();
    close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn p2_a_completion_that_was_written_down_survives_a_power_cut() {
    let mut world = World::new().await;
    let (content, upload) = (bytes(4321), open(&world).await);
    world.store.inject(Operation::Complete, unavailable(Moment::Before));
    close(&world, upload, sha256(&content), sized(&content)).await.expect_err("injected");
    world.store.inner().cut_power();
    world.restart();
    close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn p2_parts_that_cannot_be_made_durable_are_sent_again() {
    let world = World::new().await;
    let (content, upload) = (bytes(5500), open(&world).await);
    append(&world, upload, chunk(0, &content[..1000])).await.expect("appended");
    world.store.inject(Operation::Persist, unavailable(Moment::Before));
    append(&world, upload, streamed(&content[1000..])).await.expect_err("not durable");
    assert_eq!(offset(&world, upload).await, 1000);
    append(&world, upload, streamed(&content[1000..])).await.expect("appended");
    close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn p2_a_close_whose_completion_fails_or_whose_answer_is_lost_can_be_repeated() {
    for operation in [Operation::Complete, Operation::PutPart, Operation::CreateMultipart] {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::new().await;
            let (content, upload) = (bytes(4321), open(&world).await);
            world.store.inject(operation, unavailable(moment));
            let error = close(&world, upload, sha256(&content), sized(&content)).await.expect_err("injected");
            assert!(matches!(&error, UploadError::Fault(fault) if fault.is_transient()), "{error:?}");
            world.restart();
            close(&world, upload, sha256(&content), sized(&content)).await.expect("closed");
            assert_eq!(world.pull(&repository("app"), sha256(&content)).await, content);
        }
    }
}

#[tokio::test]
async fn p4_whoever_takes_over_finishes_a_completion_that_its_owner_never_answered() {
    let mut world = World::new().await;
    let (content, upload, gate) = (bytes(4321), open(&world).await, Gate::default());
    append(&world, upload, streamed(&content)).await.expect("appended");
    world.store.inject(Operation::Complete, StoreFault::Hang(Moment::After, gate.clone()));
    let former = Arc::clone(&world.registry);
    let digest = sha256(&content);
    let mut stalled =
        Box::pin(async move { former.close_upload(&repository("app"), upload, digest, streamed(&[])).await });
    tokio::select! {
        biased;
        _ = &mut stalled => panic!("the completion hangs"),
        () = gate.reached() => {}
    }
    world.restart();
    close(&world, upload, digest, streamed(&[])).await.expect("finished by the new owner");
    gate.open();
    let woken = stalled.await;
    assert!(!matches!(woken, Err(UploadError::DigestMismatch { .. })), "{woken:?}");
    assert_blob(&world, digest, &content).await;
}

#[tokio::test]
async fn p4_a_completion_under_way_is_waited_for() {
    let mut world = World::new().await;
    let (content, upload, gate) = (bytes(4321), open(&world).await, Gate::default());
    append(&world, upload, streamed(&content)).await.expect("appended");
    world.store.inject(Operation::Complete, StoreFault::Hang(Moment::Before, gate.clone()));
    world.store.inject(Operation::Complete, StoreFault::Fail(Moment::Before, BlobError::MultipartUnknown));
    let (former, digest) = (Arc::clone(&world.registry), sha256(&content));
    let stalled = async move { former.close_upload(&repository("app"), upload, digest, streamed(&[])).await };
    let mut stalled = Box::pin(stalled);
    tokio::select! {
        biased;
        _ = &mut stalled => panic!("the completion hangs"),
        () = gate.reached() => {}
    }
    world.restart();
    let appears_later = async {
        while world.store.calls(Operation::Head) < 3 {
            tokio::task::yield_now().await;
        }
        gate.open();
    };
    let (closed, ()) = futures_util::join!(close(&world, upload, digest, streamed(&[])), appears_later);
    closed.expect("closed");
    assert_blob(&world, digest, &content).await;
}

#[tokio::test]
async fn p4_a_session_whose_object_was_completed_without_a_commit_ends_and_its_client_begins_anew() {
    for closes in [true, false] {
        let world = World::new().await;
        let (content, upload) = (bytes(2500), open(&world).await);
        append(&world, upload, streamed(&content[..2000])).await.expect("two parts");
        // As a close by an unannounced SHA-512 digest leaves it that dies before it has committed anything.
        let multiparts = world.store.inner().list_multiparts(None).await.expect("a listing").items;
        world.store.inner().abort(&multiparts[0].key, &multiparts[0].id).await.expect("it is gone");
        let rest = chunk(2000, &content[2000..]);
        let ended = if closes {
            close(&world, upload, sha256(&content), rest).await
        } else {
            append(&world, upload, streamed(&content[2000..])).await.map(drop)
        };
        assert!(matches!(ended, Err(UploadError::Unknown)), "{ended:?}");
        let status = world.registry.upload_status(&repository("app"), upload).await;
        assert!(matches!(status, Err(UploadError::Unknown)), "{status:?}");
        assert_eq!(world.objects_after_sweep().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_session_that_can_never_be_completed_ends() {
    for error in [BlobError::MultipartUnknown, BlobError::Broken("a part is gone".to_owned())] {
        let world = World::new().await;
        let (content, upload) = (bytes(4321), open(&world).await);
        world.store.inject(Operation::Complete, StoreFault::Fail(Moment::Before, error));
        let closed = close(&world, upload, sha256(&content), sized(&content)).await;
        assert!(matches!(closed, Err(UploadError::Fault(Fault::Inconsistent(_)))), "{closed:?}");
        let status = world.registry.upload_status(&repository("app"), upload).await;
        assert!(matches!(status, Err(UploadError::Unknown)), "{status:?}");
        assert_eq!(world.objects_after_sweep().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_session_does_not_expire_under_a_request_that_closes_it() {
    let world = World::new().await;
    let (content, upload, resumed) = (bytes(4321), open(&world).await, CancellationToken::new());
    append(&world, upload, chunk(0, &content[..700])).await.expect("appended");
    let (begun, last) = (resumed.clone(), Bytes::copy_from_slice(&content[2000..]));
    let pause = async move {
        begun.cancelled().await;
        Ok(last)
    };
    let body = streamed(&content[700..2000]).body.chain(stream::once(pause)).boxed();
    let closing = close(&world, upload, sha256(&content), Content { body, ..streamed(&[]) });
    let session = || world.registry.metadata.query().and_then(|query| query.upload(&upload)).expect("a query");
    let now = || world.registry.ports.now(&world.registry.metadata);
    let time_passes = async {
        let first = now();
        // What was stamped before time passed and applied after it holds time up; then some more has to pass.
        while now().0 - first.0 < 150 * 60_000 {
            world.pass(Duration::from_mins(50));
            while session().is_some_and(|session| session.touched < now()) {
                tokio::task::yield_now().await;
            }
            world.registry.sweep().await.expect("a sweep");
        }
        resumed.cancel();
    };
    let (closed, ()) = futures_util::join!(closing, time_passes);
    closed.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn p4_a_stalled_owner_that_wakes_up_later_changes_nothing() {
    let mut world = World::new().await;
    let (content, upload, gate) = (bytes(3500), open(&world).await, Gate::default());
    world.store.inject(Operation::Put, StoreFault::Hang(Moment::After, gate.clone()));
    let former = Arc::clone(&world.registry);
    let tail = streamed(&content[..700]);
    let mut stalled = Box::pin(async move { former.append_upload(&repository("app"), upload, tail).await });
    tokio::select! {
        biased;
        _ = &mut stalled => panic!("the put hangs"),
        () = gate.reached() => {}
    }
    world.restart();
    append(&world, upload, streamed(&content)).await.expect("appended by the new owner");
    gate.open();
    assert!(matches!(stalled.await, Err(UploadError::Superseded { offset: 3500 })), "fenced by its epoch");
    close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
    assert_eq!(world.pull(&repository("app"), sha256(&content)).await, content);
}

/// A store knows nothing of epochs: it refuses the late part since the object is complete.
#[tokio::test]
async fn p4_a_part_that_comes_after_another_has_closed_the_session_is_no_fault_of_the_store() {
    for closing in [false, true] {
        let mut world = World::new().await;
        let (content, upload, gate) = (bytes(3500), open(&world).await, Gate::default());
        append(&world, upload, streamed(&content[..1200])).await.expect("appended");
        world.store.inject(Operation::PutPart, StoreFault::Hang(Moment::Before, gate.clone()));
        let (former, late, digest) = (Arc::clone(&world.registry), streamed(&content[1200..]), sha256(&content));
        let mut stalled = Box::pin(async move {
            if closing {
                former.close_upload(&repository("app"), upload, digest, late).await
            } else {
                former.append_upload(&repository("app"), upload, late).await.map(drop)
            }
        });
        tokio::select! {
            biased;
            _ = &mut stalled => panic!("the part hangs"),
            () = gate.reached() => {}
        }
        world.restart();
        close(&world, upload, digest, streamed(&content[1200..])).await.expect("closed by the new owner");
        gate.open();
        let woken = stalled.await;
        assert!(matches!(woken, Err(UploadError::Unknown)), "closing: {closing}: {woken:?}");
        assert_blob(&world, digest, &content).await;
    }
}

#[tokio::test]
async fn p4_a_request_does_not_leave_before_its_parts_even_if_its_last_one_fails() {
    let world = World::new().await;
    let (content, upload, gate) = (bytes(2500), open(&world).await, Gate::default());
    for _ in 0..2 {
        world.store.inject(Operation::PutPart, StoreFault::Hang(Moment::Before, gate.clone()));
    }
    world.store.inject(Operation::PutPart, unavailable(Moment::Before));
    let (head, last) = (streamed(&content[..2400]), Bytes::copy_from_slice(&content[2400..]));
    let store = Arc::clone(&world.store);
    let when_two_are_sent = async move {
        while store.calls(Operation::PutPart) < 2 {
            tokio::task::yield_now().await;
        }
        Ok(last)
    };
    let body = head.body.chain(stream::once(when_two_are_sent)).boxed();
    let mut appending = Box::pin(append(&world, upload, Content { body, ..streamed(&[]) }));
    let the_last_has_failed = async {
        while world.store.calls(Operation::PutPart) < 3 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        left = &mut appending => panic!("two parts are on their way: {left:?}"),
        () = the_last_has_failed => {}
    }
    gate.open();
    appending.await.expect_err("the last part failed");
    assert_eq!(offset(&world, upload).await, 2000, "what is durable is kept");
    append(&world, upload, streamed(&content[2000..])).await.expect("appended");
    close(&world, upload, sha256(&content), streamed(&[])).await.expect("closed");
    assert_blob(&world, sha256(&content), &content).await;
}

#[tokio::test]
async fn p5_bytes_count_against_the_budget_until_they_are_durable() {
    for (before, operation) in [(0, Operation::Put), (1700, Operation::PutPart)] {
        let world = World::new().await;
        let (content, upload, gate) = (bytes(before + 200), open(&world).await, Gate::default());
        if before > 0 {
            append(&world, upload, chunk(0, &content)).await.expect("appended");
        }
        world.store.inject(operation, StoreFault::Hang(Moment::Before, gate.clone()));
        let rest = if before > 0 { streamed(&[]) } else { sized(&content) };
        let mut closing = Box::pin(close(&world, upload, sha256(&content), rest));
        tokio::select! {
            biased;
            closed = &mut closing => panic!("the store hangs: {closed:?}"),
            () = gate.reached() => {}
        }
        assert!(world.registry.budget().used() > 0);
        gate.open();
        closing.await.expect("closed");
        assert_eq!(world.registry.budget().used(), 0);
    }
}

#[tokio::test]
async fn p5_bytes_count_even_if_the_client_is_gone() {
    let (world, content, gate) = (World::new().await, bytes(700), Gate::default());
    world.store.inject(Operation::Put, StoreFault::Hang(Moment::Before, gate.clone()));
    let app = repository("app");
    tokio::select! {
        biased;
        pushed = world.registry.upload_blob(&app, sha256(&content), sized(&content)) => panic!("{pushed:?}"),
        () = gate.reached() => {} // and the push is dropped
    }
    assert!(world.registry.budget().used() > 0);
    gate.open();
    world.registry.drain().await;
    assert_eq!(world.registry.budget().used(), 0);
}

#[tokio::test]
async fn a_push_without_a_session_leaves_none_when_its_client_goes_away() {
    let (world, content, gone) = (World::new().await, bytes(2500), CancellationToken::new());
    let breaks = gone.clone().cancelled_owned().map(|()| Err(BodyError::Broken));
    let body = streamed(&content).body.chain(stream::once(breaks)).boxed();
    let (app, open) = (repository("app"), || world.registry.metadata.query().and_then(|query| query.uploads_open()));
    let two_parts_are_there = async {
        while world.store.calls(Operation::PutPart) < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        pushed = world.registry.upload_blob(&app, sha256(&content), Content { body, ..streamed(&[]) }) => panic!("{pushed:?}"),
        () = two_parts_are_there => {} // and the push is dropped
    }
    assert_eq!(open().expect("a query"), 1);
    gone.cancel();
    world.registry.drain().await;
    assert_eq!(open().expect("a query"), 0);
    assert_eq!(world.objects_after_sweep().await, Vec::<String>::new());
}

#[tokio::test]
async fn p11_naming_a_session_of_another_repository_does_not_disturb_it() {
    let world = World::new().await;
    let upload = open(&world).await;
    let registry = Arc::clone(&world.registry);
    let stalling = stalled(&bytes(1500));
    let mut push = Box::pin(async move { registry.append_upload(&repository("app"), upload, stalling).await });
    tokio::select! {
        biased;
        _ = &mut push => panic!("a stalled request ended"),
        () = async { while offset(&world, upload).await < 1000 { tokio::task::yield_now().await; } } => {}
    }
    let other = repository("other");
    let stray = world.registry.append_upload(&other, upload, streamed(b"stray")).await;
    assert!(matches!(stray, Err(UploadError::Unknown)), "{stray:?}");
    let stray = world.registry.cancel_upload(&other, upload).await;
    assert!(matches!(stray, Err(UploadError::Unknown)), "{stray:?}");
    assert!(push.now_or_never().is_none(), "the push goes on");
}

#[tokio::test]
async fn p5_a_push_that_gets_no_memory_is_told_to_come_back() {
    let world = World::new().await;
    let upload = open(&world).await;
    let _all = world.registry.budget().reserve(u64::MAX).await;
    let unread = stream::once(async { panic!("a socket is not read without memory") }).boxed();
    let error = append(&world, upload, Content { body: unread, ..streamed(&[]) }).await.expect_err("no memory");
    assert!(matches!(error, UploadError::Busy), "{error:?}");
    let pushed = world.registry.upload_blob(&repository("app"), sha256(b"content"), sized(b"content")).await;
    assert!(matches!(pushed, Err(UploadError::Busy)), "{pushed:?}");
    let collected = world.registry.collect(streamed(b"content").body, 7).await;
    assert!(matches!(collected, Err(CollectError::Busy)), "{collected:?}");
}

#[tokio::test]
async fn p5_a_client_that_trickles_gives_its_memory_back() {
    let world = World::new().await;
    let upload = open(&world).await;
    let error = append(&world, upload, stalled(&bytes(1500))).await.expect_err("it never ends");
    assert!(matches!(error, UploadError::Body(BodyError::Idle)), "{error:?}");
    assert_eq!(world.registry.budget().used(), 0);
    assert_eq!(offset(&world, upload).await, 1000, "what it sent in full parts stays");
    let collected = world.registry.collect(stalled(b"cont").body, 7).await;
    assert!(matches!(collected, Err(CollectError::Body(BodyError::Idle))), "{collected:?}");
    assert_eq!(world.registry.budget().used(), 0);
}

/// One step of a client that pushes by any mixture of requests.
#[derive(Clone, Debug)]
enum Step {
    Streamed(usize),
    Chunk(usize),
    Broken(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![0..40_usize, 900..1100_usize, 0..3500_usize];
    let step = prop_oneof![
        size.clone().prop_map(Step::Streamed),
        size.clone().prop_map(|size| Step::Chunk(size + 1)),
        size.prop_map(Step::Broken),
        Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn p4_any_mixture_of_requests_and_crashes_pushes_the_same_bytes(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            let (content, upload) = (bytes(40_000), open(&world).await);
            let mut at = 0;
            for step in steps {
                let before = offset(&world, upload).await;
                assert_eq!(before, at as u64);
                match step {
                    Step::Streamed(size) => {
                        append(&world, upload, streamed(&content[at..at + size])).await.expect("appended");
                        at += size;
                    }
                    Step::Chunk(size) => {
                        append(&world, upload, chunk(before, &content[at..at + size])).await.expect("appended");
                        at += size;
                    }
                    Step::Broken(size) => {
                        append(&world, upload, broken(&content[at..at + size])).await.expect_err("broken");
                        let kept = offset(&world, upload).await;
                        assert!(kept >= before && kept <= (at + size) as u64);
                        assert!(kept == before || kept.is_multiple_of(PART_SIZE));
                        at = usize::try_from(kept).expect("small");
                    }
                    Step::Restart => world.restart(),
                }
            }
            close(&world, upload, sha256(&content[..at]), streamed(&[])).await.expect("closed");
            assert_blob(&world, sha256(&content[..at]), &content[..at]).await;
        });
    }
}

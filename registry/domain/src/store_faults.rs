//! The store fails, loses or lies: what is told, and what is left.

use std::time::Duration;

use roadstead_blobs::{BlobError, Fault as StoreFault, Moment, MultipartStore as _, ObjectStore as _, Operation};
use roadstead_oci::{Manifest, MediaType, Reference};

use crate::fixture::{World, bytes, chunk, repository, sha256, sha512, sized, streamed};
use crate::{BlobReadError, Fault, Precondition, UploadError};

/// Where the chunks of the push end: full parts with a short one behind them, more behind that one, the rest.
const CHUNKS: [usize; 3] = [2500, 3200, 5100];

/// Pushes as a client does that comes back after each failure, from where it is told; answers how often it had to.
async fn push_persistently(world: &World, content: &[u8]) -> usize {
    let app = repository("app");
    let upload = world.registry.start_upload(&app, false).await.expect("a session");
    let mut failures = 0;
    loop {
        let offset = world.registry.upload_status(&app, upload).await.expect("a status").offset;
        let offset = usize::try_from(offset).expect("small");
        let done = match CHUNKS.iter().find(|end| **end > offset) {
            Some(&end) => {
                let more = chunk(offset as u64, &content[offset..end]);
                world.registry.append_upload(&app, upload, more).await.map(|_status| ())
            }
            None => world.registry.close_upload(&app, upload, sha256(content), streamed(&[])).await,
        };
        match done {
            Ok(()) if offset == content.len() => return failures,
            Ok(()) => {}
            Err(UploadError::Fault(fault)) if fault.is_transient() => failures += 1,
            Err(error) => panic!("a client cannot go on after: {error}"),
        }
    }
}

#[tokio::test]
async fn p4_whichever_call_of_the_store_fails_a_push_goes_on_from_what_it_is_told() {
    let operations = [
        Operation::Put,
        Operation::Get,
        Operation::CreateMultipart,
        Operation::PutPart,
        Operation::CopyParts,
        Operation::Complete,
    ];
    let content = bytes(5100);
    let mut met = 0;
    for (operation, moment) in
        operations.iter().flat_map(|operation| [(*operation, Moment::Before), (*operation, Moment::After)])
    {
        for earlier in 0.. {
            let world = World::new().await;
            for _ in 0..earlier {
                world.store.inject(operation, StoreFault::Truncate(u64::MAX)); // which changes nothing
            }
            let down = BlobError::Unavailable("injected".to_owned());
            world.store.inject(operation, StoreFault::Fail(moment, down));
            if push_persistently(&world, &content).await == 0 {
                break; // there are not so many calls
            }
            assert_eq!(world.pull(&repository("app"), sha256(&content)).await, content);
            world.clock.advance(Duration::from_hours(25));
            assert_eq!(world.objects_after_sweep().await.len(), 1, "{operation:?} {earlier} {moment:?}");
            world.registry.sweep_multiparts().await.expect("a sweep");
            let left = world.store.inner().list_multiparts(None).await.expect("a listing").items;
            assert!(left.is_empty(), "{operation:?} {earlier} {moment:?} leaves {left:?}");
            met += 1;
        }
    }
    assert!(met >= 14, "only {met} calls failed");
}

#[tokio::test]
async fn p1_bytes_that_the_store_gives_wrongly_make_no_blob_and_no_manifest() {
    let (world, app) = (World::new().await, repository("app"));
    // A digest that was not announced has the object read once more.
    let content = bytes(5100);
    let upload = world.registry.start_upload(&app, false).await.expect("a session");
    world.registry.append_upload(&app, upload, streamed(&content)).await.expect("appended");
    world.store.inject(Operation::Get, StoreFault::Flip(3000));
    let closed = world.registry.close_upload(&app, upload, sha512(&content), streamed(&[])).await;
    assert!(matches!(closed, Err(UploadError::DigestMismatch { .. })), "{closed:?}");
    world.registry.find_blob(&app, &sha512(&content)).await.expect_err("no blob was made");

    let padding = "x".repeat(100_000);
    let json = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"padding":"{padding}"}}}}"#);
    let manifest = Manifest::parse(Some(&MediaType::OCI_INDEX), json.into()).expect("a manifest");
    let tag: Reference = "v1".parse().expect("a tag");
    world.registry.put_manifest(&app, &tag, &[], Precondition::None, &manifest).await.expect("stored");
    let found = world.registry.find_manifest(&app, &tag).await.expect("found");
    for lie in [StoreFault::Flip(70_000), StoreFault::Truncate(70_000), StoreFault::Cut(70_000)] {
        world.store.inject(Operation::Get, lie);
        world.registry.read_manifest(&found).await.expect_err("it is not the manifest");
    }
    let read = world.registry.read_manifest(&found).await.expect("the store has recovered, and nothing wrong was kept");
    assert_eq!(&read, manifest.bytes());
}

#[tokio::test]
async fn what_the_store_has_lost_is_not_said_to_be_unknown() {
    let (world, app) = (World::new().await, repository("app"));
    let content = bytes(700);
    world.registry.upload_blob(&app, sha256(&content), sized(&content)).await.expect("acknowledged");
    let objects = world.store.list("", None).await.expect("a listing").items;
    let keys: Vec<_> = objects.into_iter().map(|object| object.key).collect();
    world.store.inner().delete(&keys).await.expect("its write was none");
    let blob = world.registry.find_blob(&app, &sha256(&content)).await.expect("the fact is there");
    let read = world.registry.open_blob(&blob, 0..blob.size()).await;
    assert!(matches!(read.err(), Some(BlobReadError::Fault(Fault::Inconsistent(_)))));
}

//! Cases about whole objects.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt, future, join};
use roadstead_oci::ObjectKey;

use super::content::content;
use super::{Subject, Violation, ensure};
use crate::error::BlobError;
use crate::store::MAX_DELETE;

pub(super) async fn reads_back(subject: &Subject) -> Result<(), Violation> {
    let sizes = [1, 100_000, subject.part_size, subject.part_size + 1];
    let write = |(seed, &size)| async move {
        let (key, content) = (subject.blob(), content(seed, size));
        subject.store.put(&key, content.clone()).await?;
        Ok::<_, BlobError>((key, content))
    };
    // At once: calls do not get in each other's way.
    for (key, content) in future::try_join_all((1..).zip(&sizes).map(write)).await? {
        subject.expect(&key, &content).await?;
    }
    Ok(())
}

pub(super) async fn empty(subject: &Subject) -> Result<(), Violation> {
    let key = subject.blob();
    subject.store.put(&key, Bytes::new()).await?;
    let info = subject.store.head(&key).await?;
    ensure!(info.as_ref().is_some_and(|info| info.size == 0), "head says {info:?} of an empty object");
    let listed = subject.store.list(key.as_str(), None).await?;
    ensure!(listed.items.len() == 1, "an empty object is not in the listing");
    Ok(())
}

pub(super) async fn absent(subject: &Subject) -> Result<(), Violation> {
    let key = subject.blob();
    subject.expect_absent(&key).await?;
    subject.store.delete(&[key]).await?;
    subject.store.delete(&[]).await?;
    Ok(())
}

pub(super) async fn ranges(subject: &Subject) -> Result<(), Violation> {
    let (key, content) = (subject.blob(), content(1, subject.part_size));
    subject.store.put(&key, content.clone()).await?;
    let len = content.len();
    let middle = len / 2;
    for range in [0..1, 0..len, len - 1..len, 1..len, 0..len - 1, middle..middle + 1, middle - 1000..middle + 1000] {
        let read = subject.read(&key, range.start as u64..range.end as u64).await?;
        ensure!(read == content[range.clone()], "the bytes of {range:?} are others ({} of them)", read.len());
    }
    for range in [0..len + 1, len..len + 1, len - 1..len + 10] {
        let read = subject.read(&key, range.start as u64..range.end as u64).await;
        ensure!(read.is_err(), "{range:?} of an object of {len} bytes is read without an error");
    }
    Ok(())
}

pub(super) async fn written_again(subject: &Subject) -> Result<(), Violation> {
    let (key, content) = (subject.blob(), content(1, 1000));
    for _ in 0..3 {
        subject.store.put(&key, content.clone()).await?;
        subject.expect(&key, &content).await?;
    }
    let listed = subject.store.list(key.as_str(), None).await?;
    ensure!(listed.items.len() == 1, "an object that was written again is listed {} times", listed.items.len());
    Ok(())
}

pub(super) async fn written_new(subject: &Subject) -> Result<(), Violation> {
    let (key, first) = (subject.blob(), content(1, 1000));
    ensure!(subject.store.put_new(&key, first.clone()).await?, "a new object is not taken for one");
    ensure!(!subject.store.put_new(&key, content(2, 1000)).await?, "an object that is there is taken for a new one");
    subject.expect(&key, &first).await?;

    let key = subject.blob();
    let write = |seed| {
        let content = content(seed, 1000);
        let written = subject.store.put_new(&key, content.clone());
        async move { (written.await, content) }
    };
    // A server may tell some of them to come back; only one is told that it wrote.
    let written: Vec<_> = future::join_all((1..=8).map(write)).await;
    let winners: Vec<_> = written.into_iter().filter(|(result, _)| matches!(result, Ok(true))).collect();
    ensure!(winners.len() == 1, "{} of eight calls at once have written a new object", winners.len());
    subject.expect(&key, &winners[0].1).await
}

pub(super) async fn deleted(subject: &Subject) -> Result<(), Violation> {
    let keys = [subject.blob(), subject.blob(), subject.blob(), ObjectKey::tail((subject.ids)())];
    let kept = subject.blob();
    let content = content(1, 1000);
    for key in keys.iter().take(2).chain([&keys[3], &kept]) {
        subject.store.put(key, content.clone()).await?;
    }
    // One of them was never there.
    subject.store.delete(&keys).await?;
    for key in &keys {
        subject.expect_absent(key).await?;
    }
    subject.store.delete(&keys).await?;
    subject.expect(&kept, &content).await?;

    let mut many: Vec<ObjectKey> = (0..MAX_DELETE).map(|_| subject.blob()).collect();
    subject.store.delete(&many).await?;
    many.push(subject.blob());
    ensure!(subject.store.delete(&many).await.is_err(), "more deletes at once than are allowed");
    Ok(())
}

pub(super) async fn read_and_deleted(subject: &Subject) -> Result<(), Violation> {
    let (key, content) = (subject.blob(), content(1, 2 * subject.part_size));
    subject.store.put(&key, content.clone()).await?;
    let mut stream = subject.store.get(&key, 0..content.len() as u64).await?;
    let first = stream.try_next().await?.unwrap_or_default();
    let keys = [key];
    // At once, since a server may let a deletion wait for its readers.
    let (deleted, rest) = join!(subject.store.delete(&keys), stream.try_collect::<Vec<Bytes>>());
    deleted?;
    if let Ok(rest) = rest {
        let read = [&first[..], &rest.concat()].concat();
        ensure!(read == content, "the stream of a deleted object ended without an error and is not the object");
    }
    subject.expect_absent(&keys[0]).await
}

pub(super) async fn whole_or_absent(subject: &Subject) -> Result<(), Violation> {
    let (key, content) = (subject.blob(), content(1, subject.part_size));
    let write = subject.store.put(&key, content.clone());
    watched(subject, &key, &content, write).await
}

/// Awaits `write` while reading: the object must be all there or not at all.
pub(super) async fn watched(
    subject: &Subject,
    key: &ObjectKey,
    content: &Bytes,
    write: impl Future<Output = Result<(), BlobError>>,
) -> Result<(), Violation> {
    let done = AtomicBool::new(false);
    let write = async {
        let written = write.await;
        done.store(true, Ordering::Release);
        written
    };
    let watch = async {
        while !done.load(Ordering::Acquire) {
            match subject.read(key, 0..content.len() as u64).await {
                Ok(read) => ensure!(read == *content, "a reader saw half of the object"),
                Err(BlobError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            // Gives the writer its turn, even where reading never waits.
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    let (written, watched) = join!(write, watch);
    written?;
    watched?;
    subject.expect(key, content).await
}

pub(super) async fn dropped(subject: &Subject) -> Result<(), Violation> {
    let (written, deleted, content) = (subject.blob(), subject.blob(), content(1, subject.part_size));
    // Polled once, then dropped.
    let _ = subject.store.put(&written, content.clone()).now_or_never();
    subject.store.put(&written, content.clone()).await?;
    subject.expect(&written, &content).await?;
    subject.store.put(&deleted, content.clone()).await?;
    let _ = subject.store.delete(std::slice::from_ref(&deleted)).now_or_never();
    subject.store.delete(std::slice::from_ref(&deleted)).await?;
    subject.expect_absent(&deleted).await?;
    subject.expect(&written, &content).await
}

//! Cases about objects in parts.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt, future};
use roadstead_oci::{MultipartId, ObjectKey, Part};

use super::content::content;
use super::objects::watched;
use super::{Subject, Violation, ensure};
use crate::error::BlobError;

/// How often to look for an object that is being completed: a second or more of a server's, at a millisecond a look.
const LOOKS: usize = 1_000;

/// An upload under way.
struct Upload<'s> {
    subject: &'s Subject,
    key: ObjectKey,
    id: MultipartId,
}

impl Subject {
    async fn begin(&self) -> Result<Upload<'_>, BlobError> {
        let key = self.blob();
        let id = self.store.create_multipart(&key).await?;
        Ok(Upload { subject: self, key, id })
    }

    /// Two full parts and a short one.
    fn three_parts(&self, seed: u64) -> Bytes {
        content(seed, 2 * self.part_size + self.part_size / 3)
    }

    /// An object of three parts, completed.
    async fn made_of_parts(&self, seed: u64) -> Result<(ObjectKey, Bytes), BlobError> {
        let content = self.three_parts(seed);
        let upload = self.begin().await?;
        let parts = upload.write(&content).await?;
        upload.complete(&parts).await?;
        Ok((upload.key, content))
    }

    /// Waits for an object that another call is making.
    async fn appears(&self, key: &ObjectKey) -> Result<(), Violation> {
        for _ in 0..LOOKS {
            if self.store.head(key).await?.is_some() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Err(Violation(format!("{key} did not appear though its upload is gone")))
    }

    async fn lists(&self, id: &MultipartId) -> Result<bool, BlobError> {
        let mut next = None;
        loop {
            let page = self.store.list_multiparts(next.as_deref()).await?;
            if page.items.iter().any(|upload| upload.id == *id) {
                return Ok(true);
            }
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(false),
            }
        }
    }
}

impl Upload<'_> {
    async fn part(&self, number: u32, content: Bytes) -> Result<Part, BlobError> {
        self.subject.store.put_part(&self.key, &self.id, number, self.subject.part_size as u64, content).await
    }

    /// All parts of `content`, the last first and all at once.
    async fn write(&self, content: &Bytes) -> Result<Vec<Part>, BlobError> {
        let chunks = content.chunks(self.subject.part_size).map(|chunk| content.slice_ref(chunk));
        let chunks: Vec<_> = (1..).zip(chunks).collect();
        let writes = chunks.into_iter().rev().map(|(number, chunk)| self.part(number, chunk));
        let mut parts = future::try_join_all(writes).await?;
        parts.reverse();
        Ok(parts)
    }

    async fn persist(&self, parts: &[Part]) -> Result<(), BlobError> {
        self.subject.store.persist(&self.key, &self.id, parts).await
    }

    /// Persists what is there of the parts, and makes the object.
    async fn complete(&self, parts: &[Part]) -> Result<(), BlobError> {
        let _ = self.persist(parts).await;
        self.complete_persisted(parts).await
    }

    async fn complete_persisted(&self, parts: &[Part]) -> Result<(), BlobError> {
        self.subject.store.complete(&self.key, &self.id, parts).await
    }

    async fn abort(&self) -> Result<(), BlobError> {
        self.subject.store.abort(&self.key, &self.id).await
    }
}

pub(super) async fn completed(subject: &Subject) -> Result<(), Violation> {
    let content = subject.three_parts(1);
    let upload = subject.begin().await?;
    let parts = upload.write(&content).await?;
    let told: Vec<_> = parts.iter().map(|part| (part.number, part.size)).collect();
    let size = subject.part_size as u64;
    ensure!(told == [(1, size), (2, size), (3, size / 3)], "parts are told as {told:?}");
    subject.expect_absent(&upload.key).await?;
    upload.complete(&parts).await?;
    subject.expect(&upload.key, &content).await?;

    let listed = subject.store.list(upload.key.as_str(), None).await?;
    let sizes: Vec<_> = listed.items.iter().map(|info| info.size).collect();
    ensure!(sizes == [content.len() as u64], "the listing says sizes {sizes:?}");
    let part = subject.part_size;
    for range in [0..part, part - 1..part + 1, part..2 * part, part / 2..2 * part + 5, 2 * part..content.len()] {
        let read = subject.read(&upload.key, range.start as u64..range.end as u64).await?;
        ensure!(read == content[range.clone()], "the bytes of {range:?} are others ({} of them)", read.len());
    }
    subject.store.delete(std::slice::from_ref(&upload.key)).await?;
    subject.expect_absent(&upload.key).await
}

pub(super) async fn persisted(subject: &Subject) -> Result<(), Violation> {
    let content = subject.three_parts(1);
    let upload = subject.begin().await?;
    let parts = upload.write(&content).await?;
    upload.persist(&[]).await?;
    upload.persist(&parts[1..]).await?;
    upload.persist(&parts).await?;
    subject.expect_absent(&upload.key).await?;
    upload.complete(&parts).await?;
    subject.expect(&upload.key, &content).await?;
    let late = upload.persist(&parts).await;
    ensure!(matches!(late, Ok(()) | Err(BlobError::MultipartUnknown)), "parts of a completed upload: {late:?}");
    subject.expect(&upload.key, &content).await
}

pub(super) async fn shown(subject: &Subject) -> Result<(), Violation> {
    let content = subject.three_parts(1);
    let upload = subject.begin().await?;
    subject.store.show(&upload.key, &upload.id).await?;
    let parts = upload.write(&content).await?;
    let part = subject.part_size;
    let show = |range: Range<usize>| {
        subject.store.get_parts(&upload.key, &upload.id, &parts[..2], range.start as u64..range.end as u64)
    };
    if !subject.store.shows_parts() {
        let hidden = show(0..part).await.err();
        ensure!(matches!(hidden, Some(BlobError::NotFound)), "it shows parts: {hidden:?}");
        return Ok(());
    }
    for range in [0..part, part - 1..part + 1, part / 2..2 * part] {
        let read: Vec<Bytes> = show(range.clone()).await?.try_collect().await?;
        ensure!(read.concat() == content[range.clone()], "the bytes of {range:?} are others");
    }
    let beyond = show(part..2 * part + 1).await.err();
    ensure!(matches!(beyond, Some(BlobError::Broken(_))), "more than the parts have: {beyond:?}");
    // What has begun goes on, or fails.
    let begun = show(0..2 * part).await?;
    subject.expect_absent(&upload.key).await?;
    upload.complete(&parts).await?;
    if let Ok(read) = begun.try_collect::<Vec<Bytes>>().await {
        ensure!(read.concat() == content[..2 * part], "a read that began before the completion saw other bytes");
    }
    let late = show(0..part).await.err();
    ensure!(matches!(late, Some(BlobError::NotFound)), "parts of a completed upload: {late:?}");
    subject.expect(&upload.key, &content).await
}

pub(super) async fn one_part(subject: &Subject) -> Result<(), Violation> {
    let content = content(1, 10);
    let upload = subject.begin().await?;
    let parts = upload.write(&content).await?;
    upload.complete(&parts).await?;
    subject.expect(&upload.key, &content).await
}

pub(super) async fn part_replaced(subject: &Subject) -> Result<(), Violation> {
    let (old, new) = (subject.three_parts(1), subject.three_parts(2));
    let upload = subject.begin().await?;
    upload.write(&old).await?;
    // The short one too, with another length.
    upload.part(3, content(3, subject.part_size)).await?;
    let parts = upload.write(&new).await?;
    upload.complete(&parts).await?;
    subject.expect(&upload.key, &new).await
}

pub(super) async fn part_outdated(subject: &Subject) -> Result<(), Violation> {
    let (old, new) = (subject.three_parts(1), subject.three_parts(2));
    let upload = subject.begin().await?;
    let parts = upload.write(&old).await?;
    let replaced = upload.part(2, new.slice(subject.part_size..2 * subject.part_size)).await?;
    ensure!(replaced.etag != parts[1].etag, "a part with other bytes has the same etag");
    // Either the store still has the part that is named, or it says that it has not.
    match upload.complete(&parts).await {
        Ok(()) => subject.expect(&upload.key, &old).await,
        Err(_) => subject.expect_absent(&upload.key).await,
    }
}

pub(super) async fn completed_twice(subject: &Subject) -> Result<(), Violation> {
    let content = subject.three_parts(1);
    let upload = subject.begin().await?;
    let parts = upload.write(&content).await?;
    upload.complete(&parts).await?;
    // Servers differ here, and the caller looks at the object in either case.
    let again = upload.complete(&parts).await;
    ensure!(matches!(again, Ok(()) | Err(BlobError::MultipartUnknown)), "completing again says {again:?}");
    subject.expect(&upload.key, &content).await
}

pub(super) async fn completed_wrongly(subject: &Subject) -> Result<(), Violation> {
    let content = subject.three_parts(1);
    let upload = subject.begin().await?;
    let parts = upload.write(&content).await?;
    let mut unknown = parts.clone();
    unknown[1].etag.clone_from(&parts[0].etag);
    let gap = [parts[0].clone(), parts[2].clone()];
    let swapped = [parts[1].clone(), parts[0].clone(), parts[2].clone()];
    for wrong in [&unknown[..], &gap, &swapped, &[]] {
        let wrongly = upload.complete(wrong).await;
        ensure!(matches!(wrongly, Err(BlobError::Broken(_))), "completing wrongly says {wrongly:?}");
    }
    let size = subject.part_size as u64;
    for (number, len) in [(0, 1), (Part::MAX_NUMBER + 1, 1), (1, 0), (1, subject.part_size + 1)] {
        let content = super::content::content(2, len);
        let written = subject.store.put_part(&upload.key, &upload.id, number, size, content).await;
        ensure!(matches!(written, Err(BlobError::Broken(_))), "part {number} of {len} bytes: {written:?}");
    }
    subject.expect_absent(&upload.key).await?;
    upload.complete(&parts).await?;
    subject.expect(&upload.key, &content).await
}

pub(super) async fn part_dropped(subject: &Subject) -> Result<(), Violation> {
    let content = content(1, subject.part_size);
    let upload = subject.begin().await?;
    // Polled once, then dropped.
    let _ = upload.part(1, content.clone()).now_or_never();
    let part = upload.part(1, content.clone()).await?;
    upload.persist(std::slice::from_ref(&part)).await?;
    let _ = upload.complete_persisted(std::slice::from_ref(&part)).now_or_never();
    match upload.complete(&[part]).await {
        Ok(()) => {}
        // The first one goes on, perhaps still now.
        Err(BlobError::MultipartUnknown) => subject.appears(&upload.key).await?,
        Err(error) => return Err(error.into()),
    }
    subject.expect(&upload.key, &content).await
}

pub(super) async fn part_dropped_and_changed(subject: &Subject) -> Result<(), Violation> {
    let (old, new) = (content(1, subject.part_size), content(2, subject.part_size));
    let upload = subject.begin().await?;
    let _ = upload.part(1, old).now_or_never();
    let part = upload.part(1, new.clone()).await?;
    match upload.complete(&[part]).await {
        Ok(()) => {}
        // What was dropped came late and took the place.
        Err(BlobError::Broken(_)) => {
            subject.expect_absent(&upload.key).await?;
            let part = upload.part(1, new.clone()).await?;
            upload.complete(&[part]).await?;
        }
        Err(error) => return Err(error.into()),
    }
    subject.expect(&upload.key, &new).await
}

pub(super) async fn aborted(subject: &Subject) -> Result<(), Violation> {
    let content = subject.three_parts(1);
    let upload = subject.begin().await?;
    let parts = upload.write(&content).await?;
    upload.abort().await?;
    upload.abort().await?;
    // A small one: some servers answer and hang up before they have read a large one, so that the answer is lost.
    let written = upload.part(1, content.slice(..10)).await;
    ensure!(matches!(written, Err(BlobError::MultipartUnknown)), "a part of an aborted upload: {written:?}");
    let completed = upload.complete(&parts).await;
    ensure!(matches!(completed, Err(BlobError::MultipartUnknown)), "completing an aborted upload: {completed:?}");
    subject.expect_absent(&upload.key).await
}

pub(super) async fn aborted_late(subject: &Subject) -> Result<(), Violation> {
    let content = subject.three_parts(1);
    let upload = subject.begin().await?;
    let parts = upload.write(&content).await?;
    upload.complete(&parts).await?;
    upload.abort().await?;
    subject.expect(&upload.key, &content).await
}

pub(super) async fn separate(subject: &Subject) -> Result<(), Violation> {
    let (one, other) = (subject.begin().await?, subject.begin().await?);
    ensure!(one.id != other.id, "two uploads have the same id");
    let (content_one, content_other) = (subject.three_parts(1), subject.three_parts(2));
    let (parts_one, parts_other) = future::try_join(one.write(&content_one), other.write(&content_other)).await?;
    let stray = Upload { subject, key: one.key.clone(), id: other.id.clone() };
    let written = stray.part(1, content(3, 10)).await;
    ensure!(matches!(written, Err(BlobError::MultipartUnknown)), "a part under another's id: {written:?}");
    other.abort().await?;
    one.complete(&parts_one).await?;
    subject.expect(&one.key, &content_one).await?;
    let completed = other.complete(&parts_other).await;
    ensure!(matches!(completed, Err(BlobError::MultipartUnknown)), "completing an aborted upload: {completed:?}");
    subject.expect_absent(&other.key).await
}

pub(super) async fn whole_or_absent(subject: &Subject) -> Result<(), Violation> {
    let content = subject.three_parts(1);
    let upload = subject.begin().await?;
    let parts = upload.write(&content).await?;
    watched(subject, &upload.key, &content, upload.complete(&parts)).await
}

pub(super) async fn copied(subject: &Subject) -> Result<(), Violation> {
    let size = subject.part_size as u64;
    let in_parts = subject.made_of_parts(1).await?;
    let at_once = (subject.blob(), subject.three_parts(2));
    subject.store.put(&at_once.0, at_once.1.clone()).await?;
    for (source, content) in [in_parts, at_once] {
        let upload = subject.begin().await?;
        let mut parts = subject.store.copy_parts(&source, &upload.key, &upload.id, size, 2).await?;
        let told: Vec<_> = parts.iter().map(|part| (part.number, part.size)).collect();
        ensure!(told == [(1, size), (2, size)], "copied parts are told as {told:?}");
        // As when a client goes on after a short final part: that one is written anew, and more follow.
        let last = super::content::content(3, subject.part_size);
        parts.push(upload.part(3, last.clone()).await?);
        upload.complete(&parts).await?;
        subject.expect(&source, &content).await?;
        subject.store.delete(&[source]).await?;
        let expected = [&content[..2 * subject.part_size], &last].concat().into();
        subject.expect(&upload.key, &expected).await?;
    }
    Ok(())
}

pub(super) async fn copied_in_another_size(subject: &Subject) -> Result<(), Violation> {
    let (source, content) = subject.made_of_parts(1).await?;
    let upload = subject.begin().await?;
    let (size, half) = (subject.part_size as u64, subject.part_size as u64 / 2);
    let copy = |size, parts| subject.store.copy_parts(&source, &upload.key, &upload.id, size, parts);
    ensure!(copy(size, 3).await.is_err(), "more bytes were copied than there are");
    // Of which the second crosses a border of the source's parts.
    let parts = copy(size + half / 2, 1).await?;
    let missing = subject.store.copy_parts(&subject.blob(), &upload.key, &upload.id, size, 1).await;
    ensure!(matches!(missing, Err(BlobError::NotFound)), "parts of what is not there: {missing:?}");
    upload.complete(&parts).await?;
    subject.expect(&upload.key, &content.slice(..subject.part_size + subject.part_size / 2 / 2)).await
}

pub(super) async fn listed(subject: &Subject) -> Result<(), Violation> {
    let (one, other) = (subject.begin().await?, subject.begin().await?);
    for upload in [&one, &other] {
        let listed = subject.lists(&upload.id).await?;
        ensure!(listed || !subject.lists_multiparts, "an upload under way is not listed");
    }
    let parts = one.write(&content(1, 10)).await?;
    one.complete(&parts).await?;
    other.abort().await?;
    for upload in [&one, &other] {
        ensure!(!subject.lists(&upload.id).await?, "an upload is listed that is not under way any more");
    }
    Ok(())
}

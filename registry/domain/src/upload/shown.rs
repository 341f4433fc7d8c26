//! What mirrors are told of a session that is not closed yet, and what they may read of it: full parts, those included
//! that a closing request has written and that are no part of the session yet.

use std::ops::Range;

use roadstead_blobs::{BlobError, ByteStream};
use roadstead_metadata::{Multipart, Query, Upload, UploadOutline, UploadState};
use roadstead_oci::{Part, RepositoryName, UploadId};

use crate::blob::BlobReadError;
use crate::fault::Fault;
use crate::limits::SHOWN_FROM_PARTS;
use crate::registry::Registry;

impl Registry {
    /// Whether the bytes of a session can be read before it is closed, here or by way of another replica.
    pub fn shows_uploads(&self) -> bool {
        self.blobs.shows_parts()
    }

    /// A session as it may be told to mirrors: one of a client's, and not by which a mirror sends a blob that the others
    /// hear of when it is here; and one that is large.
    pub fn shown_upload(&self, query: &Query, upload: &UploadId) -> Result<Option<UploadOutline>, Fault> {
        if !upload.is_random() {
            return Ok(None);
        }
        let outline = query.upload_outline(upload)?;
        Ok(outline.filter(|outline| outline.whole >= SHOWN_FROM_PARTS * self.options.part_size))
    }

    /// The bytes of a range of a session, which must not be empty, and lie within its full parts or, once it is being
    /// completed or a blob, within all of it. Unknown is also what only another replica can read, since it has written it.
    /// What the bytes hash to has to be looked at when all have come.
    pub async fn read_upload(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        range: Range<u64>,
    ) -> Result<ByteStream, BlobReadError> {
        let mut record = self.session_shown(repository, upload)?;
        if reach(record.as_ref()) < range.end {
            // Another replica may have told of it.
            self.linearize().await?;
            record = self.session_shown(repository, upload)?;
        }
        let record = record.ok_or(BlobReadError::Unknown)?;
        let (multipart, parts, may_be_complete) = match record.state {
            UploadState::Receiving(progress) => (progress.multipart, progress.parts, false),
            UploadState::Completing { multipart, parts, .. } => (Some(multipart), parts, true),
            UploadState::Finished { digest, .. } => {
                let found = self.find_blob(repository, &digest).await?;
                return if range.end <= found.size() {
                    self.stream_blob(&found, range).await
                } else {
                    Err(BlobReadError::Unknown)
                };
            }
        };
        match multipart {
            Some(multipart) if range.end <= bytes_in(&parts) => {
                self.read_parts(&multipart, &parts, range, may_be_complete).await
            }
            _ => Err(BlobReadError::Unknown),
        }
    }

    /// A session, with what is shown of it.
    fn session_shown(&self, repository: &RepositoryName, upload: &UploadId) -> Result<Option<Upload>, Fault> {
        let query = self.metadata.query()?;
        let record = query.upload(upload)?;
        let mut record = record.filter(|record| record.repository == *repository);
        if let Some(Upload { state: UploadState::Receiving(progress), .. }) = &mut record {
            let last = progress.parts.last().map_or(0, |part| part.number);
            progress.parts.extend(query.shown_parts(upload, last)?);
        }
        Ok(record)
    }

    /// From the parts, or from the object that somebody has made of them meanwhile.
    async fn read_parts(
        &self,
        multipart: &Multipart,
        parts: &[Part],
        range: Range<u64>,
        may_be_complete: bool,
    ) -> Result<ByteStream, BlobReadError> {
        let Multipart { key, id } = multipart;
        match self.blobs.get_parts(key, id, parts, range.clone()).await {
            Ok(bytes) => return Ok(bytes),
            Err(BlobError::NotFound) if may_be_complete => {}
            Err(BlobError::NotFound) => return Err(BlobReadError::Unknown),
            Err(error) => return Err(Fault::from(error).into()),
        }
        match self.blobs.get(key, range).await {
            Ok(bytes) => Ok(bytes),
            Err(BlobError::NotFound) => Err(BlobReadError::Unknown),
            Err(error) => Err(Fault::from(error).into()),
        }
    }
}

/// How many bytes of a session can be read.
fn reach(record: Option<&Upload>) -> u64 {
    match record.map(|record| &record.state) {
        None => 0,
        Some(UploadState::Receiving(progress)) => bytes_in(&progress.parts),
        Some(UploadState::Completing { size, .. } | UploadState::Finished { size, .. }) => *size,
    }
}

fn bytes_in(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.size).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::fixture::{PART_SIZE, World, broken, bytes, repository, sha256, sized, stalled, streamed};
    use crate::upload::{BodyError, UploadError};

    async fn read(world: &World, upload: UploadId, range: Range<u64>) -> Result<Vec<u8>, BlobReadError> {
        let read = world.registry.read_upload(&repository("app"), &upload, range).await?;
        Ok(read.try_collect::<Vec<Bytes>>().await.expect("to its end").concat())
    }

    fn outline(world: &World, upload: UploadId) -> UploadOutline {
        let outline = world.registry.metadata().query().and_then(|query| query.upload_outline(&upload));
        outline.expect("facts").expect("the session")
    }

    async fn until_shown(world: &World, upload: UploadId, whole: u64) {
        let mut applied = world.registry.metadata().subscribe_applied();
        while outline(world, upload).whole != whole {
            applied.changed().await.expect("the facts go on");
        }
    }

    #[tokio::test]
    async fn parts_of_a_session_are_read_before_and_after_it_is_closed_and_by_its_repository_only() {
        let world = World::new().await;
        let (app, content) = (repository("app"), bytes(4_321));
        let upload = world.registry.start_upload(&app, false).await.expect("a session");
        assert!(matches!(read(&world, upload, 0..1).await, Err(BlobReadError::Unknown)));
        world.registry.append_upload(&app, upload, streamed(&content)).await.expect("appended");
        let UploadOutline { whole, digest, .. } = outline(&world, upload);
        assert_eq!((whole, digest), (4 * PART_SIZE, None));
        for range in [0..1, 900..2_100, 0..4_000] {
            let shown = read(&world, upload, range.start as u64..range.end as u64).await;
            assert_eq!(shown.expect("it is there"), content[range]);
        }
        assert!(matches!(read(&world, upload, 0..4_001).await, Err(BlobReadError::Unknown)), "no full part");
        let other = world.registry.read_upload(&repository("other"), &upload, 0..1).await;
        assert!(matches!(other, Err(BlobReadError::Unknown)));

        world.registry.close_upload(&app, upload, sha256(&content), streamed(&[])).await.expect("closed");
        assert_eq!(read(&world, upload, 3_000..4_321).await.expect("it is there"), content[3_000..]);
        assert!(matches!(read(&world, upload, 0..4_322).await, Err(BlobReadError::Unknown)));
    }

    #[tokio::test]
    async fn p4_a_closing_request_shows_what_it_has_written_and_rolls_back_to_its_start_all_the_same() {
        let mut world = World::new().await;
        world.registry.admit_mirror("eu", false).await.expect("a token");
        let (app, content, other) = (repository("app"), bytes(5_500), bytes(9_999).split_off(4_600));
        let upload = world.registry.start_upload(&app, false).await.expect("a session");
        world.registry.append_upload(&app, upload, streamed(&content[..1_200])).await.expect("appended");
        let closing = world.registry.close_upload(&app, upload, sha256(&content), stalled(&content[1_200..5_300]));
        tokio::select! {
            closed = closing => panic!("it is not whole: {closed:?}"),
            () = until_shown(&world, upload, 5_000) => {}
        }
        assert_eq!(read(&world, upload, 900..5_000).await.expect("it is there"), content[900..5_000]);
        assert!(matches!(read(&world, upload, 4_999..5_001).await, Err(BlobReadError::Unknown)), "no full part");
        let status = world.registry.upload_status(&app, upload).await.expect("it is known");
        assert_eq!(status.offset, 1_200, "its client sends all of it again");

        // Of another process, which knows of that request by what it has shown only; and then of the same one.
        for is_restarted in [true, false] {
            if is_restarted {
                world.restart();
            }
            let error = world.registry.close_upload(&app, upload, sha256(&content), broken(&other[..3_800])).await;
            assert!(matches!(error, Err(UploadError::Body(BodyError::Broken))), "{error:?}");
            let status = world.registry.upload_status(&app, upload).await.expect("it is known");
            assert_eq!(status.offset, 1_200);
        }
        let closed =
            world.registry.close_upload(&app, upload, sha256(&content[..3_300]), sized(&content[1_200..3_300]));
        closed.await.expect("less than was shown");
        assert_eq!(world.pull(&app, sha256(&content[..3_300])).await, content[..3_300]);
        assert_eq!(world.objects_after_sweep().await.len(), 1);
    }
}

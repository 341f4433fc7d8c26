//! An upload at home comes to a mirror while its client still sends it.
//!
//! ```text
//!  home:    session --parts, one after the other-----------------------> blob D
//!  mirror:  session of its own, named after it: append_ahead, hashed --> come_ahead: closed by D like any other
//! ```
//!
//! Nothing in that session is a blob before all of its bytes were hashed and have the digest that home has announced. If they
//! have another one, the session ends, and the blob comes as a whole. One that nobody goes on with expires.

use std::ops::Range;
use std::sync::Arc;

use roadstead_blobs::ByteStream;
use roadstead_metadata::{ClusterId, UploadState};
use roadstead_oci::{RepositoryName, UploadId};

use crate::blob::BlobReadError;
use crate::fault::Fault;
use crate::mirror::{Transfer, named_session};
use crate::registry::Registry;
use crate::upload::{Body, Content, UploadError};

impl Registry {
    /// Where the session here goes on into which an upload of `home` comes; it is opened, if there is none.
    pub async fn begin_ahead(
        &self,
        repository: &RepositoryName,
        home: ClusterId,
        upload: UploadId,
    ) -> Result<Transfer, UploadError> {
        let session = session_ahead(home, upload);
        match self.upload_state(&session)? {
            None => {
                self.open_named(repository, session, false).await?;
                Ok(Transfer { upload: Some(session), offset: 0 })
            }
            Some(UploadState::Receiving(progress)) => Ok(Transfer { upload: Some(session), offset: progress.offset }),
            Some(UploadState::Completing { .. } | UploadState::Finished { .. }) => Err(UploadError::Unknown),
        }
    }

    /// What has come of an upload of `home` that has become a blob of `size` bytes there; `None` if nothing has, or what
    /// cannot become that blob.
    pub fn come_ahead(&self, home: ClusterId, upload: UploadId, size: u64) -> Result<Option<Transfer>, Fault> {
        let session = session_ahead(home, upload);
        let offset = match self.upload_state(&session)? {
            Some(UploadState::Receiving(progress)) => progress.offset,
            // Its closing request needs only be repeated.
            Some(UploadState::Completing { size, .. }) => size,
            None | Some(UploadState::Finished { .. }) => 0,
        };
        Ok((offset > 0 && offset <= size).then_some(Transfer { upload: Some(session), offset }))
    }

    /// Appends the next bytes of an upload at home, a number of whole parts of this registry, each kept as soon as it is
    /// whole; how many are here then.
    pub async fn append_ahead(
        self: &Arc<Self>,
        repository: &RepositoryName,
        transfer: Transfer,
        body: Body,
    ) -> Result<u64, UploadError> {
        let upload = transfer.upload.ok_or(UploadError::Unknown)?;
        let content = Content { range: None, length: None, body };
        Ok(self.append_upload(repository, upload, content).await?.offset)
    }

    /// Bytes of a blob that is not whole yet, of those that have come by this transfer; unknown where what is stored cannot be
    /// read before it is whole. Whether they are the blob's shows when all of it has come.
    pub async fn read_transfer(
        &self,
        repository: &RepositoryName,
        transfer: &Transfer,
        range: Range<u64>,
    ) -> Result<ByteStream, BlobReadError> {
        match transfer.upload {
            Some(upload) if self.shows_uploads() => self.read_upload(repository, &upload, range).await,
            _ => Err(BlobReadError::Unknown),
        }
    }

    /// Drops what has come ahead of an upload of `home`, if anything has.
    pub async fn drop_ahead(
        &self,
        repository: &RepositoryName,
        home: ClusterId,
        upload: UploadId,
    ) -> Result<(), UploadError> {
        let session = session_ahead(home, upload);
        if matches!(self.upload_state(&session)?, None | Some(UploadState::Finished { .. })) {
            return Ok(());
        }
        match self.cancel_upload(repository, session).await {
            // Somebody else has ended it.
            Ok(()) | Err(UploadError::Unknown) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The session by which an upload of another registry comes: the same on every replica and after every restart.
fn session_ahead(home: ClusterId, upload: UploadId) -> UploadId {
    named_session(&format!("upload {upload} at {:032x}", home.0))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::fixture::{PART_SIZE, World, bytes, repository, sha256, streamed};

    const HOME: ClusterId = ClusterId(7);

    #[tokio::test]
    async fn p1_what_came_ahead_becomes_a_blob_by_its_digest_only_and_is_dropped_by_another() {
        let world = World::new().await;
        let (app, content) = (repository("app"), bytes(4_321));
        let size = content.len() as u64;
        for (digest, fits) in [(sha256(b"something else"), false), (sha256(&content), true)] {
            let upload = world.registry.start_upload(&app, false).await.expect("a name");
            assert_eq!(world.registry.come_ahead(HOME, upload, size).expect("facts"), None);
            let begun = world.registry.begin_ahead(&app, HOME, upload).await.expect("a session");
            let body = streamed(&content[..4_000]).body;
            let length = 4 * PART_SIZE;
            assert_eq!(world.registry.append_ahead(&app, begun, body).await.expect("appended"), length);
            assert_eq!(world.registry.come_ahead(HOME, upload, 3_999).expect("facts"), None, "more than the blob has");
            let come = world.registry.come_ahead(HOME, upload, size).expect("facts").expect("a session");
            assert_eq!(come.offset, length);
            assert!(world.registry.find_blob(&app, &digest).await.is_err());
            let read = world.registry.read_transfer(&app, &come, 10..3_000).await.expect("what has come");
            let read: Vec<Bytes> = read.try_collect().await.expect("bytes");
            assert!(read.concat() == content[10..3_000]);
            let rest = streamed(&content[4_000..]).body;
            let kept = world.registry.transfer_blob(&app, digest, size, come, rest).await;
            assert_eq!(kept.is_ok(), fits, "{kept:?}");
            assert_eq!(world.registry.find_blob(&app, &digest).await.is_ok(), fits);
            assert_eq!(world.registry.come_ahead(HOME, upload, size).expect("facts"), None);
            world.registry.drop_ahead(&app, HOME, upload).await.expect("it is over either way");
        }
        assert_eq!(world.pull(&app, sha256(&content)).await, content);
    }

    #[tokio::test]
    async fn what_came_ahead_is_dropped_by_itself_when_nobody_goes_on_with_it() {
        let world = World::new().await;
        let app = repository("app");
        for dropped in [true, false] {
            let upload = world.registry.start_upload(&app, false).await.expect("a name");
            let begun = world.registry.begin_ahead(&app, HOME, upload).await.expect("a session");
            let body = streamed(&bytes(2_000)).body;
            world.registry.append_ahead(&app, begun, body).await.expect("appended");
            if dropped {
                world.registry.drop_ahead(&app, HOME, upload).await.expect("dropped");
            } else {
                world.pass(world.registry.options.upload_expiry * 2);
            }
            assert_eq!(world.objects_after_sweep().await, Vec::<String>::new());
            assert_eq!(world.registry.come_ahead(HOME, upload, 9_999).expect("facts"), None);
        }
    }
}

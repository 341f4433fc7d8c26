//! Pushing a blob.
//!
//! ```text
//! start ----> session in the metadata: offset, hash state, parts, tail
//!   append -> claim -> receive: socket -> part buffer -> hash -> store (3 parts at once) -> checkpoint, part by part
//!   close --> claim -> receive -> verify -> complete the object -> link
//! ```
//!
//! * What a request was told of the offset is durable: bytes in the store, offset and hash state in one entry of the
//!   log. A request that breaks leaves the session at its last checkpoint; a closing one at its own start, even if mirrors
//!   were shown more meanwhile.
//! * No byte is stored under a digest before all of them were hashed.
//! * One request works on a session at a time, and the newest wins (see `writers`).
//! * The work runs in a task of its own, so that a client that goes away cannot leave it halfway.

mod close;
mod hashing;
mod object;
mod receive;
mod session;
mod shown;
mod single;
#[cfg(test)]
mod tests;
pub(crate) mod writers;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use roadstead_metadata::{CancelUpload, OpenUpload, Upload, UploadState};
use roadstead_oci::{ContentRange, Digest, Hasher, RepositoryName, UploadId};

use self::receive::Keep;
use self::session::Found;
use crate::collect::CollectError;
use crate::fault::Fault;
use crate::registry::Registry;

/// The body of a request, piece by piece.
pub type Body = BoxStream<'static, Result<Bytes, BodyError>>;

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client is gone, or broke the framing of its body.
    #[error("the connection broke in the middle of the body")]
    Broken,
    /// The client sent nothing for too long.
    #[error("the client sent nothing for too long")]
    Idle,
}

/// Bytes that a request brings.
pub struct Content {
    /// Where they belong, if the client said so (`Content-Range`).
    pub range: Option<ContentRange>,
    /// How many there are, if the client said so (`Content-Length`).
    pub length: Option<u64>,
    /// The bytes.
    pub body: Body,
}

/// Why an upload did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is no such session in this repository.
    #[error("the upload session is unknown: it was closed, cancelled, has expired, or never was")]
    Unknown,
    /// The bytes do not go on where the session stands.
    #[error("the session stands at offset {offset}")]
    OutOfOrder {
        /// Durable bytes.
        offset: u64,
    },
    /// A newer request on the same session has come.
    #[error("a newer request goes on with this session")]
    Superseded {
        /// Durable bytes.
        offset: u64,
    },
    /// The content has another digest; the session is over.
    #[error("the content has the digest {actual}")]
    DigestMismatch {
        /// What was received hashes to this.
        actual: Digest,
    },
    /// A SHA-512 digest for a session that did not announce it, and too large to be read once more.
    #[error(
        "a blob this large can be closed with a sha512 digest only if its session was opened with digest-algorithm=sha512"
    )]
    Sha512NotAnnounced,
    /// There are more or fewer bytes than the client said.
    #[error("the body is not as long as Content-Range says")]
    Length,
    /// The blob would be larger than any can be.
    #[error("a blob can have at most {max} bytes")]
    TooLarge {
        /// Part size times number of parts.
        max: u64,
    },
    /// Other pushes hold all of the memory budget.
    #[error("other pushes hold all of the memory for content in transit")]
    Busy,
    /// Too many sessions are open.
    #[error("too many upload sessions are open")]
    TooMany,
    /// The body ended before its end.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<CollectError> for UploadError {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::Busy => Self::Busy,
            CollectError::TooLong => Self::Length,
            CollectError::Body(error) => Self::Body(error),
        }
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    /// Durable bytes.
    pub offset: u64,
}

impl Registry {
    /// Opens a session. `sha512` says that the client will close it with a SHA-512 digest.
    pub async fn start_upload(&self, repository: &RepositoryName, sha512: bool) -> Result<UploadId, UploadError> {
        if self.metadata.query().map_err(Fault::from)?.uploads_open().map_err(Fault::from)? >= self.options.max_uploads
        {
            return Err(UploadError::TooMany);
        }
        let upload = self.ports.upload_id();
        let open = OpenUpload {
            upload,
            repository: repository.clone(),
            owner: self.incarnation,
            sha512,
            hash: Hasher::new().state(),
        };
        match self.propose(open).await? {
            Ok(()) => Ok(upload),
            Err(refused) => Err(Fault::Inconsistent(format!("a fresh upload session was refused: {refused}")).into()),
        }
    }

    /// Appends `content` to a session.
    pub async fn append_upload(
        self: &Arc<Self>,
        repository: &RepositoryName,
        upload: UploadId,
        content: Content,
    ) -> Result<UploadStatus, UploadError> {
        let (registry, repository) = (Arc::clone(self), repository.clone());
        self.detach(async move {
            match registry.claim(&repository, upload).await? {
                Found::Receiving(mut session) => {
                    let epoch = session.epoch;
                    match registry.receive(&mut session, content, Keep::EveryPart).await {
                        Ok(_nothing_left) => Ok(UploadStatus { offset: session.progress.offset }),
                        Err(error) => Err(registry.explained(upload, epoch, error).await),
                    }
                }
                // It has all its bytes, and its closing request needs only be repeated: `upload_status` says so too.
                Found::Completing(completing) => Err(UploadError::OutOfOrder { offset: completing.size }),
                Found::Finished { .. } => Err(UploadError::Unknown),
            }
        })
        .await
    }

    /// Appends `content` to a session and makes a blob of it, if it has the digest `claimed`.
    pub async fn close_upload(
        self: &Arc<Self>,
        repository: &RepositoryName,
        upload: UploadId,
        claimed: Digest,
        content: Content,
    ) -> Result<(), UploadError> {
        let (registry, repository) = (Arc::clone(self), repository.clone());
        self.detach(async move {
            match registry.claim(&repository, upload).await? {
                Found::Receiving(mut session) => {
                    let epoch = session.epoch;
                    let closed = async {
                        let received = registry.receive(&mut session, content, Keep::UntilClosed).await?;
                        registry.close(*session, claimed, received).await
                    };
                    match closed.await {
                        Ok(()) => Ok(()),
                        Err(error) => Err(registry.explained(upload, epoch, error).await),
                    }
                }
                Found::Completing(completing) => {
                    registry.finish_completing(upload, &repository, &completing).await?;
                    if completing.digest == claimed { Ok(()) } else { Err(UploadError::Unknown) }
                }
                // A client that did not get its answer asks again.
                Found::Finished { digest } if digest == claimed => Ok(()),
                Found::Finished { .. } => Err(UploadError::Unknown),
            }
        })
        .await
    }

    /// Where a session stands.
    pub async fn upload_status(
        &self,
        repository: &RepositoryName,
        upload: UploadId,
    ) -> Result<UploadStatus, UploadError> {
        self.linearize().await?;
        let record = self.metadata.query().map_err(Fault::from)?.upload(&upload).map_err(Fault::from)?;
        match record {
            Some(Upload { repository: its, state, .. })
                if its == *repository && !matches!(state, UploadState::Finished { .. }) =>
            {
                Ok(UploadStatus { offset: session::offset(&state) })
            }
            _ => Err(UploadError::Unknown),
        }
    }

    /// Ends a session; its bytes are deleted soon after.
    pub async fn cancel_upload(&self, repository: &RepositoryName, upload: UploadId) -> Result<(), UploadError> {
        let _turn = self.enter(repository, upload).await?;
        let cancel = CancelUpload { upload, repository: repository.clone() };
        self.propose(cancel).await?.map_err(|_refused| UploadError::Unknown)
    }

    /// Runs `work` to its end, even if whoever asked for it goes away.
    async fn detach<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, UploadError>> + Send + 'static,
    ) -> Result<T, UploadError> {
        match self.uploads.spawn(work).await {
            Ok(result) => result,
            Err(error) => Err(Fault::Inconsistent(format!("an upload ended unexpectedly: {error}")).into()),
        }
    }
}

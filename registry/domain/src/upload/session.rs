//! An upload session as one request works on it.

use roadstead_blobs::BlobError;
use roadstead_metadata::{
    AdvanceUploadRefused, CancelUpload, ClaimUpload, ClaimUploadRefused, Epoch, FinishUploadRefused, LinkBlobRefused,
    Multipart, Progress, Upload, UploadState,
};
use roadstead_oci::{Digest, Hasher, Part, RepositoryName, UploadId};

use super::UploadError;
use super::hashing::Hashing;
use super::writers::Turn;
use crate::fault::Fault;
use crate::registry::Registry;

/// A session that this request owns: no other request of this process works on it, and what another process still
/// tries to commit is refused.
pub(super) struct Session {
    pub(super) upload: UploadId,
    pub(super) repository: RepositoryName,
    pub(super) epoch: Epoch,
    /// Whether SHA-512 is computed to the end.
    pub(super) sha512: bool,
    /// What is committed.
    pub(super) progress: Progress,
    /// Bytes received so far: `progress.offset`, and what this request has brought since.
    pub(super) position: u64,
    /// On its way to `position`.
    pub(super) hashing: Hashing,
    pub(super) turn: Turn,
}

/// What a request finds when it comes to a session.
pub(super) enum Found {
    Receiving(Box<Session>),
    /// Somebody said that the object is being completed, and has not said that it is.
    Completing(Completing),
    /// It has been closed by this digest.
    Finished {
        digest: Digest,
    },
}

/// A completion that somebody began.
pub(super) struct Completing {
    pub(super) epoch: Epoch,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) multipart: Multipart,
    pub(super) parts: Vec<Part>,
    pub(super) _turn: Turn,
}

impl Registry {
    /// Takes the session over for this request.
    pub(super) async fn claim(&self, repository: &RepositoryName, upload: UploadId) -> Result<Found, UploadError> {
        let turn = self.enter(repository, upload).await?;
        let record = self.upload_record(repository, upload)?;
        let epoch = if record.owner == self.incarnation {
            record.epoch
        } else {
            let claim = ClaimUpload { upload, owner: self.incarnation };
            match self.propose(claim).await? {
                Ok(epoch) => epoch,
                Err(ClaimUploadRefused::Finished { digest, .. }) => return Ok(Found::Finished { digest }),
                Err(ClaimUploadRefused::UploadUnknown) => return Err(UploadError::Unknown),
            }
        };
        // Read again: until the claim, the former owner may have advanced it.
        let record = self.upload_record(repository, upload)?;
        match record.state {
            UploadState::Receiving(progress) => {
                let hasher = Hasher::resume(&progress.hash)
                    .map_err(|error| Fault::Inconsistent(format!("upload session {upload}: {error}")))?;
                Ok(Found::Receiving(Box::new(Session {
                    upload,
                    repository: record.repository,
                    epoch,
                    sha512: record.sha512,
                    position: progress.offset,
                    progress,
                    hashing: Hashing::new(hasher),
                    turn,
                })))
            }
            UploadState::Completing { digest, size, multipart, parts } => {
                Ok(Found::Completing(Completing { epoch, digest, size, multipart, parts, _turn: turn }))
            }
            UploadState::Finished { digest, .. } => Ok(Found::Finished { digest }),
        }
    }

    /// Waits for the right to work on a session of this repository. Whoever names another's does not disturb it.
    pub(super) async fn enter(&self, repository: &RepositoryName, upload: UploadId) -> Result<Turn, UploadError> {
        self.linearize().await?;
        self.upload_record(repository, upload)?;
        match self.writers.enter(upload).await {
            Ok(turn) => Ok(turn),
            Err(_) => Err(self.superseded(upload)?),
        }
    }

    fn upload_record(&self, repository: &RepositoryName, upload: UploadId) -> Result<Upload, UploadError> {
        let query = self.metadata.query().map_err(Fault::from)?;
        let record = query.upload(&upload).map_err(Fault::from)?;
        record.filter(|record| record.repository == *repository).ok_or(UploadError::Unknown)
    }

    /// The answer to a request that a newer one has overtaken: where the session stands.
    pub(super) fn superseded(&self, upload: UploadId) -> Result<UploadError, Fault> {
        Ok(UploadError::Superseded { offset: self.committed_offset(upload)? })
    }

    /// The answer to a request whose step was refused.
    pub(super) fn refused(&self, upload: UploadId, refused: impl Into<Refused>) -> UploadError {
        match refused.into() {
            Refused::Unknown => UploadError::Unknown,
            Refused::Fenced => self.superseded(upload).unwrap_or_else(UploadError::Fault),
            Refused::Impossible(why) => Fault::Inconsistent(format!("upload session {upload}: {why}")).into(),
        }
    }

    /// Why a step of the request that owned the session by `epoch` failed. A store knows nothing of epochs: while a
    /// request is held up, another replica may complete the object or end the session, and the store then refuses what
    /// comes late as if it had never known of it. Where nobody did, an earlier closing request of a digest that had not
    /// been computed has completed the object, to read it, and its end was not committed: nothing can be added to it any
    /// more, so the session ends, and the client begins anew.
    pub(super) async fn explained(&self, upload: UploadId, epoch: Epoch, error: UploadError) -> UploadError {
        match &error {
            UploadError::Fault(Fault::Blobs(refused)) if !refused.is_transient() => {}
            _ => return error,
        }
        let record = match self.linearize().await {
            Ok(()) => self.metadata.query().and_then(|query| query.upload(&upload)),
            Err(unconfirmed) => return unconfirmed.into(),
        };
        match record {
            Ok(None | Some(Upload { state: UploadState::Finished { .. }, .. })) => UploadError::Unknown,
            Ok(Some(record)) if record.epoch != epoch => UploadError::Superseded { offset: offset(&record.state) },
            Ok(Some(Upload { repository, state: UploadState::Receiving(_), .. }))
                if matches!(error, UploadError::Fault(Fault::Blobs(BlobError::MultipartUnknown))) =>
            {
                match self.propose(CancelUpload { upload, repository }).await {
                    Ok(Ok(()) | Err(_)) => UploadError::Unknown, // it is over either way
                    Err(fault) => fault.into(),
                }
            }
            _ => error,
        }
    }

    /// The offset of a session as it was committed last.
    pub(super) fn committed_offset(&self, upload: UploadId) -> Result<u64, Fault> {
        let record = self.metadata.query()?.upload(&upload)?;
        Ok(record.map_or(0, |record| offset(&record.state)))
    }
}

/// Durable bytes of a session.
pub(super) const fn offset(state: &UploadState) -> u64 {
    match state {
        UploadState::Receiving(progress) => progress.offset,
        UploadState::Completing { size, .. } | UploadState::Finished { size, .. } => *size,
    }
}

/// Why a session's step was refused, as its client has to see it.
pub(super) enum Refused {
    /// It is over.
    Unknown,
    /// A newer request owns it.
    Fenced,
    /// Cannot be, unless a fact is wrong.
    Impossible(String),
}

impl From<AdvanceUploadRefused> for Refused {
    fn from(refused: AdvanceUploadRefused) -> Self {
        match refused {
            AdvanceUploadRefused::UploadUnknown | AdvanceUploadRefused::NotReceiving => Self::Unknown,
            AdvanceUploadRefused::Fenced => Self::Fenced,
            AdvanceUploadRefused::KeyNotReserved | AdvanceUploadRefused::NoMultipart => {
                Self::Impossible(refused.to_string())
            }
        }
    }
}

impl From<LinkBlobRefused> for Refused {
    fn from(refused: LinkBlobRefused) -> Self {
        match refused {
            LinkBlobRefused::UploadUnknown | LinkBlobRefused::NotReceiving => Self::Unknown,
            LinkBlobRefused::Fenced => Self::Fenced,
            LinkBlobRefused::KeyNotReserved => Self::Impossible(refused.to_string()),
        }
    }
}

impl From<FinishUploadRefused> for Refused {
    fn from(refused: FinishUploadRefused) -> Self {
        match refused {
            FinishUploadRefused::UploadUnknown => Self::Unknown,
            FinishUploadRefused::Fenced => Self::Fenced,
            FinishUploadRefused::NotCompleting => Self::Impossible(refused.to_string()),
        }
    }
}

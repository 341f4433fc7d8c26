//! Writing at home for clients of a mirror: how a mirror asks, and what home does.
//!
//! ```text
//!  mirror                                             home
//!  claim: these blobs are to be held ---------------> held, or given from another repository; the rest is lacking
//!  send: each of those, resumed where home stands --> hashed there, linked
//!  put_manifest / delete_manifest ------------------> decided and committed there, as for a client of its own
//!                                <-- place in the feed
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use roadstead_domain::{
    Body, Fault, ManifestPutError, ManifestReadError, Precondition, PushedManifest, Registry, UploadError,
};
use roadstead_metadata::Position;
use roadstead_oci::{Digest, MediaType, Reference, RepositoryName, Tag};

use crate::home::HomeError;
use crate::wire::{BlobAnswer, WriteAnswer};

/// A manifest as a client of a mirror has pushed it.
#[derive(Clone, Debug)]
pub struct WrittenManifest {
    /// Where to.
    pub repository: RepositoryName,
    /// Under which name.
    pub reference: Reference,
    /// And under which tags, where that is a digest.
    pub tags: Vec<Tag>,
    /// What has to be so for it.
    pub precondition: Precondition,
    /// Its `Content-Type`.
    pub declared: Option<MediaType>,
    /// Its exact bytes.
    pub bytes: Bytes,
}

/// The bytes of a blob on their way home.
pub type Outgoing = BoxStream<'static, Result<Bytes, Fault>>;

/// How a mirror writes at its home. Each call may use a connection of its own; one that failed with
/// [`HomeError::Away`] may have been done all the same.
#[async_trait]
pub trait HomeWrites: Send + Sync + 'static {
    /// Has a repository hold blobs that are here; gives those that home does not have at all. At most
    /// [`MAX_CLAIMED`](crate::MAX_CLAIMED).
    async fn claim(&self, repository: &RepositoryName, digests: &[Digest]) -> Result<Vec<Digest>, HomeError>;

    /// How many bytes home has of a blob that is being sent.
    async fn standing(&self, repository: &RepositoryName, digest: &Digest, size: u64) -> Result<u64, HomeError>;

    /// Sends a blob from `offset` on.
    async fn send(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        offset: u64,
        bytes: Outgoing,
    ) -> Result<BlobAnswer, HomeError>;

    /// Puts a manifest.
    async fn put_manifest(&self, manifest: &WrittenManifest) -> Result<WriteAnswer, HomeError>;

    /// Deletes a manifest or a tag.
    async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<WriteAnswer, HomeError>;
}

/// At home: puts a manifest that was pushed to a mirror.
pub async fn take_manifest(registry: &Registry, manifest: WrittenManifest) -> Result<WriteAnswer, Fault> {
    let WrittenManifest { repository, reference, tags, precondition, declared, bytes } = manifest;
    let pushed = PushedManifest { declared, bytes };
    match registry.put_manifest(&repository, &reference, &tags, precondition, pushed).await {
        Ok(stored) => {
            let position = position(registry)?;
            Ok(WriteAnswer::Done { position, digest: Some(stored.digest), subject: stored.subject })
        }
        Err(ManifestPutError::BlobsUnknown(missing)) => Ok(WriteAnswer::BlobsUnknown { missing }),
        Err(ManifestPutError::PreconditionFailed) => Ok(WriteAnswer::PreconditionFailed),
        Err(ManifestPutError::NoRemote) => Ok(WriteAnswer::NoRemote),
        Err(error @ (ManifestPutError::Invalid(_) | ManifestPutError::DigestMismatch { .. })) => {
            Ok(WriteAnswer::Invalid { reason: error.to_string() })
        }
        Err(ManifestPutError::Fault(fault)) => Err(fault),
    }
}

/// At home: deletes what a client of a mirror wants deleted.
pub async fn delete_manifest(
    registry: &Registry,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<WriteAnswer, Fault> {
    match registry.delete_manifest(repository, reference).await {
        Ok(()) => Ok(WriteAnswer::Done { position: position(registry)?, digest: None, subject: None }),
        Err(ManifestReadError::Unknown) => Ok(WriteAnswer::Unknown),
        Err(ManifestReadError::Fault(fault)) => Err(fault),
    }
}

/// At home: takes a blob that was pushed to a mirror.
pub async fn take_blob(
    registry: &Arc<Registry>,
    repository: &RepositoryName,
    digest: Digest,
    size: u64,
    offset: u64,
    body: Body,
) -> Result<BlobAnswer, Fault> {
    match registry.take_blob(repository, digest, size, offset, body).await {
        Ok(()) => Ok(BlobAnswer::Held),
        Err(UploadError::OutOfOrder { offset } | UploadError::Superseded { offset }) => {
            Ok(BlobAnswer::GoesOnAt { offset })
        }
        Err(UploadError::Fault(fault)) => Err(fault),
        // Another one has ended it, or it broke off: where it stands is asked for.
        Err(UploadError::Unknown | UploadError::Body(_) | UploadError::Busy | UploadError::TooMany) => {
            Err(Fault::Leaderless)
        }
        Err(
            error @ (UploadError::DigestMismatch { .. }
            | UploadError::Sha512NotAnnounced
            | UploadError::Length
            | UploadError::TooLarge { .. }),
        ) => Ok(BlobAnswer::Invalid { reason: error.to_string() }),
    }
}

/// Not before what this replica has just done.
fn position(registry: &Registry) -> Result<Position, Fault> {
    Ok(registry.metadata().query()?.position()?)
}

//! Operations on upload sessions.
//!
//! ```text
//! OpenUpload -> Receiving --CheckpointUpload--> Receiving --LinkBlob (one object)------------------> Finished
//!                   |        BeginMultipart                                                          ^
//!                   +--BeginCompletion--> Completing --(the store completes it)-- FinishUpload ------+
//! ClaimUpload raises the epoch in any of these; CancelUpload and ExpireUploads end them. ShowParts moves none of them.
//! ```

use roadstead_oci::{Digest, HashState, MultipartId, ObjectKey, Part, RepositoryName, UploadId, Verified};
use serde::{Deserialize, Serialize};

use super::{Epoch, Incarnation, LogTime};

/// Opens an upload session at offset 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenUpload {
    /// The new session.
    pub upload: UploadId,
    /// The repository that it pushes to.
    pub repository: RepositoryName,
    /// The replica that opens it owns it, at [`Epoch`] 1.
    pub owner: Incarnation,
    /// Whether the client said that it will close with a SHA-512 digest.
    pub sha512: bool,
    /// Where hashing starts.
    pub hash: HashState,
}

/// Why [`OpenUpload`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OpenUploadRefused {
    /// There is a session of that name.
    #[error("the upload session exists already")]
    UploadExists,
}

/// Takes over a session for a newer request; the older owner's commands are refused from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimUpload {
    /// The session.
    pub upload: UploadId,
    /// The new owner.
    pub owner: Incarnation,
}

/// Why [`ClaimUpload`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ClaimUploadRefused {
    /// There is no such session.
    #[error("there is no such upload session")]
    UploadUnknown,
    /// It has become a blob.
    #[error("the upload session is finished")]
    Finished {
        /// The blob.
        digest: Digest,
        /// In bytes.
        size: u64,
    },
}

/// A multipart upload under way in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multipart {
    /// The key that the object will have.
    pub key: ObjectKey,
    /// The store's name of the upload.
    pub id: MultipartId,
}

/// Records the store's name of the session's multipart upload, so that it can be aborted by anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginMultipart {
    /// The session.
    pub upload: UploadId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The reserved key it writes to. If the session had a multipart upload already, because the client goes on after a
    /// short final part, the former one's key is condemned.
    pub key: ObjectKey,
    /// The store's name of it.
    pub multipart: MultipartId,
    /// Parts that it starts with. Not empty only where it replaces an earlier multipart upload.
    pub parts: Vec<Part>,
    /// The new tail, where parts were taken over.
    pub tail: Option<Tail>,
}

/// What an upload holds beyond its full parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tail {
    /// An object of its own, of `size` bytes, that can be read again.
    Object {
        /// Reserved; if the session has no parts and closes here, this is the blob.
        key: ObjectKey,
        /// In bytes; less than a part, or exactly one.
        size: u64,
    },
    /// The short last part of the multipart upload: nothing has to move if the session closes here.
    FinalPart(Part),
}

/// Advances a session: offset, parts, tail and hash state in one entry, so that they never disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointUpload {
    /// The session.
    pub upload: UploadId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Durable bytes from the start of the blob.
    pub offset: u64,
    /// Full parts that became durable since the last checkpoint, in order.
    pub parts: Vec<Part>,
    /// Replaces the former tail; the key of a former tail object is condemned.
    pub tail: Option<Tail>,
    /// The hash state at `offset`.
    pub hash: HashState,
}

/// Shows mirrors full parts that a closing request has written. The session stays where it is, since the client sends all
/// of them again if that request breaks: they become parts of a blob by [`BeginCompletion`] only. Those shown before that
/// are numbered higher were another request's, and are hidden; so are all, by whatever else advances the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowParts {
    /// The session.
    pub upload: UploadId,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Full parts that became durable since the last that were shown, in order. Without any, nothing is done but what
    /// keeps the session from expiring.
    pub parts: Vec<Part>,
}

/// Says that the object is about to be completed: whoever takes over repeats it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginCompletion {
    /// The session.
    pub upload: UploadId,
    /// The owner's epoch.
    pub epoch: Epoch,
    digest: Digest,
    /// The whole blob in bytes.
    pub size: u64,
    /// Full parts since the last checkpoint, then the final part, if any.
    pub parts: Vec<Part>,
}

impl BeginCompletion {
    /// The completion of a session whose bytes were verified.
    pub fn new(upload: UploadId, epoch: Epoch, digest: Verified<Digest>, size: u64, parts: Vec<Part>) -> Self {
        Self { upload, epoch, digest: *digest.get(), size, parts }
    }

    /// What the bytes were verified to be.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Why an owner's step was refused: [`BeginMultipart`], [`CheckpointUpload`], [`ShowParts`], [`BeginCompletion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AdvanceUploadRefused {
    /// There is no such session.
    #[error("there is no such upload session")]
    UploadUnknown,
    /// A newer request has taken it over.
    #[error("the upload session was taken over by a newer request")]
    Fenced,
    /// It is being completed, or finished.
    #[error("the upload session takes no more bytes")]
    NotReceiving,
    /// A key is not reserved, so that an object under it could be deleted at any time.
    #[error("an object's key is not reserved")]
    KeyNotReserved,
    /// Parts, or [`BeginCompletion`], without a multipart upload that they belong to.
    #[error("the upload session has no multipart upload")]
    NoMultipart,
}

/// Makes the blob of a completion that was begun: its digest was verified then, its object is durable now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishUpload {
    /// The session.
    pub upload: UploadId,
    /// The owner's epoch.
    pub epoch: Epoch,
}

/// Why [`FinishUpload`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FinishUploadRefused {
    /// There is no such session.
    #[error("there is no such upload session")]
    UploadUnknown,
    /// A newer request has taken it over.
    #[error("the upload session was taken over by a newer request")]
    Fenced,
    /// Its completion was never begun.
    #[error("the upload session is not being completed")]
    NotCompleting,
}

/// Ends a session without a blob; its keys are condemned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelUpload {
    /// The session.
    pub upload: UploadId,
    /// In this repository only.
    pub repository: RepositoryName,
}

/// Why [`CancelUpload`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CancelUploadRefused {
    /// There is no such session in that repository, or it is finished.
    #[error("there is no such upload session")]
    UploadUnknown,
}

/// Ends up to `limit` sessions that nobody has touched since `before`, and forgets finished ones that old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireUploads {
    /// Untouched since.
    pub before: LogTime,
    /// At most this many in one entry.
    pub limit: u32,
}

impl ExpireUploads {
    /// A higher `limit` counts as this: each session may have thousands of parts, and one entry must not hold up the
    /// ones behind it.
    pub const MAX_LIMIT: u32 = 100;
}

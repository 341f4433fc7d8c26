//! Operations on blobs.

use roadstead_oci::{Digest, ObjectKey, RepositoryName, UploadId, Verified};
use serde::{Deserialize, Serialize};

use super::Epoch;

/// Makes a blob out of a single object: that is durable, its digest verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkBlob {
    /// The repository that gets it.
    pub repository: RepositoryName,
    digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The reserved key of its object. If the digest has an object already, that one stays and this key is condemned.
    pub key: ObjectKey,
    /// The session that this finishes, and the epoch of its owner.
    pub upload: Option<(UploadId, Epoch)>,
}

impl LinkBlob {
    /// Links content that was verified.
    pub fn new(
        repository: RepositoryName,
        digest: Verified<Digest>,
        size: u64,
        key: ObjectKey,
        upload: Option<(UploadId, Epoch)>,
    ) -> Self {
        Self { repository, digest: *digest.get(), size, key, upload }
    }

    /// What the bytes were verified to be.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// What linking did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// The registry had the content already: its object stays, the new one's key is condemned.
    pub deduplicated: bool,
}

/// Why [`LinkBlob`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LinkBlobRefused {
    /// There is no such session in that repository.
    #[error("there is no such upload session")]
    UploadUnknown,
    /// A newer request has taken it over.
    #[error("the upload session was taken over by a newer request")]
    Fenced,
    /// It is being completed, or finished as another blob.
    #[error("the upload session takes no more bytes")]
    NotReceiving,
    /// The key is not reserved, so that the object could be deleted at any time.
    #[error("the object's key is not reserved")]
    KeyNotReserved,
}

/// Gives a repository a blob that another one holds. Whether the caller may read `from` is decided before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountBlob {
    /// The repository that gets it.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// A repository that must hold it at that moment.
    pub from: RepositoryName,
}

/// Why [`MountBlob`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MountBlobRefused {
    /// The other repository does not hold it.
    #[error("the blob is unknown")]
    BlobUnknown,
}

/// Takes a blob out of a repository, even if manifests there name it (the client asked for it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlinkBlob {
    /// The repository.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
}

/// Why [`UnlinkBlob`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum UnlinkBlobRefused {
    /// The repository does not hold it.
    #[error("the blob is unknown")]
    BlobUnknown,
}

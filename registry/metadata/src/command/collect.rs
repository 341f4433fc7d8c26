//! Operations of garbage collection.
//!
//! ```text
//! a repository holds a blob that none of its manifests names --grace--> it does not hold it
//! a blob that no repository holds ------------------------------grace--> its object is condemned
//! ```
//!
//! Both conditions are judged when the entry is applied, so no push, mount or touch that came before it in the log is
//! overlooked, and none that comes after it finds a blob that is about to go.

use roadstead_oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use super::LogTime;

/// Renews the lease of a blob: somebody was told that the repository holds it, and may rely on that for a grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TouchBlob {
    /// The repository.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
}

/// Why [`TouchBlob`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TouchBlobRefused {
    /// The repository does not hold it (any more).
    #[error("the blob is unknown")]
    BlobUnknown,
}

/// Lets go of what nothing has named since `before`, the longest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectBlobs {
    /// One grace ago.
    pub before: LogTime,
    /// At most this many of each kind in one entry.
    pub limit: u32,
}

/// What [`CollectBlobs`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Collected {
    /// Repositories that let a blob go, counted once for each blob.
    pub unlinked: u32,
    /// Objects that were condemned.
    pub condemned: u32,
}

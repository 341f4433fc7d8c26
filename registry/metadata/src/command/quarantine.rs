//! Operations on content that is not what it was.
//!
//! ```text
//! blob, manifest --SetQuarantine--> set aside: answered as if it were not there
//!       ^                              |   its object stays, its repositories and counts too
//!       '--- pushed again, or released -'
//! ```

use roadstead_oci::{Digest, ObjectKey, RepositoryName};
use serde::{Deserialize, Serialize};

use super::ManifestContent;

/// Some content, and where it was when somebody looked at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Examined {
    /// A blob.
    Blob {
        /// The blob.
        digest: Digest,
        /// The object that was looked at.
        key: ObjectKey,
    },
    /// A manifest of a repository.
    Manifest {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// The bytes, or the object, that were looked at.
        content: ManifestContent,
    },
}

/// Sets content aside that was found damaged or missing, or lets it be what it was. While it is set aside it is answered
/// as if it were not there, so that a client pushes it again, which mends it for every repository that holds it. The
/// damaged object is left where it is.
///
/// Changes nothing, and says so, where the content has gone or is elsewhere by now, and where it is as is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetQuarantine {
    /// What was looked at.
    pub examined: Examined,
    /// Whether it is to be set aside.
    pub quarantined: bool,
}

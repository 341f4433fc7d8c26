//! Operations of a mirror at which is written, and of the home that takes what is written there.
//!
//! ```text
//!  client --blob--> object that no repository holds --LandBlob--> its repository shows it, for a grace
//!                                                                   '-- home holds it too: BlobLinked comes in the feed
//! ```

use roadstead_oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

/// Notes that a client has given a blob to a repository of a mirror: it is shown there, and its object stays, until home
/// holds it in that repository or a grace has passed. Renews what was noted before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandBlob {
    /// The repository.
    pub repository: RepositoryName,
    /// The blob, whose bytes are here.
    pub digest: Digest,
}

/// Why [`LandBlob`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LandBlobRefused {
    /// Its bytes are not here.
    #[error("the blob is not here")]
    BlobUnknown,
}

/// Lets whoever has a token follow this registry as a mirror, and write to it what clients push there. Under a name that
/// is known, the token is another one from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitWriter {
    /// For people.
    pub name: String,
    /// The hash of the token.
    pub token: Digest,
}

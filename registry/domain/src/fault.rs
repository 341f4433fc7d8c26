//! What can fail behind any verb, through no fault of its caller.

use roadstead_blobs::BlobError;
use roadstead_metadata::{ProposeError, QueryError, ReadError};

/// A failure of what the registry stands on. Its text is for the log: a client is told only whether to come back.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A change was not agreed, or it is not known whether it was.
    #[error("the change was not acknowledged: {0}")]
    Propose(#[from] ProposeError),
    /// The newest state could not be confirmed.
    #[error("the newest state could not be confirmed: {0}")]
    Read(#[from] ReadError),
    /// Only a leader could say that there is no such thing, and there is none.
    #[error("this replica does not know of it, and no leader says that it does not exist")]
    Leaderless,
    /// The local state could not be read.
    #[error("the local state could not be read: {0}")]
    Query(#[from] QueryError),
    /// The blob store failed.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// What the registry itself wrote down contradicts what it finds.
    #[error("{0}")]
    Inconsistent(String),
}

impl Fault {
    /// Whether the same request may succeed later.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Propose(_) | Self::Read(_) | Self::Leaderless => true,
            Self::Query(_) | Self::Inconsistent(_) => false,
            Self::Blobs(error) => error.is_transient(),
        }
    }
}

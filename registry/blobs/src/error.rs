//! What can go wrong with bytes, and whether trying again helps.

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such object.
    #[error("the object does not exist")]
    NotFound,
    /// There is no such multipart upload: it was completed, aborted or never begun.
    #[error("the multipart upload does not exist")]
    MultipartUnknown,
    /// The store cannot be reached, is overloaded, or did not answer in time.
    #[error("the blob store is unavailable: {0}")]
    Unavailable(String),
    /// The store has no room left.
    #[error("the blob store is full: {0}")]
    Full(String),
    /// The store refuses us: credentials, permissions, or a bucket that is not there.
    #[error("the blob store refuses access: {0}")]
    Denied(String),
    /// The store answered something that breaks its own promises.
    #[error("the blob store answered wrongly: {0}")]
    Broken(String),
}

impl BlobError {
    /// Whether the same call may succeed later without anybody mending anything.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Full(_) => true,
            Self::NotFound | Self::MultipartUnknown | Self::Denied(_) | Self::Broken(_) => false,
        }
    }
}

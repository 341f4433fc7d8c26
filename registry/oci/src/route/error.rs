//! Why a request is none of the API.

use super::Route;
use crate::digest::DigestError;
use crate::error_code::ErrorCode;
use crate::page::PageError;
use crate::repository::RepositoryNameError;
use crate::tag::TagError;
use crate::upload_id::UploadIdError;

/// Why a request is none of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The path is no path of the API.
    #[error("this registry has nothing at this path")]
    NotFound,
    /// The path is longer than [`Route::MAX_PATH`], or the query than [`Route::MAX_QUERY`].
    #[error("the URL is too long: at most {} bytes of path and {} of query", Route::MAX_PATH, Route::MAX_QUERY)]
    TooLong,
    /// The path is one, but not for this method.
    #[error("the method is not supported here, but {allow}")]
    MethodNotAllowed {
        /// The methods that are, as the `Allow` header lists them.
        allow: &'static str,
    },
    /// Decoded, the URL has a slash within a segment, a control character, or is not UTF-8.
    #[error("the URL is percent-encoded in a way that cannot be right")]
    Encoding,
    /// The name of a repository is none.
    #[error(transparent)]
    Name(#[from] RepositoryNameError),
    /// A digest, or the name of an algorithm, is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// An upload is closed without a digest.
    #[error("an upload is closed with ?digest=<digest> of the whole blob")]
    DigestMissing,
    /// Something is to be read or deleted by a tag that none can be.
    #[error("no manifest can have this tag: {0}")]
    TagUnknown(TagError),
    /// Something is to be pushed to a tag that is none.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// Several tags are given for a manifest that is not pushed by digest.
    #[error("?tag= goes with a manifest that is pushed by its digest")]
    TagsWithoutDigest,
    /// More tags than [`Route::MAX_TAGS_PER_PUSH`].
    #[error("at most {} tags can be pushed at once", Route::MAX_TAGS_PER_PUSH)]
    TooManyTags,
    /// The name of an upload session is none.
    #[error("no upload session can have this name: {0}")]
    Upload(#[from] UploadIdError),
    /// The page of a listing is none.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl RouteError {
    /// What the client is told.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound | Self::MethodNotAllowed { .. } | Self::TagsWithoutDigest => ErrorCode::Unsupported,
            Self::TooLong | Self::Encoding | Self::Name(_) => ErrorCode::NameInvalid,
            Self::Digest(_) | Self::DigestMissing => ErrorCode::DigestInvalid,
            // The specification has no code for tags. Of one that cannot be there is simply no manifest, and nothing
            // can be pushed to it.
            Self::TagUnknown(_) => ErrorCode::ManifestUnknown,
            Self::Tag(_) | Self::TooManyTags => ErrorCode::ManifestInvalid,
            Self::Upload(_) => ErrorCode::BlobUploadUnknown,
            Self::Page(_) => ErrorCode::PaginationNumberInvalid,
        }
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::TooLong | Self::TooManyTags => 414,
            Self::TagsWithoutDigest => 400,
            _ => self.code().status(),
        }
    }

    /// The `Allow` header, which a 405 must have (RFC 9110, section 15.5.6).
    pub const fn allow(&self) -> Option<&'static str> {
        match self {
            Self::MethodNotAllowed { allow } => Some(allow),
            _ => None,
        }
    }
}

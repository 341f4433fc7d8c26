//! The URLs of the API as one closed sum: dispatch, access decision and metrics all go by it.
//!
//! ```text
//! method, path, query -> Resource (by path alone) -> Route (with method and query) -> Display: the URL again
//! ```
//!
//! Sources: OCI distribution specification, "Endpoints" (whose ids the variants name) and `extensions/_oci.md`; Docker
//! registry HTTP API V2 for the catalog.
//!
//! * Names of repositories have slashes in them, and any word of the API may be a part of one, so a path is read from
//!   its right end. Only `blobs/uploads` could be read in two ways, and `uploads` is no digest.
//! * Percent-encoding is undone segment by segment: what is a `/`, or a control character, only after decoding is refused.
//! * A query parameter without a value is one that is not there; of a parameter given twice, the first counts. Unknown
//!   ones are passed over, the proxies' `ns` among them.

mod display;
mod error;
mod parse;
mod query;
mod resource;

pub use self::error::RouteError;
use crate::digest::{Algorithm, Digest};
use crate::page::Page;
use crate::reference::Reference;
use crate::repository::RepositoryName;
use crate::tag::Tag;
use crate::upload_id::UploadId;

/// One request to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// end-1: does the registry speak this API, and who am I?
    Base,
    /// The repositories of the registry, a page of them.
    Catalog {
        /// Which ones.
        page: Page,
    },
    /// The extensions of the registry.
    Extensions,
    /// The extensions of a repository.
    RepositoryExtensions {
        /// The repository.
        repository: RepositoryName,
    },
    /// end-8: the tags of a repository, a page of them.
    Tags {
        /// The repository.
        repository: RepositoryName,
        /// Which ones.
        page: Page,
    },
    /// end-12: the manifests that name a manifest as their subject.
    Referrers {
        /// The repository.
        repository: RepositoryName,
        /// The manifest that they refer to.
        subject: Digest,
        /// Only those of this type.
        artifact_type: Option<String>,
        /// Only those after this one, in the order of digests.
        last: Option<Digest>,
    },
    /// end-3: a manifest.
    ManifestGet {
        /// The repository.
        repository: RepositoryName,
        /// Which manifest.
        reference: Reference,
    },
    /// end-3: a manifest's headers.
    ManifestHead {
        /// The repository.
        repository: RepositoryName,
        /// Which manifest.
        reference: Reference,
    },
    /// end-7: stores a manifest.
    ManifestPut {
        /// The repository.
        repository: RepositoryName,
        /// The tag to point at it, or its digest.
        reference: Reference,
        /// The tags to point at it where `reference` is a digest: without duplicates, at most
        /// [`Route::MAX_TAGS_PER_PUSH`].
        tags: Vec<Tag>,
    },
    /// end-9: deletes a tag, or a manifest with every tag on it.
    ManifestDelete {
        /// The repository.
        repository: RepositoryName,
        /// Which of the two.
        reference: Reference,
    },
    /// end-2: a blob, or a range of it.
    BlobGet {
        /// The repository.
        repository: RepositoryName,
        /// Which blob.
        digest: Digest,
    },
    /// end-2: a blob's headers.
    BlobHead {
        /// The repository.
        repository: RepositoryName,
        /// Which blob.
        digest: Digest,
    },
    /// end-10: takes a blob out of a repository.
    BlobDelete {
        /// The repository.
        repository: RepositoryName,
        /// Which blob.
        digest: Digest,
    },
    /// end-4 and end-11: opens an upload session, or spares one.
    UploadStart {
        /// The repository.
        repository: RepositoryName,
        /// Which of the ways.
        kind: UploadKind,
    },
    /// end-13: how far a session is.
    UploadStatus {
        /// The repository.
        repository: RepositoryName,
        /// The session.
        upload: UploadId,
    },
    /// end-5: appends to a session.
    UploadPatch {
        /// The repository.
        repository: RepositoryName,
        /// The session.
        upload: UploadId,
    },
    /// end-6: closes a session, maybe with its last bytes.
    UploadPut {
        /// The repository.
        repository: RepositoryName,
        /// The session.
        upload: UploadId,
        /// What the whole blob must hash to.
        digest: Digest,
    },
    /// end-14: gives a session up.
    UploadCancel {
        /// The repository.
        repository: RepositoryName,
        /// The session.
        upload: UploadId,
    },
}

/// The ways in which a blob's upload can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadKind {
    /// end-4a, end-4c: with a session.
    Session {
        /// The algorithm of the digest that will close it, if the client says.
        algorithm: Option<Algorithm>,
    },
    /// end-4b: with the whole blob as the body of this request.
    Monolithic {
        /// What it must hash to.
        digest: Digest,
    },
    /// end-11: with a blob that is here already; with a session if it is not.
    Mount {
        /// Which blob.
        digest: Digest,
        /// The repository that holds it; without one, any that the client may pull from.
        from: Option<RepositoryName>,
    },
}

/// What a client does to a repository, or to the registry, as far as the right to it goes. A mount is a push to the
/// one repository and also a pull from [`Route::mount_source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Asks what the registry is. Whoever may log in may.
    Ping,
    /// Lists repositories.
    Catalog,
    /// Reads content or lists it.
    Pull,
    /// Adds content or moves a tag.
    Push,
    /// Takes content or a tag away.
    Delete,
}

/// The methods of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "RFC 9110 and RFC 5789 define them")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Route {
    /// The longest path in bytes. The longest that is spelled as we spell it is 405 (`/v2/`, a name of 255,
    /// `/manifests/`, a SHA-512 digest of 135); the rest is for clients that percent-encode more than they need.
    pub const MAX_PATH: usize = 1024;

    /// The longest query in bytes: as much as proxies in front of a registry let through (nginx: 8 KiB a line).
    pub const MAX_QUERY: usize = 8 * 1024;

    /// The most tags of one push; the specification wants at least 10. So many of the greatest length, 133 bytes each
    /// with their `&tag=`, fit into [`Route::MAX_QUERY`].
    pub const MAX_TAGS_PER_PUSH: usize = 50;

    /// What a request asks for, from its method, its path and its query (without the question mark), both as they
    /// stand in the request line.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self, RouteError> {
        parse::parse(method, path, query)
    }

    /// A word for the kind of request, for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog { .. } => "catalog",
            Self::Extensions => "extensions",
            Self::RepositoryExtensions { .. } => "repository-extensions",
            Self::Tags { .. } => "tags",
            Self::Referrers { .. } => "referrers",
            Self::ManifestGet { .. } => "manifest-get",
            Self::ManifestHead { .. } => "manifest-head",
            Self::ManifestPut { .. } => "manifest-put",
            Self::ManifestDelete { .. } => "manifest-delete",
            Self::BlobGet { .. } => "blob-get",
            Self::BlobHead { .. } => "blob-head",
            Self::BlobDelete { .. } => "blob-delete",
            Self::UploadStart { kind: UploadKind::Session { .. }, .. } => "upload-start",
            Self::UploadStart { kind: UploadKind::Monolithic { .. }, .. } => "upload-monolithic",
            Self::UploadStart { kind: UploadKind::Mount { .. }, .. } => "upload-mount",
            Self::UploadStatus { .. } => "upload-status",
            Self::UploadPatch { .. } => "upload-patch",
            Self::UploadPut { .. } => "upload-put",
            Self::UploadCancel { .. } => "upload-cancel",
        }
    }

    /// The method that asks for it. Where GET and HEAD are one route, GET.
    pub const fn method(&self) -> Method {
        match self {
            Self::Base
            | Self::Catalog { .. }
            | Self::Extensions
            | Self::RepositoryExtensions { .. }
            | Self::Tags { .. }
            | Self::Referrers { .. }
            | Self::ManifestGet { .. }
            | Self::BlobGet { .. }
            | Self::UploadStatus { .. } => Method::Get,
            Self::ManifestHead { .. } | Self::BlobHead { .. } => Method::Head,
            Self::UploadStart { .. } => Method::Post,
            Self::ManifestPut { .. } | Self::UploadPut { .. } => Method::Put,
            Self::UploadPatch { .. } => Method::Patch,
            Self::ManifestDelete { .. } | Self::BlobDelete { .. } | Self::UploadCancel { .. } => Method::Delete,
        }
    }

    /// What it does, for the access decision. Giving up an upload of one's own is part of pushing.
    pub const fn action(&self) -> Action {
        match self {
            Self::Base | Self::Extensions => Action::Ping,
            Self::Catalog { .. } => Action::Catalog,
            Self::RepositoryExtensions { .. }
            | Self::Tags { .. }
            | Self::Referrers { .. }
            | Self::ManifestGet { .. }
            | Self::ManifestHead { .. }
            | Self::BlobGet { .. }
            | Self::BlobHead { .. } => Action::Pull,
            Self::ManifestPut { .. }
            | Self::UploadStart { .. }
            | Self::UploadStatus { .. }
            | Self::UploadPatch { .. }
            | Self::UploadPut { .. }
            | Self::UploadCancel { .. } => Action::Push,
            Self::ManifestDelete { .. } | Self::BlobDelete { .. } => Action::Delete,
        }
    }

    /// The repository that it is about; `None` if it is about the registry.
    pub const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog { .. } | Self::Extensions => None,
            Self::RepositoryExtensions { repository }
            | Self::Tags { repository, .. }
            | Self::Referrers { repository, .. }
            | Self::ManifestGet { repository, .. }
            | Self::ManifestHead { repository, .. }
            | Self::ManifestPut { repository, .. }
            | Self::ManifestDelete { repository, .. }
            | Self::BlobGet { repository, .. }
            | Self::BlobHead { repository, .. }
            | Self::BlobDelete { repository, .. }
            | Self::UploadStart { repository, .. }
            | Self::UploadStatus { repository, .. }
            | Self::UploadPatch { repository, .. }
            | Self::UploadPut { repository, .. }
            | Self::UploadCancel { repository, .. } => Some(repository),
        }
    }

    /// The other repository, from which a mount takes its blob, if it names one.
    pub const fn mount_source(&self) -> Option<&RepositoryName> {
        match self {
            Self::UploadStart { kind: UploadKind::Mount { from: Some(from), .. }, .. } => Some(from),
            _ => None,
        }
    }
}

impl Method {
    /// The method as it stands in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete]
            .into_iter()
            .find(|method| method.as_str() == text)
    }
}

#[cfg(test)]
mod tests;

//! The change feed: every visible change of truth, in the order in which it happened.
//!
//! Mirrors, webhooks, the audit log and the backup follow it. It is part of the state, so it is written by `apply` in
//! the same transaction as the change itself.

use roadstead_oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::{LogTime, QueryError};

/// Where a change stands in the one history of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// Which home's history: raised when another home is promoted.
    pub epoch: u64,
    /// Counts changes without gaps, from 1. 0 is before the first.
    pub sequence: u64,
}

/// A visible change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its place.
    pub position: Position,
    /// The state's time when it was applied; never goes back.
    pub at: LogTime,
    /// What changed.
    pub kind: ChangeKind,
}

/// What changed. Persisted by position in this list: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A repository holds a blob that it did not hold before: by upload or by mount.
    BlobLinked {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
        /// In bytes.
        size: u64,
    },
    /// A repository does not hold a blob any more.
    BlobUnlinked {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// A manifest was put, perhaps again, and tags point at it now.
    ManifestPut {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// Every tag of the put, moved or not.
        tags: Vec<Tag>,
    },
    /// A manifest is gone, and with it every tag that pointed at it.
    ManifestDeleted {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// A tag is gone; its manifest stays.
    TagDeleted {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
}

impl ChangeKind {
    /// The repository that it is about.
    pub const fn repository(&self) -> &RepositoryName {
        match self {
            Self::BlobLinked { repository, .. }
            | Self::BlobUnlinked { repository, .. }
            | Self::ManifestPut { repository, .. }
            | Self::ManifestDeleted { repository, .. }
            | Self::TagDeleted { repository, .. } => repository,
        }
    }
}

/// Why changes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// The changes right after the position are not kept any more: start over from a snapshot.
    #[error("changes before {oldest:?} are not kept any more; resynchronise from a snapshot")]
    Trimmed {
        /// The oldest that is kept.
        oldest: Position,
    },
    /// The position is of another history than this registry's.
    #[error("this history stands at {newest:?} and never was at the position asked for")]
    Foreign {
        /// The newest change here.
        newest: Position,
    },
    /// The state could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
}

//! Operations on manifests and tags.

use bytes::Bytes;
use roadstead_oci::{Digest, ObjectKey, RepositoryName, Tag, Verified};
use serde::{Deserialize, Serialize};

/// What must hold of the current manifest for a write to happen (RFC 9110, section 13.1).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// `If-None-Match: *`: the reference names nothing yet.
    Absent,
    /// `If-Match`: the reference names one of these now, or what is put: then it was put before, and the answer was lost.
    Match(Vec<Digest>),
    /// `If-Match: *`: the reference names something.
    Exists,
}

/// Where a manifest's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManifestContent {
    /// In the log and the state: at most [`PutManifest::MAX_INLINE`] bytes.
    Inline(Bytes),
    /// In an object under a reserved key.
    Object(ObjectKey),
}

/// A manifest that a manifest names as its subject's referrer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referrer {
    /// The manifest that is referred to. It need not exist.
    pub subject: Digest,
    /// What the referrers listing shows and filters by; falls back to the config's media type.
    pub artifact_type: Option<String>,
    /// Copied into the referrers listing.
    pub annotations: Vec<(String, String)>,
}

/// Stores a manifest and moves its tags, all in one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutManifest {
    /// The repository.
    pub repository: RepositoryName,
    digest: Digest,
    /// As the client declared it.
    pub media_type: String,
    /// The exact bytes' length.
    pub size: u64,
    /// The exact bytes.
    pub content: ManifestContent,
    /// The blobs that the repository must hold, unless it is `sparse`: config and layers, but for foreign ones. Without
    /// duplicates.
    pub blobs: Vec<Digest>,
    /// If it has a subject.
    pub referrer: Option<Referrer>,
    /// The tags to move to it: none, one, or several at once.
    pub tags: Vec<Tag>,
    /// Judged against each of `tags`, or against the digest itself where there are none.
    pub precondition: Precondition,
    /// Whether it is stored even if the repository does not hold all of `blobs`.
    pub sparse: bool,
}

/// Everything of a [`PutManifest`] but the verified digest.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// See [`PutManifest::repository`].
    pub repository: RepositoryName,
    /// See [`PutManifest::media_type`].
    pub media_type: String,
    /// See [`PutManifest::size`].
    pub size: u64,
    /// See [`PutManifest::content`].
    pub content: ManifestContent,
    /// See [`PutManifest::blobs`].
    pub blobs: Vec<Digest>,
    /// See [`PutManifest::referrer`].
    pub referrer: Option<Referrer>,
    /// See [`PutManifest::tags`].
    pub tags: Vec<Tag>,
    /// See [`PutManifest::precondition`].
    pub precondition: Precondition,
    /// See [`PutManifest::sparse`].
    pub sparse: bool,
}

impl PutManifest {
    /// Larger manifests are kept as objects, so that one entry of the log stays small beside the 8 MiB that a
    /// follower takes in one message.
    pub const MAX_INLINE: usize = 64 * 1024;

    /// A manifest whose bytes were verified.
    pub fn new(digest: Verified<Digest>, manifest: NewManifest) -> Self {
        let NewManifest { repository, media_type, size, content, blobs, referrer, tags, precondition, sparse } =
            manifest;
        Self {
            repository,
            digest: *digest.get(),
            media_type,
            size,
            content,
            blobs,
            referrer,
            tags,
            precondition,
            sparse,
        }
    }

    /// What the bytes were verified to be.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// What [`PutManifest`] or [`TagManifest`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPut {
    /// The repository did not have the manifest before.
    pub created: bool,
    /// The tags that pointed elsewhere before, in the order of [`PutManifest::tags`].
    pub moved: Vec<MovedTag>,
}

/// A tag that points at another manifest than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedTag {
    /// The tag.
    pub tag: Tag,
    /// Where it pointed, if it existed.
    pub previous: Option<Digest>,
}

/// Why [`PutManifest`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PutManifestRefused {
    /// The repository does not hold these blobs.
    #[error("the repository does not hold {} of the blobs that the manifest names", .0.len())]
    BlobsUnknown(Vec<Digest>),
    /// The precondition does not hold.
    #[error("the reference names another manifest than the precondition says")]
    PreconditionFailed {
        /// What the first reference that failed names.
        current: Option<Digest>,
    },
    /// The key of the content is not reserved, so that the object could be deleted at any time.
    #[error("the object's key is not reserved")]
    KeyNotReserved,
}

/// Moves tags to a manifest that the repository has already: what [`PutManifest`] of the same manifest would do, without
/// its bytes in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagManifest {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
    /// As the client declared it. What a manifest names depends on it, so another one than before is another manifest.
    pub media_type: String,
    /// See [`PutManifest::tags`].
    pub tags: Vec<Tag>,
    /// See [`PutManifest::precondition`].
    pub precondition: Precondition,
    /// See [`PutManifest::sparse`].
    pub sparse: bool,
}

/// Why [`TagManifest`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TagManifestRefused {
    /// The repository does not have it, or under another media type: it has to be put.
    #[error("the repository does not have the manifest")]
    ManifestUnknown,
    /// See [`PutManifestRefused::BlobsUnknown`].
    #[error("the repository does not hold {} of the blobs that the manifest names", .0.len())]
    BlobsUnknown(Vec<Digest>),
    /// See [`PutManifestRefused::PreconditionFailed`].
    #[error("the reference names another manifest than the precondition says")]
    PreconditionFailed {
        /// What the first reference that failed names.
        current: Option<Digest>,
    },
}

/// Deletes a manifest and every tag that points at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteManifest {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
}

/// Why [`DeleteManifest`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DeleteManifestRefused {
    /// The repository does not have it.
    #[error("the manifest is unknown")]
    ManifestUnknown,
}

/// Deletes a tag and leaves its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTag {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
}

/// Why [`DeleteTag`] was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DeleteTagRefused {
    /// The repository does not have it.
    #[error("the tag is unknown")]
    TagUnknown,
}

//! What home and its mirrors say to each other: lines of JSON.
//!
//! Fields and kinds are added, never changed: a mirror may be of an earlier release than its home, or of a later one. Fields
//! that it does not know, it passes over; at a kind of change that it does not know it stops, since it could not stay like
//! home without it, and says that it is of another release: so mirrors are upgraded before their homes. The files in
//! `golden/wire/v1` hold what each line looks like.

use roadstead_domain::Fault;
use roadstead_metadata::{Change, ChangeKind, ClusterId, LogTime, Position};
use roadstead_oci::{Digest, RepositoryName, Tag, UploadId};
use serde::{Deserialize, Serialize};

use crate::region::WireRegion;

/// A line of the feed. One comes at least each second, with or without changes: it says how far home is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedLine {
    /// The cluster whose feed it is, in hexadecimal.
    pub home: HomeId,
    /// The newest change at home.
    pub newest: Position,
    /// Home's time.
    pub time: LogTime,
    /// Those that follow what was sent before, without gaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<WireChange>,
    /// Whether the mirror that is told may write what clients push there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writes: bool,
    /// Who is home, where that is not the first one any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<WireRegion>,
    /// Whether home waits for what its mirrors say of how far they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reports: bool,
    /// Whether this is a mirror that leaves out something of what its home has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// The large uploads that are in progress at home or have just become blobs, whenever they are others, or stand
    /// elsewhere, than in the line before that had them. One in progress that is not among them any more is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploads: Option<Vec<WireUpload>>,
}

/// An upload of a client's: its parts may be fetched while it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireUpload {
    /// Its session.
    pub upload: UploadId,
    /// Where it pushes to.
    pub repository: RepositoryName,
    /// Bytes from the start that are in whole parts; all, once the digest is known.
    pub offset: u64,
    /// The blob, once all of it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// A cluster's id in hexadecimal: JSON has no numbers of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HomeId(pub ClusterId);

impl From<HomeId> for String {
    fn from(HomeId(ClusterId(id)): HomeId) -> Self {
        format!("{id:032x}")
    }
}

impl TryFrom<String> for HomeId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(|id| Self(ClusterId(id)))
    }
}

/// A change of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireChange {
    /// Its place.
    pub position: Position,
    /// When it was applied, by home's time.
    pub at: LogTime,
    /// What changed.
    #[serde(flatten)]
    pub kind: WireKind,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are those of the change of that name")]
pub enum WireKind {
    /// A repository holds a blob: it may be fetched from now on.
    BlobLinked { repository: RepositoryName, digest: Digest, size: u64 },
    /// It does not any more.
    BlobUnlinked { repository: RepositoryName, digest: Digest },
    /// A manifest was put.
    ManifestPut {
        repository: RepositoryName,
        digest: Digest,
        tags: Vec<Tag>,
        /// The manifest, if it is small and still there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        manifest: Option<WireManifest>,
    },
    /// A manifest is gone, and its tags.
    ManifestDeleted { repository: RepositoryName, digest: Digest },
    /// A tag is gone.
    TagDeleted { repository: RepositoryName, tag: Tag },
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireManifest {
    /// As its client declared it.
    pub media_type: String,
    /// Its bytes, which are JSON and so are text.
    pub text: String,
}

/// A line of a snapshot, which says everything that home has at one moment, repository by repository in the order of their
/// names. Within one: blobs, then manifests, then tags, each in order too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum SnapshotLine {
    /// The first.
    Begin { home: HomeId, position: Position, time: LogTime },
    /// Blobs that a repository holds, and their sizes.
    Blobs { repository: RepositoryName, blobs: Vec<(Digest, u64)> },
    /// Its manifests.
    Manifests { repository: RepositoryName, digests: Vec<Digest> },
    /// Its tags.
    Tags { repository: RepositoryName, tags: Vec<(Tag, Digest)> },
    /// All was said; a snapshot without it broke off.
    End,
}

impl WireKind {
    /// Where it happened.
    pub(crate) const fn repository(&self) -> &RepositoryName {
        match self {
            Self::BlobLinked { repository, .. }
            | Self::BlobUnlinked { repository, .. }
            | Self::ManifestPut { repository, .. }
            | Self::ManifestDeleted { repository, .. }
            | Self::TagDeleted { repository, .. } => repository,
        }
    }

    pub(crate) fn of(change: ChangeKind, manifest: Option<WireManifest>) -> Self {
        match change {
            ChangeKind::BlobLinked { repository, digest, size } => Self::BlobLinked { repository, digest, size },
            ChangeKind::BlobUnlinked { repository, digest } => Self::BlobUnlinked { repository, digest },
            ChangeKind::ManifestPut { repository, digest, tags } => {
                Self::ManifestPut { repository, digest, tags, manifest }
            }
            ChangeKind::ManifestDeleted { repository, digest } => Self::ManifestDeleted { repository, digest },
            ChangeKind::TagDeleted { repository, tag } => Self::TagDeleted { repository, tag },
        }
    }

    pub(crate) fn into_change(self) -> (ChangeKind, Option<WireManifest>) {
        match self {
            Self::BlobLinked { repository, digest, size } => {
                (ChangeKind::BlobLinked { repository, digest, size }, None)
            }
            Self::BlobUnlinked { repository, digest } => (ChangeKind::BlobUnlinked { repository, digest }, None),
            Self::ManifestPut { repository, digest, tags, manifest } => {
                (ChangeKind::ManifestPut { repository, digest, tags }, manifest)
            }
            Self::ManifestDeleted { repository, digest } => (ChangeKind::ManifestDeleted { repository, digest }, None),
            Self::TagDeleted { repository, tag } => (ChangeKind::TagDeleted { repository, tag }, None),
        }
    }
}

impl WireChange {
    pub(crate) fn of(change: Change, manifest: Option<WireManifest>) -> Self {
        let Change { position, at, kind } = change;
        Self { position, at, kind: WireKind::of(kind, manifest) }
    }
}

/// What home says to a manifest or a deletion that a mirror forwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum WriteAnswer {
    /// It is done.
    Done {
        /// A place in home's feed that is not before it: what has received that shows it.
        position: Position,
        /// The manifest that was put.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// What that refers to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<Digest>,
    },
    /// The repository does not hold these blobs, which the manifest names.
    BlobsUnknown {
        /// Those.
        missing: Vec<Digest>,
    },
    /// A reference names another manifest than the client says, or none.
    PreconditionFailed,
    /// There is no such manifest or tag to delete.
    Unknown,
    /// It is done, and no mirror has said in time that it has it.
    NoRemote,
    /// It is no manifest that home takes.
    Invalid {
        /// Why not, for whoever pushes it.
        reason: String,
    },
}

/// What home says to a blob that a mirror sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum BlobAnswer {
    /// The repository holds it.
    Held,
    /// It goes on elsewhere, or another replica sends it.
    GoesOnAt {
        /// How many bytes home has.
        offset: u64,
    },
    /// It cannot be taken.
    Invalid {
        /// Why not.
        reason: String,
    },
}

/// Blobs that a mirror has and wants to be held by a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which.
    pub digests: Vec<Digest>,
}

/// Those of them that home does not have: the mirror sends them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Which.
    pub digests: Vec<Digest>,
}

/// How many bytes of a blob home has that a mirror sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// From the start.
    pub offset: u64,
}

/// A line that is written; it ends with a newline.
pub(crate) fn line(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    let mut line = serde_json::to_vec(value)
        .map_err(|error| Fault::Inconsistent(format!("a line for a mirror cannot be written: {error}")))?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests;

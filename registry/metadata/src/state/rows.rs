//! The values of the state, as they are persisted: fields are written in order, so a change is a new format.

use roadstead_oci::{Digest, HashState, MultipartId, ObjectKey, RepositoryName, UploadId};
use serde::{Deserialize, Serialize};

use crate::{
    Arrival, ChangeKind, ClusterId, Comparison, Epoch, Incarnation, LogTime, ManifestContent, Multipart, Outcome,
    Position, Promotion, PutManifest, RegionEpoch, Repository, Tail,
};

/// The counters and clocks of the whole state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The newest change of the feed.
    pub position: Position,
    /// The state's time: the highest that any entry was stamped with.
    pub time: LogTime,
    /// Sessions that are not finished.
    pub uploads_open: u64,
    /// No result of a command older than this is kept.
    pub dedup_since: LogTime,
}

/// A fresh state: the first epoch, nothing changed yet.
impl Default for Head {
    fn default() -> Self {
        Self {
            position: Position { epoch: 1, sequence: 0 },
            time: LogTime(0),
            uploads_open: 0,
            dedup_since: LogTime(0),
        }
    }
}

/// What a repository holds.
pub(crate) type RepositoryRow = Repository;

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRow {
    pub media_type: String,
    pub size: u64,
    pub content: ManifestContent,
    /// Each of them has this manifest in its count.
    pub blobs: Vec<Digest>,
    /// Under which it is listed as a referrer.
    pub subject: Option<Digest>,
}

/// What the listing of referrers shows of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReferrerRow {
    pub media_type: String,
    pub size: u64,
    pub artifact_type: Option<String>,
    pub annotations: Vec<(String, String)>,
}

/// A blob in a repository. Exists while the repository holds the blob or has manifests that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct MembershipRow {
    /// Whether the repository holds it: not, where it was unlinked under manifests that name it.
    pub held: bool,
    /// How many of the repository's manifests name it.
    pub manifests: u64,
    /// When it was linked, mounted or touched last, or named last: its lease begins here.
    pub leased: LogTime,
}

impl MembershipRow {
    /// Whether nothing but its lease keeps the blob in the repository.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.held && self.manifests == 0
    }
}

/// The object of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectRow {
    pub size: u64,
    pub key: ObjectKey,
    /// How many repositories hold it.
    pub memberships: u64,
    /// Since when that is none.
    pub unreferenced: Option<LogTime>,
}

/// What may be done with an object's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyRow {
    Reserved {
        since: LogTime,
    },
    Held {
        upload: UploadId,
    },
    Linked,
    /// Its object may be deleted from `due` on.
    Condemned {
        due: LogTime,
        multipart: Option<MultipartId>,
    },
    /// It was that of a blob or manifest: somebody may be reading its object, and a backup may name it.
    Retired {
        since: LogTime,
    },
}

/// An upload session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRow {
    pub repository: RepositoryName,
    pub owner: Incarnation,
    pub epoch: Epoch,
    pub sha512: bool,
    pub touched: LogTime,
    pub phase: Phase,
}

/// How far an upload session is; its parts are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Receiving(Receiving),
    Completing { digest: Digest, size: u64, multipart: Multipart },
    Finished { digest: Digest, size: u64, deduplicated: bool },
}

/// A session that takes bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receiving {
    pub offset: u64,
    pub hash: HashState,
    pub multipart: Option<Multipart>,
    pub tail: Option<Tail>,
}

impl Receiving {
    /// The key of the tail, where that is an object of its own.
    pub(crate) fn tail_key(&self) -> Option<&ObjectKey> {
        match &self.tail {
            Some(Tail::Object { key, .. }) => Some(key),
            Some(Tail::FinalPart(_)) | None => None,
        }
    }
}

/// A durable part of a session's multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRow {
    pub size: u64,
    pub etag: String,
}

/// A change of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangeRow {
    pub at: LogTime,
    pub kind: ChangeKind,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DedupRow {
    pub at: LogTime,
    pub outcome: Outcome,
}

/// How far a mirror has come with its home's feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CursorRow {
    pub home: ClusterId,
    /// The last change that was received.
    pub position: Position,
    /// The comparison with home that was begun and has not ended: `position` means nothing then.
    pub comparison: Option<Comparison>,
    /// Whether what waits is being forgotten: nothing of it is published then.
    pub forgetting: bool,
    /// How many changes were ever received.
    pub arrivals: u64,
    /// How many of them wait in the inbox.
    pub waiting: u64,
    /// How many blobs are wanted, and their bytes, each counted once.
    pub wanted_blobs: u64,
    pub wanted_bytes: u64,
}

/// A change that waits for its turn, or for what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InboxRow {
    pub position: Position,
    pub at: LogTime,
    pub kind: ChangeKind,
    pub manifest: Option<PutManifest>,
}

/// A blob that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WantedRow {
    pub size: u64,
    /// The change that said so.
    pub arrival: Arrival,
}

/// What a tag will point at: nothing, if it will be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnnouncedTagRow {
    pub arrival: Arrival,
    pub digest: Option<Digest>,
}

/// Whether there will be a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnnouncedRow {
    /// The change that puts or deletes it.
    pub arrival: Arrival,
    pub exists: bool,
}

/// Somebody who may follow this registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorRow {
    pub name: String,
    pub admitted: LogTime,
}

/// What a region knows of who is home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegionRow {
    /// The highest epoch that it knows of.
    pub epoch: RegionEpoch,
    /// The first home of that line of epochs.
    pub origin: ClusterId,
    /// Whether these are the facts of that epoch's home.
    pub is_home: bool,
    /// How it became home, if it ever was promoted.
    pub promotion: Option<Promotion>,
}

/// A change that is kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AsideRow {
    pub at: LogTime,
    pub kind: ChangeKind,
    /// What was put, if it was still there.
    pub manifest: Option<ManifestRow>,
}

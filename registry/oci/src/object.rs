//! The words that facts and bytes share: how an object in the blob store is named, and what its parts are.
//!
//! They live here because neither `metadata` nor `blobs` may import the other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Digest;

/// The key of an object in the blob store. That of content is random and written once, so that a late delete of an old
/// key can never hit content that was pushed again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

impl ObjectKind {
    /// Whether it belongs to the backup, and not to the content that facts name.
    pub const fn is_backup(&self) -> bool {
        matches!(self, Self::Marker { .. } | Self::LogSegment { .. } | Self::Snapshot { .. })
    }
}

/// What the keys of the backup begin with.
const META: &str = "meta/";

/// A text that is no object key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an object key is blobs/<uuid>, tails/<uuid>, manifests/<algorithm>/<hex>/<uuid>, meta/marker-<number>, \
     meta/<uuid>/log-<number>-<number> or meta/<uuid>/snapshot-<number>"
)]
pub struct ObjectKeyError;

/// What an object is, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A blob's bytes.
    Blob,
    /// The bytes after an upload's last full part.
    Tail,
    /// A manifest too large for the log.
    Manifest {
        /// Of its bytes.
        digest: Digest,
    },
    /// Says to which registry the store belongs.
    Marker {
        /// How often that was said.
        incarnation: u64,
    },
    /// Entries of a history's log.
    LogSegment {
        /// The history.
        history: Uuid,
        /// Its first entry.
        first: u64,
        /// Its last entry.
        last: u64,
    },
    /// All facts of a history at one moment.
    Snapshot {
        /// The history.
        history: Uuid,
        /// The last entry of the log that is in it.
        index: u64,
    },
}

impl ObjectKey {
    /// The key of a blob: `blobs/<uuid>`.
    pub fn blob(id: Uuid) -> Self {
        Self(format!("blobs/{id}"))
    }

    /// The key of an upload's tail, the bytes after its last full part: `tails/<uuid>`.
    pub fn tail(id: Uuid) -> Self {
        Self(format!("tails/{id}"))
    }

    /// The key of a manifest too large for the log: `manifests/<algorithm>/<hex>/<uuid>`. The digest is in it so
    /// that manifests can be found again in a bucket of which no facts are left.
    pub fn manifest(digest: Digest, id: Uuid) -> Self {
        Self(format!("manifests/{}/{}/{id}", digest.algorithm(), digest.encoded()))
    }

    /// The key of a marker: `meta/marker-<incarnation>`. The newest one counts; each is written once, and only if it is
    /// not there, so that of two that begin the same incarnation one is refused.
    pub fn marker(incarnation: u64) -> Self {
        Self(format!("{META}marker-{incarnation:020}"))
    }

    /// The key of a segment of a history's log: `meta/<history>/log-<first>-<last>`. Numbers have twenty digits, so that
    /// keys are ordered as entries are.
    pub fn log_segment(history: Uuid, first: u64, last: u64) -> Self {
        Self(format!("{META}{history}/log-{first:020}-{last:020}"))
    }

    /// The key of a snapshot of a history's facts: `meta/<history>/snapshot-<index>`.
    pub fn snapshot(history: Uuid, index: u64) -> Self {
        Self(format!("{META}{history}/snapshot-{index:020}"))
    }

    /// What the object is.
    pub fn kind(&self) -> ObjectKind {
        match parse(&self.0) {
            Some((kind, _)) => kind,
            None => unreachable!("a key has one of the forms that it is made of"),
        }
    }

    /// The key as the store spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, ObjectKeyError> {
        // Only the one spelling that we write: numbers with all digits, ids hyphenated and in lower case.
        parse(text).map(|(_, key)| key).filter(|key| key.0 == text).ok_or(ObjectKeyError)
    }
}

/// What a key says, and the key that says so.
fn parse(text: &str) -> Option<(ObjectKind, ObjectKey)> {
    if let Some(rest) = text.strip_prefix(META) {
        return parse_meta(rest);
    }
    let (folder, id) = text.rsplit_once('/')?;
    let id = Uuid::try_parse(id).ok()?;
    Some(match folder {
        "blobs" => (ObjectKind::Blob, ObjectKey::blob(id)),
        "tails" => (ObjectKind::Tail, ObjectKey::tail(id)),
        _ => {
            let digest: Digest = folder.strip_prefix("manifests/")?.replacen('/', ":", 1).parse().ok()?;
            (ObjectKind::Manifest { digest }, ObjectKey::manifest(digest, id))
        }
    })
}

fn parse_meta(rest: &str) -> Option<(ObjectKind, ObjectKey)> {
    if let Some(incarnation) = rest.strip_prefix("marker-") {
        let incarnation = incarnation.parse().ok()?;
        return Some((ObjectKind::Marker { incarnation }, ObjectKey::marker(incarnation)));
    }
    let (history, name) = rest.split_once('/')?;
    let history = Uuid::try_parse(history).ok()?;
    Some(if let Some(index) = name.strip_prefix("snapshot-") {
        let index = index.parse().ok()?;
        (ObjectKind::Snapshot { history, index }, ObjectKey::snapshot(history, index))
    } else {
        let (first, last) = name.strip_prefix("log-")?.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (ObjectKind::LogSegment { history, first, last }, ObjectKey::log_segment(history, first, last))
    })
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = ObjectKeyError;

    fn try_from(text: String) -> Result<Self, ObjectKeyError> {
        text.parse()
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

/// The store's own name for a multipart upload under way, opaque to everybody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MultipartId(pub String);

/// One durable part of a multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Position in the object, from 1 (S3's numbering), at most [`Part::MAX_NUMBER`].
    pub number: u32,
    /// Length in bytes. All parts of an object but the last have the same.
    pub size: u64,
    /// The store's proof of what it holds (S3: the part's `ETag`).
    pub etag: String,
}

impl Part {
    /// S3 knows at most this many parts of an object, so the largest blob is this times the part size.
    pub const MAX_NUMBER: u32 = 10_000;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn only_our_own_spelling_is_a_key() {
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let hash = "0".repeat(64);
        let number = "00000000000000000042";
        for valid in [
            format!("blobs/{id}"),
            format!("tails/{id}"),
            format!("manifests/sha256/{hash}/{id}"),
            format!("meta/marker-{number}"),
            format!("meta/{id}/log-{number}-{number}"),
            format!("meta/{id}/snapshot-{number}"),
        ] {
            assert_eq!(valid.parse::<ObjectKey>().unwrap().as_str(), valid);
        }
        for invalid in [
            String::new(),
            id.to_owned(),
            format!("/{id}"),
            format!("blobs//{id}"),
            format!("blobs/{}", id.to_uppercase()),
            format!("blobs/{}", id.replace('-', "")),
            format!("blobs/{{{id}}}"),
            format!("blobs/{id}/"),
            format!("../blobs/{id}"),
            format!("manifests/{id}"),
            format!("manifests/sha256:{hash}/{id}"),
            format!("manifests/sha512/{hash}/{id}"),
            "meta/marker-42".to_owned(),
            format!("meta/marker-+{}", &number[1..]),
            "meta/marker-99999999999999999999".to_owned(),
            format!("meta/{id}"),
            format!("meta/{id}/log-{number}"),
            format!("meta/{}/snapshot-{number}", id.to_uppercase()),
            format!("meta/{id}/{id}/snapshot-{number}"),
        ] {
            assert_eq!(invalid.parse::<ObjectKey>(), Err(ObjectKeyError), "{invalid}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn keys_round_trip(id in any::<u128>(), hash in any::<[u8; 32]>(), first in any::<u64>(), last in any::<u64>()) {
            let id = Uuid::from_u128(id);
            let digest = Digest::from_hash(Algorithm::Sha256, &hash).unwrap();
            for (kind, key) in [
                (ObjectKind::Blob, ObjectKey::blob(id)),
                (ObjectKind::Tail, ObjectKey::tail(id)),
                (ObjectKind::Manifest { digest }, ObjectKey::manifest(digest, id)),
                (ObjectKind::Marker { incarnation: first }, ObjectKey::marker(first)),
                (ObjectKind::LogSegment { history: id, first, last }, ObjectKey::log_segment(id, first, last)),
                (ObjectKind::Snapshot { history: id, index: last }, ObjectKey::snapshot(id, last)),
            ] {
                prop_assert_eq!(key.kind(), kind);
                prop_assert_eq!(key.as_str().parse(), Ok(key));
            }
        }
    }
}

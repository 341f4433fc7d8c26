//! Questions about what a home that was fenced has kept aside.

use roadstead_oci::Digest;

use super::{Query, QueryError};
use crate::state::keyspace::{ASIDE, MANIFESTS, TAGS};
use crate::state::rows::{AsideRow, ManifestRow};
use crate::{ChangeKind, LogTime, ManifestContent, Position};

/// A change that was acknowledged here and that the home since then did not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsideChange {
    /// Its place in the feed that this region had as home.
    pub position: Position,
    /// When.
    pub at: LogTime,
    /// What changed.
    pub kind: ChangeKind,
    /// What was put, if it was still there when it was kept aside.
    pub manifest: Option<AsideManifest>,
    /// Whether what it made so is so now, as the new home has it: then nothing of it is missing there.
    pub is_so: bool,
}

/// A manifest that is kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsideManifest {
    /// As its client declared it.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// Where its bytes are.
    pub content: ManifestContent,
    /// What it names.
    pub blobs: Vec<Digest>,
}

impl Query {
    /// Up to `limit` changes that are kept aside after a place, in order.
    pub fn aside(&self, after: Option<Position>, limit: usize) -> Result<Vec<AsideChange>, QueryError> {
        let span = match after {
            Some(after) => ASIDE.all().after(ASIDE.key(&after)),
            None => ASIDE.all(),
        };
        let rows = self.rows.scan(ASIDE, span)?.take(limit);
        rows.map(|row| row.and_then(|(position, row)| self.aside_change(position, row))).collect()
    }

    /// The change that is kept aside under this place.
    pub fn aside_at(&self, position: Position) -> Result<Option<AsideChange>, QueryError> {
        let row = self.rows.get(ASIDE, &position)?;
        row.map(|row| self.aside_change(position, row)).transpose()
    }

    /// How many changes are kept aside, counted up to `limit`.
    pub fn count_aside(&self, limit: usize) -> Result<usize, QueryError> {
        Ok(self.rows.keys(ASIDE, ASIDE.all(), limit)?.len())
    }

    fn aside_change(&self, position: Position, row: AsideRow) -> Result<AsideChange, QueryError> {
        let AsideRow { at, kind, manifest } = row;
        let is_so = self.is_so(&kind)?;
        let manifest = manifest.map(|ManifestRow { media_type, size, content, blobs, .. }| AsideManifest {
            media_type,
            size,
            content,
            blobs,
        });
        Ok(AsideChange { position, at, kind, manifest, is_so })
    }

    fn is_so(&self, kind: &ChangeKind) -> Result<bool, QueryError> {
        Ok(match kind {
            ChangeKind::ManifestPut { repository, digest, tags } => {
                let mut is_so = self.rows.has(MANIFESTS, (repository, digest))?;
                for tag in tags {
                    is_so &= self.rows.get(TAGS, (repository, tag))? == Some(*digest);
                }
                is_so
            }
            ChangeKind::ManifestDeleted { repository, digest } => !self.rows.has(MANIFESTS, (repository, digest))?,
            ChangeKind::TagDeleted { repository, tag } => !self.rows.has(TAGS, (repository, tag))?,
            ChangeKind::BlobLinked { .. } | ChangeKind::BlobUnlinked { .. } => true,
        })
    }
}

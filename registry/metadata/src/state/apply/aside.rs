//! Keeping aside what a fenced home has and its successor does not.
//!
//! A manifest that is kept aside is a row of its own, with what it names pinned: so whatever the comparison with the new
//! home deletes here, and whatever is collected then, it can still be taken out whole.

use roadstead_oci::{Digest, ObjectKey, RepositoryName};

use super::{Apply, CHANGES_KEPT, Halt, require};
use crate::state::keyspace::{ASIDE, ASIDE_KEYS, ASIDE_UP_TO, CHANGES, MANIFESTS, PINS, QUARANTINED_MANIFESTS};
use crate::state::rows::{AsideRow, ChangeRow, ManifestRow};
use crate::{
    ChangeKind, DismissAside, KeepAside, KeepAsideRefused, KeptAside, ManifestContent, NeverRefused, Position,
    QueryError,
};

impl Apply<'_> {
    pub(super) fn keep_aside(&mut self, operation: KeepAside) -> Result<KeptAside, Halt<KeepAsideRefused>> {
        let KeepAside { after, limit } = operation;
        require(self.is_fenced()?, KeepAsideRefused::NotFenced)?;
        let newest = self.head.position;
        let from = self.rows.get(ASIDE_UP_TO, ())?.unwrap_or(after);
        let oldest = Position { sequence: newest.sequence.saturating_sub(CHANGES_KEPT) + 1, ..newest };
        require(from.sequence + 1 >= oldest.sequence, KeepAsideRefused::Trimmed { oldest })?;
        // Whatever epoch the place is of: all changes that are kept are of the present one.
        let from = Position { sequence: from.sequence, ..newest };
        let rows = self.rows.scan(CHANGES, CHANGES.all().after(CHANGES.key(&from)))?;
        let changes: Vec<(Position, ChangeRow)> = rows.take(limit as usize).collect::<Result<_, _>>()?;
        let last = changes.last().map_or(newest, |(position, _)| *position);
        let mut kept = 0;
        for (position, change) in changes {
            kept += u32::from(self.keep_one_aside(position, change)?);
        }
        self.rows.put(ASIDE_UP_TO, (), &last)?;
        Ok(KeptAside { kept, more: last < newest })
    }

    /// Whether nothing of a region that was home is lost if it becomes like its successor.
    pub(super) fn is_all_aside(&self) -> Result<bool, QueryError> {
        if !self.is_fenced()? {
            return Ok(true);
        }
        let up_to = self.rows.get(ASIDE_UP_TO, ())?;
        Ok(up_to.is_some_and(|up_to| up_to.sequence >= self.head.position.sequence))
    }

    fn keep_one_aside(&mut self, position: Position, change: ChangeRow) -> Result<bool, QueryError> {
        let ChangeRow { at, kind } = change;
        let manifest = match &kind {
            // Of blobs alone no client has seen anything.
            ChangeKind::BlobLinked { .. } | ChangeKind::BlobUnlinked { .. } => return Ok(false),
            ChangeKind::ManifestPut { repository, digest, .. } => self.manifest_row(repository, digest)?,
            ChangeKind::ManifestDeleted { .. } | ChangeKind::TagDeleted { .. } => None,
        };
        if let Some(manifest) = &manifest {
            for blob in &manifest.blobs {
                self.rows.put(PINS, (blob, &position), &())?;
            }
            if let ManifestContent::Object(key) = &manifest.content {
                self.rows.put(ASIDE_KEYS, (key, &position), &())?;
            }
        }
        self.rows.put(ASIDE, &position, &AsideRow { at, kind, manifest })?;
        Ok(true)
    }

    fn manifest_row(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<ManifestRow>, QueryError> {
        match self.rows.get(MANIFESTS, (repository, digest))? {
            None => self.rows.get(QUARANTINED_MANIFESTS, (repository, digest)),
            sound => Ok(sound),
        }
    }

    pub(super) fn dismiss_aside(&mut self, operation: DismissAside) -> Result<u32, Halt<NeverRefused>> {
        let DismissAside { position, limit } = operation;
        let positions = match position {
            Some(position) => vec![position],
            None => self.rows.keys(ASIDE, ASIDE.all(), limit as usize)?,
        };
        let mut dismissed = 0;
        for position in positions {
            let Some(AsideRow { kind, manifest, .. }) = self.rows.take(ASIDE, &position)? else { continue };
            dismissed += 1;
            let (Some(manifest), ChangeKind::ManifestPut { repository, digest, .. }) = (manifest, kind) else {
                continue;
            };
            for blob in &manifest.blobs {
                self.rows.remove(PINS, (blob, &position))?;
            }
            if let ManifestContent::Object(key) = &manifest.content {
                self.rows.remove(ASIDE_KEYS, (key, &position))?;
                self.drop_content(&repository, &digest, key)?;
            }
        }
        Ok(dismissed)
    }

    /// Lets the object of a manifest go, unless it is still a repository's or kept aside.
    fn drop_content(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        key: &ObjectKey,
    ) -> Result<(), QueryError> {
        let content = ManifestContent::Object(key.clone());
        let held = self.manifest_row(repository, digest)?.is_some_and(|row| row.content == content);
        if held || self.is_content_aside(key)? {
            return Ok(());
        }
        self.condemn(key, None)
    }

    /// Whether the object of a manifest is that of one that is kept aside, and stays when the manifest goes.
    pub(super) fn is_content_aside(&self, key: &ObjectKey) -> Result<bool, QueryError> {
        Ok(!self.rows.keys(ASIDE_KEYS, ASIDE_KEYS.within::<ObjectKey>(key), 1)?.is_empty())
    }

    /// Whether a blob is named by what is kept aside, and is not collected.
    pub(super) fn is_pinned(&self, digest: &Digest) -> Result<bool, QueryError> {
        Ok(!self.rows.keys(PINS, PINS.within::<Digest>(digest), 1)?.is_empty())
    }
}

//! Questions about how far mirrors are, where pushes wait for that.

use roadstead_oci::{Digest, RepositoryName};

use super::{Query, QueryError};
use crate::state::keyspace::{CHANGES, CURSOR, INBOX, INBOX_BY_AGE, REMOTES};
use crate::{ChangeKind, Position, RemoteProgress};

/// How far back a change is looked for that was made a moment ago.
const LOOKED_BACK: u64 = 512;

impl Query {
    /// How far this mirror is, to be told to its home; `None` while it has nothing, or is being compared.
    pub fn progress(&self) -> Result<Option<RemoteProgress>, QueryError> {
        let Some(cursor) = self.rows.get(CURSOR, ())?.filter(|cursor| cursor.comparison.is_none()) else {
            return Ok(None);
        };
        let mut progress = RemoteProgress { received: cursor.position, waiting: Vec::new() };
        for row in self.rows.scan(INBOX_BY_AGE, INBOX_BY_AGE.all())? {
            let (arrival, repository) = row?;
            let Some(row) = self.rows.get(INBOX, (&repository, &arrival))? else { continue };
            if row.position == Position::default() {
                // Brought by a comparison, which tells of no change of home's which it was.
                return Ok(Some(RemoteProgress::default()));
            }
            if progress.waiting.len() == RemoteProgress::MAX_WAITING {
                progress.received.sequence = row.position.sequence.saturating_sub(1);
                break;
            }
            progress.waiting.push(row.position.sequence);
        }
        progress.waiting.sort_unstable();
        Ok(Some(progress))
    }

    /// How far a mirror is that has told.
    pub fn remotes(&self) -> Result<Vec<(String, RemoteProgress)>, QueryError> {
        self.rows
            .scan(REMOTES, REMOTES.all())?
            .map(|row| row.map(|(_, noted)| (noted.mirror, noted.progress)))
            .collect()
    }

    /// The last change that put a manifest, if it is among the last few hundred.
    pub fn put_lately(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Position>, QueryError> {
        let newest = self.position()?;
        let after = Position { sequence: newest.sequence.saturating_sub(LOOKED_BACK), ..newest };
        let mut last = None;
        for row in self.rows.scan(CHANGES, CHANGES.all().after(CHANGES.key(&after)))? {
            let (position, change) = row?;
            let is_it = matches!(
                &change.kind,
                ChangeKind::ManifestPut { repository: put_to, digest: put, .. } if put_to == repository && put == digest
            );
            if is_it {
                last = Some(position);
            }
        }
        Ok(last)
    }
}

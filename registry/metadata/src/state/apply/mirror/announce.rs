//! What will be, once everything that was received is published: what pulls are told while home is there to stream from.

use roadstead_oci::{Digest, RepositoryName, Tag};

use crate::state::apply::Apply;
use crate::state::keyspace::{ANNOUNCED_MANIFESTS, ANNOUNCED_TAGS, CURSOR, INBOX, INBOX_BY_AGE, OBJECTS, TAGS_OF};
use crate::state::rows::{AnnouncedRow, AnnouncedTagRow, InboxRow};
use crate::{Arrival, ChangeKind, QueryError, ReceivedChange};

impl Apply<'_> {
    /// Puts a change into the inbox, and tells what will come of it.
    pub(super) fn announce(&mut self, change: ReceivedChange) -> Result<(), QueryError> {
        let ReceivedChange { position, at, kind, manifest } = change;
        let mut cursor = self.cursor()?;
        cursor.arrivals += 1;
        cursor.waiting += 1;
        let arrival = Arrival(cursor.arrivals);
        self.rows.put(CURSOR, (), &cursor)?;
        let repository = kind.repository().clone();
        match &kind {
            // What is here already is held when its turn comes.
            ChangeKind::BlobLinked { digest, size, .. } if !self.rows.has(OBJECTS, digest)? => {
                self.want(&repository, digest, *size, arrival)?;
            }
            ChangeKind::BlobLinked { .. } | ChangeKind::BlobUnlinked { .. } => {}
            ChangeKind::ManifestPut { digest, tags, .. } => {
                self.rows.put(ANNOUNCED_MANIFESTS, (&repository, digest), &AnnouncedRow { arrival, exists: true })?;
                for tag in tags {
                    self.announce_tag(&repository, tag, arrival, Some(*digest))?;
                }
            }
            ChangeKind::ManifestDeleted { digest, .. } => {
                self.rows.put(ANNOUNCED_MANIFESTS, (&repository, digest), &AnnouncedRow { arrival, exists: false })?;
                for tag in self.tags_to_be(&repository, digest)? {
                    self.announce_tag(&repository, &tag, arrival, None)?;
                }
            }
            ChangeKind::TagDeleted { tag, .. } => self.announce_tag(&repository, tag, arrival, None)?,
        }
        self.rows.put(INBOX_BY_AGE, &arrival, &repository)?;
        self.rows.put(INBOX, (&repository, &arrival), &InboxRow { position, at, kind, manifest })
    }

    fn announce_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        arrival: Arrival,
        digest: Option<Digest>,
    ) -> Result<(), QueryError> {
        self.rows.put(ANNOUNCED_TAGS, (repository, tag), &AnnouncedTagRow { arrival, digest })
    }

    /// The tags that point at a manifest once everything that waits is published.
    fn tags_to_be(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Tag>, QueryError> {
        let mut tags = Vec::new();
        let here = TAGS_OF.within::<(RepositoryName, Digest)>((repository, digest));
        for (_, _, tag) in self.rows.keys(TAGS_OF, here, usize::MAX)? {
            if !self.rows.has(ANNOUNCED_TAGS, (repository, &tag))? {
                tags.push(tag);
            }
        }
        for row in self.rows.scan(ANNOUNCED_TAGS, ANNOUNCED_TAGS.within::<RepositoryName>(repository))? {
            let ((_, tag), announced) = row?;
            if announced.digest == Some(*digest) {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    /// What this change announced comes true with it, unless a later one has announced something else.
    pub(super) fn unannounce_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        arrival: Arrival,
    ) -> Result<(), QueryError> {
        match self.rows.get(ANNOUNCED_TAGS, (repository, tag))? {
            Some(announced) if announced.arrival == arrival => self.rows.remove(ANNOUNCED_TAGS, (repository, tag)),
            _ => Ok(()),
        }
    }

    pub(super) fn unannounce_tags(&mut self, repository: &RepositoryName, arrival: Arrival) -> Result<(), QueryError> {
        let span = ANNOUNCED_TAGS.within::<RepositoryName>(repository);
        for (repository, tag) in self.rows.keys(ANNOUNCED_TAGS, span, usize::MAX)? {
            self.unannounce_tag(&repository, &tag, arrival)?;
        }
        Ok(())
    }

    pub(super) fn unannounce_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        arrival: Arrival,
    ) -> Result<(), QueryError> {
        match self.rows.get(ANNOUNCED_MANIFESTS, (repository, digest))? {
            Some(announced) if announced.arrival == arrival => {
                self.rows.remove(ANNOUNCED_MANIFESTS, (repository, digest))
            }
            _ => Ok(()),
        }
    }
}

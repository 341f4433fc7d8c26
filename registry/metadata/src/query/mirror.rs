//! Questions about mirrors: what one has received and not published, and who may follow this registry.

use roadstead_oci::{Digest, RepositoryName, Tag};

use super::{Query, QueryError};
use crate::state::keyspace::{
    ANNOUNCED_MANIFESTS, ANNOUNCED_TAGS, CURSOR, FILTER, INBOX, INBOX_BY_AGE, MANIFESTS, MEMBERSHIPS, MIRRORS, OBJECTS,
    QUARANTINED_MANIFESTS, QUARANTINED_OBJECTS, WANTED, WRITERS,
};
use crate::state::rows::{AnnouncedRow, CursorRow, InboxRow, MirrorRow};
use crate::{Arrival, Change, ChangeKind, ClusterId, LogTime, Position, PutManifest};

/// How far a mirror is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Following {
    /// Its home.
    pub home: ClusterId,
    /// The last change that was received.
    pub position: Position,
    /// Whether it is being compared with its home anew: `position` means nothing then.
    pub comparing: bool,
    /// How many changes were received and wait.
    pub waiting: u64,
    /// How many blobs are wanted.
    pub wanted_blobs: u64,
    /// Their bytes.
    pub wanted_bytes: u64,
}

/// What is known of a tag beyond where it points now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncedTag {
    /// Nothing: where it points now is the newest.
    Nothing,
    /// It will point there.
    At(Digest),
    /// It will be gone.
    Gone,
}

/// What is known of a manifest beyond whether it is here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnouncedManifest {
    /// Nothing.
    Nothing,
    /// It will be here.
    Coming(Option<Box<PutManifest>>),
    /// It will be gone.
    Gone,
}

/// A blob that a repository holds at home and not here yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The blob.
    pub digest: Digest,
    /// The repository.
    pub repository: RepositoryName,
    /// In bytes.
    pub size: u64,
    /// When it was announced, by the count of what was received.
    pub arrival: Arrival,
}

/// The first change of an inbox, where somebody has to do something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// Home has to be asked for the manifest.
    Manifest {
        /// The repository.
        repository: RepositoryName,
        /// The change that put it.
        arrival: Arrival,
        /// The manifest.
        digest: Digest,
        /// Its tags.
        tags: Vec<Tag>,
    },
    /// Its turn has come: [`AdvanceInbox`](crate::AdvanceInbox).
    Ready(RepositoryName),
}

/// Somebody who may follow this registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmittedMirror {
    /// What people call it.
    pub name: String,
    /// Since when.
    pub admitted: LogTime,
    /// Whether it may write what clients push there.
    pub writes: bool,
}

impl Query {
    /// How far this mirror is; `None` if nothing was ever received.
    pub fn following(&self) -> Result<Option<Following>, QueryError> {
        let cursor = self.rows.get(CURSOR, ())?;
        Ok(cursor.map(|cursor| {
            let CursorRow { home, position, comparison, waiting, wanted_blobs, wanted_bytes, .. } = cursor;
            Following { home, position, comparing: comparison.is_some(), waiting, wanted_blobs, wanted_bytes }
        }))
    }

    /// The oldest change that waits: its place in home's feed, and when it was applied there.
    pub fn oldest_waiting(&self) -> Result<Option<(Position, LogTime)>, QueryError> {
        let Some(oldest) = self.rows.scan(INBOX_BY_AGE, INBOX_BY_AGE.all())?.next() else { return Ok(None) };
        let (arrival, repository) = oldest?;
        Ok(self.rows.get(INBOX, (&repository, &arrival))?.map(|row| (row.position, row.at)))
    }

    /// Manifests that were received and wait, the oldest first: with their places in home's feed.
    pub fn waiting_manifests(&self, limit: usize) -> Result<Vec<Change>, QueryError> {
        let mut waiting = Vec::new();
        for row in self.rows.scan(INBOX_BY_AGE, INBOX_BY_AGE.all())? {
            let (arrival, repository) = row?;
            let row = self.rows.get(INBOX, (&repository, &arrival))?;
            let put = row.filter(|row| matches!(row.kind, ChangeKind::ManifestPut { .. }));
            waiting.extend(put.map(|InboxRow { position, at, kind, .. }| Change { position, at, kind }));
            if waiting.len() >= limit {
                break;
            }
        }
        Ok(waiting)
    }

    /// Whether manifests of a repository, or such as wait for their turn, name a blob, whether it is held or not. At most `limit`
    /// of those that wait are looked at.
    pub fn names_blob(&self, repository: &RepositoryName, digest: &Digest, limit: usize) -> Result<bool, QueryError> {
        let membership = self.rows.get(MEMBERSHIPS, (repository, digest))?;
        if membership.is_some_and(|membership| membership.manifests > 0) {
            return Ok(true);
        }
        let waiting = self.manifests_waiting(repository, limit)?;
        Ok(waiting.iter().any(|manifest| manifest.blobs.contains(digest)))
    }

    /// Manifests of a repository that were received with their text and wait for their turn, among the first `limit` changes
    /// that do.
    pub fn manifests_waiting(&self, repository: &RepositoryName, limit: usize) -> Result<Vec<PutManifest>, QueryError> {
        let rows = self.rows.scan(INBOX, INBOX.within::<RepositoryName>(repository))?.take(limit);
        rows.filter_map(|row| row.map(|(_, row)| row.manifest).transpose()).collect()
    }

    /// What the filter hashes to by which what is here was chosen; everything is, without.
    pub fn chosen_by(&self) -> Result<Option<Digest>, QueryError> {
        self.rows.get(FILTER, ())
    }

    /// Where a tag will point.
    pub fn announced_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<AnnouncedTag, QueryError> {
        Ok(match self.rows.get(ANNOUNCED_TAGS, (repository, tag))? {
            None => AnnouncedTag::Nothing,
            Some(row) => row.digest.map_or(AnnouncedTag::Gone, AnnouncedTag::At),
        })
    }

    /// Whether a manifest will be here, and what it is, where home has sent that along.
    pub fn announced_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<AnnouncedManifest, QueryError> {
        let Some(AnnouncedRow { arrival, exists }) = self.rows.get(ANNOUNCED_MANIFESTS, (repository, digest))? else {
            return Ok(AnnouncedManifest::Nothing);
        };
        if !exists {
            return Ok(AnnouncedManifest::Gone);
        }
        let row = self.rows.get(INBOX, (repository, &arrival))?;
        Ok(AnnouncedManifest::Coming(row.and_then(|row| row.manifest).map(Box::new)))
    }

    /// The size of a blob that a repository holds at home and not here yet.
    pub fn is_wanted(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>, QueryError> {
        Ok(self.rows.get(WANTED, (digest, repository))?.map(|row| row.size))
    }

    /// Blobs after `after` that are wanted, by digest and repository.
    pub fn wanted(&self, after: Option<(&Digest, &RepositoryName)>, limit: usize) -> Result<Vec<Wanted>, QueryError> {
        let span = match after {
            Some(after) => WANTED.all().after(WANTED.key(after)),
            None => WANTED.all(),
        };
        let rows = self.rows.scan(WANTED, span)?.map(|row| {
            let ((digest, repository), wanted) = row?;
            Ok(Wanted { digest, repository, size: wanted.size, arrival: wanted.arrival })
        });
        rows.take(limit).collect()
    }

    /// Those who want a blob, or who hold it where it is set aside: then its bytes are wanted once more.
    pub fn wanting(&self, digest: &Digest, limit: usize) -> Result<Vec<RepositoryName>, QueryError> {
        let rows = self.rows.keys(WANTED, WANTED.within::<Digest>(digest), limit)?;
        if rows.is_empty() && self.rows.has(QUARANTINED_OBJECTS, digest)? {
            return self.holders(digest, None, limit);
        }
        Ok(rows.into_iter().map(|(_, repository)| repository).collect())
    }

    /// Blobs that are set aside, as if they were wanted by one of those who hold them.
    pub fn wanted_again(&self, limit: usize) -> Result<Vec<Wanted>, QueryError> {
        let mut wanted = Vec::new();
        for object in self.objects(true, None, limit)? {
            let holder = self.holders(&object.digest, None, 1)?.pop();
            let arrival = Arrival::default();
            wanted.extend(holder.map(|repository| Wanted {
                digest: object.digest,
                repository,
                size: object.size,
                arrival,
            }));
        }
        Ok(wanted)
    }

    /// Of the repositories after `after` that have something in their inbox, those about which somebody has to do
    /// something, and the last one that was looked at; at most `limit` are.
    pub fn unresolved(
        &self,
        after: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<(Vec<Unresolved>, Option<RepositoryName>), QueryError> {
        let (mut found, mut last) = (Vec::new(), after.cloned());
        for _ in 0..limit {
            let span = match &last {
                Some(last) => INBOX.all().after(INBOX.key((last, &Arrival(u64::MAX)))),
                None => INBOX.all(),
            };
            let Some(row) = self.rows.scan(INBOX, span)?.next() else { return Ok((found, None)) };
            let ((repository, arrival), row) = row?;
            found.extend(self.unresolved_first(&repository, arrival, row)?);
            last = Some(repository);
        }
        Ok((found, last))
    }

    fn unresolved_first(
        &self,
        repository: &RepositoryName,
        arrival: Arrival,
        row: InboxRow,
    ) -> Result<Option<Unresolved>, QueryError> {
        let repository = repository.clone();
        let InboxRow { kind: ChangeKind::ManifestPut { digest, tags, .. }, manifest, .. } = row else {
            return Ok(Some(Unresolved::Ready(repository)));
        };
        let Some(manifest) = manifest else {
            return Ok(Some(Unresolved::Manifest { repository, arrival, digest, tags }));
        };
        for blob in &manifest.blobs {
            if self.rows.has(WANTED, (blob, &repository))? {
                return Ok(None);
            }
        }
        Ok(Some(Unresolved::Ready(repository)))
    }

    /// The manifests after `after` that a repository has, by digest.
    pub fn manifest_digests(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, QueryError> {
        let mut span = MANIFESTS.within::<RepositoryName>(repository);
        if let Some(after) = after {
            span = span.after(MANIFESTS.key((repository, after)));
        }
        let rows = self.rows.keys(MANIFESTS, span, limit)?;
        Ok(rows.into_iter().map(|(_, digest)| digest).collect())
    }

    /// The blobs after `after` that a repository holds, and their sizes, also of those that are set aside.
    pub fn held_blobs(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, QueryError> {
        let mut span = MEMBERSHIPS.within::<RepositoryName>(repository);
        if let Some(after) = after {
            span = span.after(MEMBERSHIPS.key((repository, after)));
        }
        let held = self.rows.scan(MEMBERSHIPS, span)?.filter_map(|row| match row {
            Ok(((_, digest), membership)) if membership.held => {
                self.size(&digest).transpose().map(|size| Ok((digest, size?)))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        held.take(limit).collect()
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>, QueryError> {
        let object = match self.rows.get(OBJECTS, digest)? {
            None => self.rows.get(QUARANTINED_OBJECTS, digest)?,
            sound => sound,
        };
        Ok(object.map(|object| object.size))
    }

    /// The manifests after `after` that a repository has, also those that are set aside.
    pub fn held_manifests(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, QueryError> {
        let mut span = QUARANTINED_MANIFESTS.within::<RepositoryName>(repository);
        if let Some(after) = after {
            span = span.after(QUARANTINED_MANIFESTS.key((repository, after)));
        }
        let aside = self.rows.keys(QUARANTINED_MANIFESTS, span, limit)?.into_iter().map(|(_, digest)| digest);
        let mut held = self.manifest_digests(repository, after, limit)?;
        held.extend(aside);
        held.sort_unstable();
        held.truncate(limit);
        Ok(held)
    }

    /// The size of a blob that a repository holds and whose bytes are set aside, since they are damaged.
    pub fn blob_set_aside(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>, QueryError> {
        let held = self.rows.get(MEMBERSHIPS, (repository, digest))?.is_some_and(|membership| membership.held);
        if !held {
            return Ok(None);
        }
        Ok(self.rows.get(QUARANTINED_OBJECTS, digest)?.map(|object| object.size))
    }

    /// Whether a manifest is set aside.
    pub fn manifest_set_aside(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, QueryError> {
        self.rows.has(QUARANTINED_MANIFESTS, (repository, digest))
    }

    /// The mirror that has the token with this hash.
    pub fn admitted_mirror(&self, token: &Digest) -> Result<Option<AdmittedMirror>, QueryError> {
        let row = self.rows.get(MIRRORS, token)?;
        let Some(row) = row else { return Ok(None) };
        let writes = self.rows.has(WRITERS, token)?;
        Ok(Some(AdmittedMirror { name: row.name, admitted: row.admitted, writes }))
    }

    /// Whether anybody may follow this registry.
    pub fn admits_mirrors(&self) -> Result<bool, QueryError> {
        Ok(self.rows.scan(MIRRORS, MIRRORS.all())?.next().transpose()?.is_some())
    }

    /// All of them, by name.
    pub fn admitted_mirrors(&self) -> Result<Vec<AdmittedMirror>, QueryError> {
        let rows = self.rows.scan(MIRRORS, MIRRORS.all())?;
        let mut mirrors = rows
            .map(|row| {
                let (token, MirrorRow { name, admitted }) = row?;
                Ok(AdmittedMirror { name, admitted, writes: self.rows.has(WRITERS, &token)? })
            })
            .collect::<Result<Vec<_>, QueryError>>()?;
        mirrors.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(mirrors)
    }
}

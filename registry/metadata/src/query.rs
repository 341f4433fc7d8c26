//! Questions to the applied state.

mod aside;
mod landing;
mod mirror;
mod region;
mod remote;
mod upload;

use std::collections::BTreeMap;

pub use aside::{AsideChange, AsideManifest};
pub use mirror::{AdmittedMirror, AnnouncedManifest, AnnouncedTag, Following, Unresolved, Wanted};
pub use region::{Region, Standing};
use roadstead_oci::{Digest, HashState, MultipartId, ObjectKey, Part, RepositoryName, Tag, UploadId};
use serde::{Deserialize, Serialize};
pub use upload::UploadOutline;

use crate::raft::applied_id;
use crate::state::keyspace::{
    CHANGES, CLUSTER, CONDEMNED, HEAD, HISTORY, HOLDERS, KEYS, LANDED_BY_AGE, LEVEL, MANIFESTS, MEMBERSHIPS, NODES,
    OBJECTS, PARTS, QUARANTINED_MANIFESTS, QUARANTINED_OBJECTS, READS, REFERRERS, REGION, REPOSITORIES, RESERVED,
    RETIRED, TAGS, UNNAMED, UNREFERENCED, UPLOADS, UPLOADS_BY_AGE,
};
use crate::state::rows::{
    ChangeRow, Head, KeyRow, ManifestRow, ObjectRow, PartRow, Phase, Receiving, ReferrerRow, UploadRow,
};
use crate::state::{CHANGES_KEPT, ReadRows};
use crate::{
    Change, ChangesError, ClusterId, Epoch, History, Incarnation, LaterLevel, Level, LogTime, ManifestContent,
    Multipart, Position, Tail, VolumeId,
};

/// A consistent view of what this replica had applied when it was taken. Holding one keeps old pages from being
/// reused, so drop it before waiting for a client.
pub struct Query {
    rows: ReadRows,
}

/// Why the state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The file could not be read.
    #[error("the state could not be read or written: {0}")]
    Storage(Box<dyn std::error::Error + Send + Sync>),
    /// A row is not what was written: restore this replica from its peers or from a backup.
    #[error("a row of the state is damaged: {0}")]
    Damaged(String),
    /// This build does not read it.
    #[error(transparent)]
    Later(#[from] LaterLevel),
}

impl QueryError {
    pub(crate) fn storage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Storage(Box::new(error))
    }
}

/// redb has an error type for each kind of call; none of them can be answered but by giving up.
macro_rules! storage_errors {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for QueryError {
            fn from(error: redb::$error) -> Self {
                Self::storage(error)
            }
        })*
    };
}

storage_errors!(CommitError, SetDurabilityError, StorageError, TableError, TransactionError);

/// An upload session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Where it pushes to.
    pub repository: RepositoryName,
    /// Who owns it.
    pub owner: Incarnation,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// Whether the client said that it will close with a SHA-512 digest.
    pub sha512: bool,
    /// The last change of the session.
    pub touched: LogTime,
    /// How far it is.
    pub state: UploadState,
}

/// How far an upload session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// It takes bytes.
    Receiving(Progress),
    /// Its multipart upload is being completed: whoever takes over completes it again, then commits
    /// [`FinishUpload`](crate::FinishUpload).
    Completing {
        /// What the bytes were verified to be.
        digest: Digest,
        /// In bytes.
        size: u64,
        /// The multipart upload to complete.
        multipart: Multipart,
        /// All of its parts, by number.
        parts: Vec<Part>,
    },
    /// It is a blob.
    Finished {
        /// The blob.
        digest: Digest,
        /// In bytes.
        size: u64,
    },
}

/// The durable bytes of an upload session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Durable bytes from the start of the blob.
    pub offset: u64,
    /// The hash state at `offset`.
    pub hash: HashState,
    /// The multipart upload, if one was begun.
    pub multipart: Option<Multipart>,
    /// Its full parts, by number.
    pub parts: Vec<Part>,
    /// The bytes beyond the full parts.
    pub tail: Option<Tail>,
}

/// A blob that a repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// In bytes.
    pub size: u64,
    /// The object that holds its bytes.
    pub key: ObjectKey,
    /// Where no manifest of the repository names it: since when nobody has asked for it to stay.
    pub unnamed_since: Option<LogTime>,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// As the client declared it last.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// The bytes, or where they are.
    pub content: ManifestContent,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
}

/// What a repository holds. A repository that holds nothing does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Repository {
    /// How many manifests.
    pub manifests: u64,
    /// How many tags.
    pub tags: u64,
    /// How many blobs.
    pub blobs: u64,
}

/// An entry of the referrers listing (OCI distribution specification, "Listing Referrers").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerEntry {
    /// The manifest that refers.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// What the listing is filtered by.
    pub artifact_type: Option<String>,
    /// Of the manifest.
    pub annotations: Vec<(String, String)>,
}

/// The object of a blob that the registry has, for whoever examines all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldObject {
    /// What its bytes are to hash to.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Its key.
    pub key: ObjectKey,
    /// How many repositories hold the blob.
    pub memberships: u64,
}

/// A manifest, for whoever examines all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldManifest {
    /// The repository.
    pub repository: RepositoryName,
    /// What its bytes are to hash to.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The bytes, or where they are.
    pub content: ManifestContent,
}

/// An object that may be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Its key.
    pub key: ObjectKey,
    /// Not before then.
    pub due: LogTime,
    /// The multipart upload that may have to be aborted.
    pub multipart: Option<MultipartId>,
}

/// What may be done with an object's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It may be written and linked.
    Reserved,
    /// An upload session holds it; it ends with the session, not by age.
    Held,
    /// It is the object of a blob or manifest.
    Linked,
    /// It will be deleted and can never be linked.
    Condemned,
}

impl Query {
    pub(crate) fn new(rows: ReadRows) -> Self {
        Self { rows }
    }

    pub(crate) fn into_rows(self) -> ReadRows {
        self.rows
    }

    /// An upload session, finished ones included.
    pub fn upload(&self, upload: &UploadId) -> Result<Option<Upload>, QueryError> {
        let Some(row) = self.rows.get(UPLOADS, upload)? else { return Ok(None) };
        let state = match row.phase {
            Phase::Receiving(Receiving { offset, hash, multipart, tail }) => {
                UploadState::Receiving(Progress { offset, hash, multipart, parts: self.parts(upload)?, tail })
            }
            Phase::Completing { digest, size, multipart } => {
                UploadState::Completing { digest, size, multipart, parts: self.parts(upload)? }
            }
            Phase::Finished { digest, size, .. } => UploadState::Finished { digest, size },
        };
        let UploadRow { repository, owner, epoch, sha512, touched, .. } = row;
        Ok(Some(Upload { repository, owner, epoch, sha512, touched, state }))
    }

    /// How many sessions are open: not finished. Takes no longer the more there are.
    pub fn uploads_open(&self) -> Result<u64, QueryError> {
        Ok(self.head()?.uploads_open)
    }

    /// The sessions, finished ones included, whose last change is before `before`, the oldest first.
    pub fn uploads_untouched_since(&self, before: LogTime, limit: usize) -> Result<Vec<UploadId>, QueryError> {
        let span = UPLOADS_BY_AGE.all().before(UPLOADS_BY_AGE.start_at(&before));
        let rows = self.rows.keys(UPLOADS_BY_AGE, span, limit)?;
        Ok(rows.into_iter().map(|(_, upload)| upload).collect())
    }

    /// A blob, if that repository holds it.
    pub fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Blob>, QueryError> {
        let membership = self.rows.get(MEMBERSHIPS, (repository, digest))?.filter(|membership| membership.held);
        let Some(membership) = membership else { return Ok(None) };
        let unnamed_since = membership.is_unnamed().then_some(membership.leased);
        let object = self.rows.get(OBJECTS, digest)?;
        Ok(object.map(|ObjectRow { size, key, .. }| Blob { size, key, unnamed_since }))
    }

    /// The repositories after `after` that hold a blob.
    pub fn holders(
        &self,
        digest: &Digest,
        after: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, QueryError> {
        let span = HOLDERS.within::<Digest>(digest).after_text(after.map(RepositoryName::as_str));
        let rows = self.rows.keys(HOLDERS, span, limit)?;
        Ok(rows.into_iter().map(|(_, repository)| repository).collect())
    }

    /// A manifest of a repository.
    pub fn manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<StoredManifest>, QueryError> {
        let row = self.rows.get(MANIFESTS, (repository, digest))?;
        let stored = |ManifestRow { media_type, size, content, subject, .. }| StoredManifest {
            media_type,
            size,
            content,
            subject,
        };
        Ok(row.map(stored))
    }

    /// What a tag points at.
    pub fn tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, QueryError> {
        self.rows.get(TAGS, (repository, tag))
    }

    /// The tags after `last`, byte by byte; `last` need not exist, nor be a tag.
    pub fn tags(&self, repository: &RepositoryName, last: Option<&str>, limit: usize) -> Result<Vec<Tag>, QueryError> {
        let span = TAGS.within::<RepositoryName>(repository).after_text(last);
        let rows = self.rows.keys(TAGS, span, limit)?;
        Ok(rows.into_iter().map(|(_, tag)| tag).collect())
    }

    /// A repository, if it holds anything.
    pub fn repository(&self, repository: &RepositoryName) -> Result<Option<Repository>, QueryError> {
        self.rows.get(REPOSITORIES, repository)
    }

    /// The repositories after `last`, byte by byte; `last` need not exist, nor be a name.
    pub fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, QueryError> {
        self.rows.keys(REPOSITORIES, REPOSITORIES.all().after_text(last), limit)
    }

    /// The manifests after `after` that name `subject`, of one artifact type or of all. A filter looks at every
    /// referrer of the subject up to the page's end.
    pub fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ReferrerEntry>, QueryError> {
        let mut span = REFERRERS.within::<(RepositoryName, Digest)>((repository, subject));
        if let Some(after) = after {
            span = span.after(REFERRERS.key((repository, subject, after)));
        }
        let entries = self.rows.scan(REFERRERS, span)?.map(|row| {
            let ((_, _, digest), ReferrerRow { media_type, size, artifact_type, annotations }) = row?;
            Ok(ReferrerEntry { digest, media_type, size, artifact_type, annotations })
        });
        let wanted = |entry: &Result<ReferrerEntry, QueryError>| match (entry, artifact_type) {
            (Ok(entry), Some(wanted)) => entry.artifact_type.as_deref() == Some(wanted),
            (Ok(_), None) | (Err(_), _) => true,
        };
        entries.filter(wanted).take(limit).collect()
    }

    /// Which history this is; `None` before it has been named.
    pub fn history(&self) -> Result<Option<History>, QueryError> {
        self.rows.get(HISTORY, ())
    }

    /// Which cluster's facts these are, if they say so: where a survivor of another one went on alone.
    pub(crate) fn cluster(&self) -> Result<Option<ClusterId>, QueryError> {
        self.rows.get(CLUSTER, ())
    }

    /// The level in force.
    pub fn level(&self) -> Result<Level, QueryError> {
        Ok(self.rows.get(LEVEL, ())?.unwrap_or_default())
    }

    /// What the builds of the nodes read that have said so; those of the others, at least the first level.
    pub fn reads(&self) -> Result<BTreeMap<u64, Level>, QueryError> {
        self.rows.scan(READS, READS.all())?.collect()
    }

    /// The volume of each node, by its id: one for every replica that the cluster ever took in.
    pub fn volumes(&self) -> Result<BTreeMap<u64, VolumeId>, QueryError> {
        self.rows.scan(NODES, NODES.all())?.map(|row| row.map(|(volume, node)| (node, volume))).collect()
    }

    /// How many entries of the log this view contains, from the first on.
    pub fn entries_applied(&self) -> Result<u64, QueryError> {
        Ok(applied_id(&self.rows)?.map_or(0, |(_, index)| index + 1))
    }

    /// The state's time: the highest that any entry was stamped with.
    pub fn time(&self) -> Result<LogTime, QueryError> {
        Ok(self.head()?.time)
    }

    /// The keys after `after` whose objects are those of blobs or manifests, in order.
    pub fn linked_keys(&self, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectKey>, QueryError> {
        let span = match after {
            Some(after) => KEYS.all().after(KEYS.key(after)),
            None => KEYS.all(),
        };
        let linked = self.rows.scan(KEYS, span)?.filter_map(|row| match row {
            Ok((key, KeyRow::Linked)) => Some(Ok(key)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        linked.take(limit).collect()
    }

    /// The blobs after `after` that a repository holds, by digest.
    pub fn blobs(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, Blob)>, QueryError> {
        let mut span = MEMBERSHIPS.within::<RepositoryName>(repository);
        if let Some(after) = after {
            span = span.after(MEMBERSHIPS.key((repository, after)));
        }
        let held = self.rows.scan(MEMBERSHIPS, span)?.filter_map(|row| match row {
            Ok(((_, digest), _)) => self.blob(repository, &digest).map(|blob| Some((digest, blob?))).transpose(),
            Err(error) => Some(Err(error)),
        });
        held.take(limit).collect()
    }

    /// Objects that were those of blobs or manifests, and nothing has named since before `before`, the oldest first.
    pub fn retired(&self, before: LogTime, limit: usize) -> Result<Vec<ObjectKey>, QueryError> {
        let keys = self.rows.keys(RETIRED, RETIRED.all().before(RETIRED.start_at(&before)), limit)?;
        Ok(keys.into_iter().map(|(_, key)| key).collect())
    }

    /// Objects that nothing ever named and that may be deleted at `until`, the longest due first.
    /// The objects of blobs after `after`, by digest; of those that are set aside, or of the others.
    pub fn objects(
        &self,
        quarantined: bool,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<HeldObject>, QueryError> {
        let region = if quarantined { QUARANTINED_OBJECTS } else { OBJECTS };
        let span = match after {
            Some(after) => region.all().after(region.key(after)),
            None => region.all(),
        };
        let objects = self.rows.scan(region, span)?.map(|row| {
            let (digest, ObjectRow { size, key, memberships, .. }) = row?;
            Ok(HeldObject { digest, size, key, memberships })
        });
        objects.take(limit).collect()
    }

    /// The manifests after `after`, by repository and digest; those that are set aside, or the others.
    pub fn manifests(
        &self,
        quarantined: bool,
        after: Option<(&RepositoryName, &Digest)>,
        limit: usize,
    ) -> Result<Vec<HeldManifest>, QueryError> {
        let region = if quarantined { QUARANTINED_MANIFESTS } else { MANIFESTS };
        let span = match after {
            Some(after) => region.all().after(region.key(after)),
            None => region.all(),
        };
        let manifests = self.rows.scan(region, span)?.map(|row| {
            let ((repository, digest), ManifestRow { size, content, .. }) = row?;
            Ok(HeldManifest { repository, digest, size, content })
        });
        manifests.take(limit).collect()
    }

    /// Where a blob's bytes are, where it is set aside or where it is not; `None` if there is none such.
    pub fn object_key(&self, quarantined: bool, digest: &Digest) -> Result<Option<ObjectKey>, QueryError> {
        let region = if quarantined { QUARANTINED_OBJECTS } else { OBJECTS };
        Ok(self.rows.get(region, digest)?.map(|object| object.key))
    }

    /// Where a manifest's bytes are, likewise.
    pub fn manifest_content(
        &self,
        quarantined: bool,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestContent>, QueryError> {
        let region = if quarantined { QUARANTINED_MANIFESTS } else { MANIFESTS };
        Ok(self.rows.get(region, (repository, digest))?.map(|manifest| manifest.content))
    }

    /// Objects that may be deleted at `until`, the longest due first.
    pub fn condemned(&self, until: LogTime, limit: usize) -> Result<Vec<Condemned>, QueryError> {
        let span = CONDEMNED.all().before(CONDEMNED.start_at(&LogTime(until.0.saturating_add(1))));
        let keys = self.rows.keys(CONDEMNED, span, limit)?;
        let condemned = keys.into_iter().map(|(due, key)| match self.rows.get(KEYS, &key)? {
            Some(KeyRow::Condemned { multipart, .. }) => Ok(Condemned { key, due, multipart }),
            other => Err(QueryError::Damaged(format!("{key} is listed as condemned, and is {other:?}"))),
        });
        condemned.collect()
    }

    /// Whether [`CollectBlobs`](crate::CollectBlobs) would find anything.
    pub fn is_garbage_before(&self, before: LogTime) -> Result<bool, QueryError> {
        let unnamed = match self.following()? {
            Some(_) => Vec::new(), // a mirror lets go of what its home lets go of
            None => self.rows.keys(UNNAMED, UNNAMED.all().before(UNNAMED.start_at(&before)), 1)?,
        };
        let unreferenced = UNREFERENCED.all().before(UNREFERENCED.start_at(&before));
        let landed = LANDED_BY_AGE.all().before(LANDED_BY_AGE.start_at(&before));
        Ok(!unnamed.is_empty()
            || !self.rows.keys(UNREFERENCED, unreferenced, 1)?.is_empty()
            || !self.rows.keys(LANDED_BY_AGE, landed, 1)?.is_empty())
    }

    /// Keys reserved before `before` that nothing holds or links, the oldest first.
    pub fn reserved_before(&self, before: LogTime, limit: usize) -> Result<Vec<ObjectKey>, QueryError> {
        let keys = self.rows.keys(RESERVED, RESERVED.all().before(RESERVED.start_at(&before)), limit)?;
        Ok(keys.into_iter().map(|(_, key)| key).collect())
    }

    /// What may be done with a key; `None` if it is not known.
    pub fn key_state(&self, key: &ObjectKey) -> Result<Option<KeyState>, QueryError> {
        Ok(self.rows.get(KEYS, key)?.map(|row| match row {
            KeyRow::Reserved { .. } => KeyState::Reserved,
            KeyRow::Held { .. } => KeyState::Held,
            KeyRow::Linked => KeyState::Linked,
            KeyRow::Condemned { .. } | KeyRow::Retired { .. } => KeyState::Condemned,
        }))
    }

    /// The newest change that this view contains.
    pub fn position(&self) -> Result<Position, QueryError> {
        Ok(self.head()?.position)
    }

    /// Up to `limit` changes after a position, in order.
    pub(crate) fn changes(&self, after: Position, limit: usize) -> Result<Vec<Change>, ChangesError> {
        let newest = self.position()?;
        // Before everything is a place in every history.
        let after = if after == Position::default() { Position { epoch: newest.epoch, sequence: 0 } } else { after };
        // Who followed a mirror goes on with it as home.
        let promotion = self.rows.get(REGION, ())?.and_then(|row| row.promotion).filter(|_| after.epoch < newest.epoch);
        let followed = promotion.is_some_and(|promotion| {
            promotion.before.epoch == after.epoch && promotion.before.sequence >= after.sequence
        });
        let after = if followed { Position { epoch: newest.epoch, ..after } } else { after };
        if after.epoch != newest.epoch || after > newest {
            return Err(ChangesError::Foreign { newest });
        }
        let oldest = Position { sequence: newest.sequence.saturating_sub(CHANGES_KEPT) + 1, ..newest };
        if after.sequence + 1 < oldest.sequence {
            return Err(ChangesError::Trimmed { oldest });
        }
        let rows = self.rows.scan(CHANGES, CHANGES.all().after(CHANGES.key(&after)))?;
        let changes = rows.map(|row| row.map(|(position, ChangeRow { at, kind })| Change { position, at, kind }));
        Ok(changes.take(limit).collect::<Result<_, _>>()?)
    }

    fn head(&self) -> Result<Head, QueryError> {
        Ok(self.rows.get(HEAD, ())?.unwrap_or_default())
    }

    fn parts(&self, upload: &UploadId) -> Result<Vec<Part>, QueryError> {
        let rows = self.rows.scan(PARTS, PARTS.within::<UploadId>(upload))?;
        rows.map(|row| row.map(|((_, number), PartRow { size, etag })| Part { number, size, etag })).collect()
    }
}

#[cfg(test)]
mod tests;

//! A mirror: changes of another registry's feed, published in its order and only when they are whole.
//!
//! ```text
//!  receive --> INBOX (repository, arrival)    announced: what pulls may be told while home is there to stream from
//!                |
//!              its turn --blobs still WANTED?--> waits, and everything behind it in its repository
//!                '-------- no ---------------> published, as if a client had asked for it
//! ```
//!
//! * A blob is wanted from the moment in which home says that it holds it, before any manifest names it. The entry that
//!   links it lets all repositories hold it that want it, and publishes what waited for it (promise P8).
//! * A repository's changes are published in the order in which they were received, which is home's (promise P9).
//! * A manifest that home has deleted before it could be received, or whose blobs are gone there, is passed over.

mod announce;
mod land;
mod want;

use std::collections::BTreeSet;

use roadstead_oci::{Algorithm, Digest, Hasher, RepositoryName, Tag};

use super::{Apply, Halt, require};
use crate::state::keyspace::{
    ANNOUNCED_MANIFESTS, ANNOUNCED_TAGS, CURSOR, FILTER, INBOX, INBOX_BY_AGE, MANIFESTS, MEMBERSHIPS, MIRRORS,
    PASSED_OVER, QUARANTINED_MANIFESTS, REMOTES, WANTED, WRITERS,
};
use crate::state::rows::{CursorRow, InboxRow, MirrorRow};
use crate::{
    AdmitMirror, AdvanceInbox, Advanced, Arrival, ChangeKind, ClusterId, DeleteManifest, DeleteTag, DismissMirror,
    ForsakeBlob, ManifestContent, MendManifest, NeverRefused, NoteRemote, Position, PutManifest, PutManifestRefused,
    QueryError, ReceiveChanges, ReceiveChangesRefused, ReceiveChosen, ReceiveSnapshot, ReceiveSnapshotRefused,
    ReceivedChange, ResolveManifest, ResolveManifestRefused, SnapshotStep,
};

/// Changes that one entry publishes at most: applying an entry holds up all others, some 50 us for each of these.
const PUBLISHED_PER_ENTRY: u32 = 256;

/// Rows that one entry forgets at most: as long as that takes, all other entries are held up.
const FORGOTTEN_PER_ENTRY: usize = 2_000;

/// What became of the first change of an inbox.
enum Turn {
    Published,
    /// It stays, and what is behind it.
    Waits,
}

impl Apply<'_> {
    pub(super) fn receive_changes(
        &mut self,
        operation: ReceiveChanges,
    ) -> Result<Advanced, Halt<ReceiveChangesRefused>> {
        let ReceiveChanges { home, after, changes } = operation;
        let mut cursor = self.cursor_at(home, after)?;
        require(!self.rows.has(FILTER, ())?, ReceiveChangesRefused::OtherFilter)?;
        let mut last = after;
        for change in &changes {
            let follows = change.position.sequence == last.sequence + 1
                // Where home was promoted, its feed goes on in another epoch.
                && (last == Position::default() || change.position.epoch >= last.epoch);
            require(follows, ReceiveChangesRefused::Gap { after: last })?;
            last = change.position;
        }
        cursor.position = last;
        self.rows.put(CURSOR, (), &cursor)?;
        Ok(self.take_in(changes)?)
    }

    pub(super) fn receive_chosen(&mut self, operation: ReceiveChosen) -> Result<Advanced, Halt<ReceiveChangesRefused>> {
        let ReceiveChosen { home, filter, after, until, changes } = operation;
        let mut cursor = self.cursor_at(home, after)?;
        if self.is_mirror()? {
            require(self.rows.get(FILTER, ())? == Some(filter), ReceiveChangesRefused::OtherFilter)?;
        } else {
            self.rows.put(FILTER, (), &filter)?;
        }
        let mut last = after;
        for change in &changes {
            let follows = change.position.sequence > after.sequence && change.position.sequence >= last.sequence;
            require(follows, ReceiveChangesRefused::Gap { after: last })?;
            last = change.position;
        }
        require(until.sequence >= last.sequence, ReceiveChangesRefused::Gap { after: last })?;
        cursor.position = until;
        self.rows.put(CURSOR, (), &cursor)?;
        Ok(self.take_in(changes)?)
    }

    /// The cursor, if what comes after this place of this cluster's feed is what is received next.
    fn cursor_at(&self, home: ClusterId, after: Position) -> Result<CursorRow, Halt<ReceiveChangesRefused>> {
        let known = self.rows.get(CURSOR, ())?;
        // Whoever was home itself is compared with the new one, and goes on from there.
        require(known.is_some() || !self.is_fenced()?, ReceiveChangesRefused::OtherHome { home })?;
        let cursor = known.unwrap_or_else(|| CursorRow::new(home));
        let is_same = cursor.home == home && cursor.comparison.is_none();
        require(is_same, ReceiveChangesRefused::OtherHome { home: cursor.home })?;
        require(cursor.position == after, ReceiveChangesRefused::NotNext { cursor: cursor.position })?;
        Ok(cursor)
    }

    pub(super) fn receive_snapshot(
        &mut self,
        operation: ReceiveSnapshot,
    ) -> Result<Advanced, Halt<ReceiveSnapshotRefused>> {
        let ReceiveSnapshot { home, comparison, step } = operation;
        let mut cursor = self.rows.get(CURSOR, ())?.unwrap_or_else(|| CursorRow::new(home));
        if step == SnapshotStep::Begins {
            require(self.is_all_aside()?, ReceiveSnapshotRefused::NotKeptAside)?;
            (cursor.home, cursor.comparison) = (home, Some(comparison));
            self.rows.put(CURSOR, (), &cursor)?;
            return Ok(Advanced::default());
        }
        require(cursor.comparison == Some(comparison), ReceiveSnapshotRefused::Superseded)?;
        if step == SnapshotStep::Forgets {
            return Ok(self.forget_inbox(cursor)?);
        }
        if let SnapshotStep::Chooses(filter) = step {
            match filter {
                Some(filter) => self.rows.put(FILTER, (), &filter)?,
                None => self.rows.remove(FILTER, ())?,
            }
            return Ok(Advanced::default());
        }
        require(!cursor.forgetting, ReceiveSnapshotRefused::NotForgotten)?;
        match step {
            SnapshotStep::Changes(changes) => Ok(self.take_in(changes)?),
            SnapshotStep::Ends(position) => {
                (cursor.comparison, cursor.position) = (None, position);
                self.rows.put(CURSOR, (), &cursor)?;
                Ok(Advanced::default())
            }
            SnapshotStep::Begins | SnapshotStep::Forgets | SnapshotStep::Chooses(_) => Ok(Advanced::default()),
        }
    }

    pub(super) fn resolve_manifest(
        &mut self,
        operation: ResolveManifest,
    ) -> Result<Advanced, Halt<ResolveManifestRefused>> {
        let ResolveManifest { repository, arrival, manifest } = operation;
        let first = self.first_waiting(&repository)?.filter(|(first, _)| *first == arrival);
        let Some((_, InboxRow { kind: ChangeKind::ManifestPut { digest, tags, .. }, manifest: None, .. })) = first
        else {
            return Err(Halt::Refused(ResolveManifestRefused::NotWaiting));
        };
        match manifest {
            Some(manifest) => {
                require(manifest.digest() == digest, ResolveManifestRefused::NotWaiting)?;
                let missing = self.missing(&repository, &manifest)?;
                if !missing.is_empty() {
                    return Err(Halt::Refused(ResolveManifestRefused::Incomplete(missing)));
                }
                if let ManifestContent::Object(key) = &manifest.content
                    && !self.rows.has(MANIFESTS, (&repository, &digest))?
                {
                    require(self.is_reserved(key)?, ResolveManifestRefused::KeyNotReserved)?;
                }
                self.publish_manifest(&repository, arrival, manifest)?;
            }
            None => self.pass_over(&repository, digest, tags)?,
        }
        self.remove_first(&repository, arrival)?;
        let mut advanced = Advanced { published: 1, more: false };
        self.advance(&repository, &mut advanced)?;
        Ok(advanced)
    }

    pub(super) fn forsake_blob(&mut self, operation: &ForsakeBlob) -> Result<Advanced, Halt<NeverRefused>> {
        let ForsakeBlob { repository, digest, arrival } = operation;
        let mut advanced = Advanced::default();
        let wanted = self.rows.get(WANTED, (digest, repository))?;
        if wanted.is_some_and(|wanted| wanted.arrival == *arrival) && self.stop_wanting(digest, repository)? {
            self.advance(repository, &mut advanced)?;
        }
        Ok(advanced)
    }

    pub(super) fn mend_manifest(&mut self, operation: MendManifest) -> Result<bool, Halt<NeverRefused>> {
        let MendManifest { manifest } = operation;
        let place = (&manifest.repository, &manifest.digest());
        if !self.is_mirror()? || !self.rows.has(QUARANTINED_MANIFESTS, place)? {
            return Ok(false);
        }
        match self.put_manifest(manifest) {
            Ok(_) => Ok(true),
            Err(Halt::Refused(_)) => Ok(false),
            Err(Halt::Failed(error)) => Err(Halt::Failed(error)),
        }
    }

    pub(super) fn advance_inbox(&mut self, operation: &AdvanceInbox) -> Result<Advanced, Halt<NeverRefused>> {
        let mut advanced = Advanced::default();
        self.advance(&operation.repository, &mut advanced)?;
        Ok(advanced)
    }

    pub(super) fn admit_mirror(&mut self, operation: AdmitMirror) -> Result<(), Halt<NeverRefused>> {
        let AdmitMirror { name, token } = operation;
        self.forget_mirror(&name)?;
        Ok(self.rows.put(MIRRORS, &token, &MirrorRow { name, admitted: self.now() })?)
    }

    pub(super) fn note_remote(&mut self, operation: &NoteRemote) -> Result<(), Halt<NeverRefused>> {
        Ok(self.rows.put(REMOTES, &hash_of(&operation.mirror), operation)?)
    }

    pub(super) fn dismiss_mirror(&mut self, operation: &DismissMirror) -> Result<bool, Halt<NeverRefused>> {
        self.rows.remove(REMOTES, &hash_of(&operation.name))?;
        Ok(self.forget_mirror(&operation.name)?)
    }

    /// Whether these are a mirror's facts, in which repositories hold what they hold at home.
    pub(super) fn is_mirror(&self) -> Result<bool, QueryError> {
        self.rows.has(CURSOR, ())
    }

    fn forget_mirror(&mut self, name: &str) -> Result<bool, QueryError> {
        let known = self.rows.scan(MIRRORS, MIRRORS.all())?.collect::<Result<Vec<_>, _>>()?;
        let token = known.into_iter().find_map(|(token, row)| (row.name == name).then_some(token));
        match token {
            Some(token) => {
                self.rows.remove(WRITERS, &token)?;
                self.rows.remove(MIRRORS, &token).map(|()| true)
            }
            None => Ok(false),
        }
    }

    fn take_in(&mut self, changes: Vec<ReceivedChange>) -> Result<Advanced, QueryError> {
        let mut repositories = BTreeSet::new();
        for change in changes {
            repositories.insert(change.kind.repository().clone());
            self.announce(change)?;
        }
        let mut advanced = Advanced::default();
        for repository in &repositories {
            self.advance(repository, &mut advanced)?;
        }
        Ok(advanced)
    }

    /// Publishes what has its turn, as far as one entry may.
    fn advance(&mut self, repository: &RepositoryName, advanced: &mut Advanced) -> Result<(), QueryError> {
        while let Some((arrival, row)) = self.first_waiting(repository)? {
            if advanced.published == PUBLISHED_PER_ENTRY {
                advanced.more = true;
                return Ok(());
            }
            match self.take_turn(repository, arrival, row)? {
                Turn::Published => self.remove_first(repository, arrival)?,
                Turn::Waits => return Ok(()),
            }
            advanced.published += 1;
        }
        Ok(())
    }

    fn take_turn(&mut self, repository: &RepositoryName, arrival: Arrival, row: InboxRow) -> Result<Turn, QueryError> {
        match row.kind {
            ChangeKind::BlobLinked { digest, size, .. } => {
                if !self.hold_what_is_here(repository, &digest)? {
                    self.want(repository, &digest, size, arrival)?;
                }
            }
            ChangeKind::BlobUnlinked { digest, .. } => self.let_go(repository, digest, arrival)?,
            ChangeKind::ManifestPut { digest, tags, .. } => {
                let Some(manifest) = row.manifest else { return Ok(Turn::Waits) };
                if !self.missing(repository, &manifest)?.is_empty() {
                    return Ok(Turn::Waits);
                }
                if self.is_past(repository, arrival, &manifest)? {
                    self.pass_over(repository, digest, tags)?;
                } else {
                    self.publish_manifest(repository, arrival, manifest)?;
                }
            }
            ChangeKind::ManifestDeleted { digest, .. } => {
                self.unannounce_manifest(repository, &digest, arrival)?;
                for tag in self.tags_passed_over(repository, &digest)? {
                    self.drop_tag(repository, &tag)?;
                }
                let delete = DeleteManifest { repository: repository.clone(), digest };
                settled(self.delete_manifest(delete))?;
                self.unannounce_tags(repository, arrival)?;
            }
            ChangeKind::TagDeleted { tag, .. } => {
                self.drop_tag(repository, &tag)?;
                self.unannounce_tag(repository, &tag, arrival)?;
            }
        }
        Ok(Turn::Published)
    }

    /// Whether a manifest lacks blobs that are gone at home since it is gone there, as what waits behind it says.
    fn is_past(
        &self,
        repository: &RepositoryName,
        arrival: Arrival,
        manifest: &PutManifest,
    ) -> Result<bool, QueryError> {
        let announced = self.rows.get(ANNOUNCED_MANIFESTS, (repository, &manifest.digest()))?;
        if announced.is_none_or(|announced| announced.exists || announced.arrival <= arrival) {
            return Ok(false);
        }
        for digest in &manifest.blobs {
            let held = self.rows.get(MEMBERSHIPS, (repository, digest))?.is_some_and(|membership| membership.held);
            if !held || self.is_quarantined(digest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn publish_manifest(
        &mut self,
        repository: &RepositoryName,
        arrival: Arrival,
        manifest: PutManifest,
    ) -> Result<(), QueryError> {
        let (digest, tags) = (manifest.digest(), manifest.tags.clone());
        match self.put_manifest(manifest) {
            Ok(_put) => {}
            Err(Halt::Failed(error)) => return Err(error),
            Err(Halt::Refused(PutManifestRefused::BlobsUnknown(_) | PutManifestRefused::PreconditionFailed { .. })) => {
                return Err(QueryError::Damaged(format!("{digest} was received as a client's, not as a mirror's")));
            }
            Err(Halt::Refused(PutManifestRefused::KeyNotReserved)) => {
                return Err(QueryError::Damaged(format!("{digest} was received with an object that is not reserved")));
            }
        }
        for tag in &tags {
            self.rows.remove(PASSED_OVER, (repository, tag))?;
            self.unannounce_tag(repository, tag, arrival)?;
        }
        self.unannounce_manifest(repository, &digest, arrival)
    }

    /// The tags stay what they are here, until the feed says what has become of them.
    fn pass_over(&mut self, repository: &RepositoryName, digest: Digest, tags: Vec<Tag>) -> Result<(), QueryError> {
        for tag in tags {
            self.rows.put(PASSED_OVER, (repository, &tag), &digest)?;
        }
        Ok(())
    }

    fn tags_passed_over(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Tag>, QueryError> {
        let mut tags = Vec::new();
        for row in self.rows.scan(PASSED_OVER, PASSED_OVER.within::<RepositoryName>(repository))? {
            let ((_, tag), passed_over) = row?;
            if passed_over == *digest {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    fn drop_tag(&mut self, repository: &RepositoryName, tag: &Tag) -> Result<(), QueryError> {
        self.rows.remove(PASSED_OVER, (repository, tag))?;
        let delete = DeleteTag { repository: repository.clone(), tag: tag.clone() };
        settled(self.delete_tag(delete))
    }

    /// The change whose turn it is. None has a turn while they are being forgotten: those before it may be gone.
    fn first_waiting(&self, repository: &RepositoryName) -> Result<Option<(Arrival, InboxRow)>, QueryError> {
        if self.rows.get(CURSOR, ())?.is_some_and(|cursor| cursor.forgetting) {
            return Ok(None);
        }
        let mut rows = self.rows.scan(INBOX, INBOX.within::<RepositoryName>(repository))?;
        rows.next().map(|row| row.map(|((_, arrival), row)| (arrival, row))).transpose()
    }

    fn remove_first(&mut self, repository: &RepositoryName, arrival: Arrival) -> Result<(), QueryError> {
        self.rows.remove(INBOX, (repository, &arrival))?;
        self.rows.remove(INBOX_BY_AGE, &arrival)?;
        let mut cursor = self.cursor()?;
        cursor.waiting = cursor.waiting.saturating_sub(1);
        self.rows.put(CURSOR, (), &cursor)
    }

    /// Forgets as much as one entry may of what waits, is wanted or announced; whether there is more.
    pub(super) fn forget_inbox(&mut self, mut cursor: CursorRow) -> Result<Advanced, QueryError> {
        let mut left = FORGOTTEN_PER_ENTRY;
        for (repository, arrival) in self.rows.keys(INBOX, INBOX.all(), left)? {
            self.rows.remove(INBOX, (&repository, &arrival))?;
            self.rows.remove(INBOX_BY_AGE, &arrival)?;
            left -= 1;
        }
        for (digest, repository) in self.rows.keys(WANTED, WANTED.all(), left)? {
            self.rows.remove(WANTED, (&digest, &repository))?;
            left -= 1;
        }
        for (repository, tag) in self.rows.keys(ANNOUNCED_TAGS, ANNOUNCED_TAGS.all(), left)? {
            self.rows.remove(ANNOUNCED_TAGS, (&repository, &tag))?;
            left -= 1;
        }
        for (repository, digest) in self.rows.keys(ANNOUNCED_MANIFESTS, ANNOUNCED_MANIFESTS.all(), left)? {
            self.rows.remove(ANNOUNCED_MANIFESTS, (&repository, &digest))?;
            left -= 1;
        }
        for (repository, tag) in self.rows.keys(PASSED_OVER, PASSED_OVER.all(), left)? {
            self.rows.remove(PASSED_OVER, (&repository, &tag))?;
            left -= 1;
        }
        let more = left == 0;
        cursor.forgetting = more;
        if !more {
            (cursor.waiting, cursor.wanted_blobs, cursor.wanted_bytes) = (0, 0, 0);
        }
        self.rows.put(CURSOR, (), &cursor)?;
        Ok(Advanced { published: 0, more })
    }

    fn cursor(&self) -> Result<CursorRow, QueryError> {
        let cursor = self.rows.get(CURSOR, ())?;
        cursor.ok_or_else(|| QueryError::Damaged("something is wanted, and there is no cursor".to_owned()))
    }
}

impl CursorRow {
    fn new(home: ClusterId) -> Self {
        Self {
            home,
            position: Position::default(),
            comparison: None,
            forgetting: false,
            arrivals: 0,
            waiting: 0,
            wanted_blobs: 0,
            wanted_bytes: 0,
        }
    }
}

/// A name as a key like others.
fn hash_of(name: &str) -> Digest {
    *Hasher::digest(Algorithm::Sha256, name.as_bytes()).get()
}

/// What home has deleted may not be here: then there is nothing to do.
fn settled<D, R>(result: Result<D, Halt<R>>) -> Result<(), QueryError> {
    match result {
        Ok(_) | Err(Halt::Refused(_)) => Ok(()),
        Err(Halt::Failed(error)) => Err(error),
    }
}

//! Blobs that repositories hold at home: wanted until their bytes are here, then held.

use roadstead_oci::{Digest, RepositoryName};

use crate::state::apply::Apply;
use crate::state::keyspace::{CURSOR, MEMBERSHIPS, OBJECTS, WANTED};
use crate::state::rows::WantedRow;
use crate::{Advanced, Arrival, PutManifest, QueryError};

impl Apply<'_> {
    /// Whether a repository comes to hold a blob that is linked in it: not one of a mirror that home has let go meanwhile.
    pub(in crate::state::apply) fn may_hold(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, QueryError> {
        if !self.is_mirror()? || self.rows.has(WANTED, (digest, repository))? {
            return Ok(true);
        }
        Ok(self.rows.get(MEMBERSHIPS, (repository, digest))?.is_some_and(|membership| membership.held))
    }

    /// A blob has come: every repository that wants it holds it now.
    pub(in crate::state::apply) fn blob_arrived(&mut self, digest: &Digest) -> Result<(), QueryError> {
        let wanting = self.rows.keys(WANTED, WANTED.within::<Digest>(digest), usize::MAX)?;
        if wanting.is_empty() {
            return Ok(());
        }
        let mut advanced = Advanced::default();
        for (digest, repository) in &wanting {
            self.hold_what_is_here(repository, digest)?;
        }
        for (_, repository) in &wanting {
            self.advance(repository, &mut advanced)?;
        }
        Ok(())
    }

    /// Blobs of a manifest that are on their way. What home does not hold either is not waited for: then home serves the
    /// manifest without them, and so does the mirror.
    pub(super) fn missing(
        &self,
        repository: &RepositoryName,
        manifest: &PutManifest,
    ) -> Result<Vec<Digest>, QueryError> {
        let mut missing = Vec::new();
        for digest in &manifest.blobs {
            if self.rows.has(WANTED, (digest, repository))? {
                missing.push(*digest);
            }
        }
        Ok(missing)
    }

    /// Lets a repository hold a blob whose bytes are here; whether they are.
    pub(super) fn hold_what_is_here(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, QueryError> {
        let Some(object) = self.rows.get(OBJECTS, digest)? else { return Ok(false) };
        self.stop_wanting(digest, repository)?;
        self.forget_landed(repository, digest)?;
        self.join(repository, *digest, object)?;
        Ok(true)
    }

    pub(super) fn let_go(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        arrival: Arrival,
    ) -> Result<(), QueryError> {
        if self.rows.get(WANTED, (&digest, repository))?.is_some_and(|wanted| wanted.arrival < arrival) {
            self.stop_wanting(&digest, repository)?;
        }
        match self.rows.get(MEMBERSHIPS, (repository, &digest))?.filter(|membership| membership.held) {
            Some(membership) => self.part(repository.clone(), digest, membership),
            None => Ok(()),
        }
    }

    /// Wants a blob, unless the repository holds it and its bytes are sound.
    pub(super) fn want(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        arrival: Arrival,
    ) -> Result<(), QueryError> {
        let held = self.rows.get(MEMBERSHIPS, (repository, digest))?.is_some_and(|membership| membership.held);
        if held && self.rows.has(OBJECTS, digest)? {
            return Ok(());
        }
        if self.rows.keys(WANTED, WANTED.within::<Digest>(digest), 1)?.is_empty() {
            let mut cursor = self.cursor()?;
            cursor.wanted_blobs += 1;
            cursor.wanted_bytes += size;
            self.rows.put(CURSOR, (), &cursor)?;
        }
        // Home has said so once more before the turn of an earlier change came: what is between the two concerns neither.
        let former = self.rows.get(WANTED, (digest, repository))?;
        let arrival = former.map_or(arrival, |former| arrival.max(former.arrival));
        self.rows.put(WANTED, (digest, repository), &WantedRow { size, arrival })
    }

    /// Whether it was wanted.
    pub(super) fn stop_wanting(&mut self, digest: &Digest, repository: &RepositoryName) -> Result<bool, QueryError> {
        let Some(WantedRow { size, .. }) = self.rows.take(WANTED, (digest, repository))? else { return Ok(false) };
        if self.rows.keys(WANTED, WANTED.within::<Digest>(digest), 1)?.is_empty() {
            let mut cursor = self.cursor()?;
            cursor.wanted_blobs = cursor.wanted_blobs.saturating_sub(1);
            cursor.wanted_bytes = cursor.wanted_bytes.saturating_sub(size);
            self.rows.put(CURSOR, (), &cursor)?;
        }
        Ok(true)
    }
}

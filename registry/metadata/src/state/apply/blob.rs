//! Blobs: one object each for the whole registry, and who holds it.

use roadstead_oci::{Digest, MultipartId, ObjectKey, RepositoryName};

use super::{Apply, Halt, require};
use crate::state::keyspace::{HOLDERS, KEYS, MEMBERSHIPS, OBJECTS, QUARANTINED_OBJECTS, UNNAMED, UNREFERENCED};
use crate::state::rows::{KeyRow, MembershipRow, ObjectRow, Phase};
use crate::{
    ChangeKind, LinkBlob, LinkBlobRefused, Linked, MountBlob, MountBlobRefused, QueryError, UnlinkBlob,
    UnlinkBlobRefused,
};

impl Apply<'_> {
    pub(super) fn link_blob(&mut self, operation: &LinkBlob) -> Result<Linked, Halt<LinkBlobRefused>> {
        let digest = operation.digest();
        let Some((upload, epoch)) = operation.upload else {
            if self.is_linked(&operation.repository, &digest, &operation.key)? {
                return Ok(Linked { deduplicated: false });
            }
            require(self.is_reserved(&operation.key)?, LinkBlobRefused::KeyNotReserved)?;
            return Ok(self.attach(&operation.repository, digest, operation.size, &operation.key, None)?);
        };

        let session = self.session(upload)?.filter(|session| session.repository == operation.repository);
        let session = session.ok_or(Halt::Refused(LinkBlobRefused::UploadUnknown))?;
        let receiving = match &session.phase {
            Phase::Receiving(receiving) => receiving.clone(),
            Phase::Finished { digest: finished, deduplicated, .. } if *finished == digest => {
                return Ok(Linked { deduplicated: *deduplicated });
            }
            Phase::Completing { .. } | Phase::Finished { .. } => {
                return Err(Halt::Refused(LinkBlobRefused::NotReceiving));
            }
        };
        require(session.epoch == epoch, LinkBlobRefused::Fenced)?;
        let is_tail = receiving.tail_key() == Some(&operation.key);
        require(is_tail || self.is_reserved(&operation.key)?, LinkBlobRefused::KeyNotReserved)?;
        // What the session wrote beside this one object is of no use now.
        self.condemn_held(&receiving, Some(&operation.key))?;
        let linked = self.attach(&operation.repository, digest, operation.size, &operation.key, None)?;
        self.close(upload, session, digest, operation.size, linked)?;
        Ok(linked)
    }

    pub(super) fn mount_blob(&mut self, operation: MountBlob) -> Result<(), Halt<MountBlobRefused>> {
        let MountBlob { repository, digest, from } = operation;
        let held = self.rows.get(MEMBERSHIPS, (&from, &digest))?.is_some_and(|membership| membership.held);
        require(held, MountBlobRefused::BlobUnknown)?;
        // One that is set aside is pushed again rather than spread.
        let object = self.rows.get(OBJECTS, &digest)?.ok_or(Halt::Refused(MountBlobRefused::BlobUnknown))?;
        Ok(self.join(&repository, digest, object)?)
    }

    pub(super) fn unlink_blob(&mut self, operation: UnlinkBlob) -> Result<(), Halt<UnlinkBlobRefused>> {
        let UnlinkBlob { repository, digest } = operation;
        let membership = self.rows.get(MEMBERSHIPS, (&repository, &digest))?.filter(|membership| membership.held);
        let membership = membership.ok_or(Halt::Refused(UnlinkBlobRefused::BlobUnknown))?;
        Ok(self.part(repository, digest, membership)?)
    }

    /// Takes a blob out of a repository that holds it.
    pub(super) fn part(
        &mut self,
        repository: RepositoryName,
        digest: Digest,
        membership: MembershipRow,
    ) -> Result<(), QueryError> {
        self.put_membership(&repository, &digest, &MembershipRow { held: false, ..membership })?;
        self.rows.remove(HOLDERS, (&digest, &repository))?;
        self.count(&repository, |counts| counts.blobs -= 1)?;
        let region = if self.is_quarantined(&digest)? { QUARANTINED_OBJECTS } else { OBJECTS };
        let missing = || QueryError::Damaged(format!("{digest} is held, and has no object"));
        let mut object = self.rows.get(region, &digest)?.ok_or_else(missing)?;
        object.memberships -= 1;
        if object.memberships == 0 {
            let since = self.now();
            object.unreferenced = Some(since);
            self.rows.put(UNREFERENCED, (&since, &digest), &())?;
        }
        self.rows.put(region, &digest, &object)?;
        self.feed(ChangeKind::BlobUnlinked { repository, digest })
    }

    /// Makes `key` the object of a blob, unless the blob has one already, and lets the repository hold it. `multipart`
    /// is what may have to be aborted if the key is not needed.
    pub(super) fn attach(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
        key: &ObjectKey,
        multipart: Option<MultipartId>,
    ) -> Result<Linked, QueryError> {
        let former = self.rows.get(OBJECTS, &digest)?;
        let deduplicated = former.is_some();
        let object = if let Some(former) = former {
            self.condemn(key, multipart)?;
            former
        } else {
            self.link(key)?;
            self.mend(&digest, size, key)?
        };
        if self.may_hold(repository, &digest)? {
            self.join(repository, digest, object)?;
        } else if !deduplicated {
            self.keep_for_nobody(&digest, object)?;
        }
        self.blob_arrived(&digest)?;
        Ok(Linked { deduplicated })
    }

    /// The object of a blob that no repository holds: it goes after a grace, unless one comes to hold it.
    fn keep_for_nobody(&mut self, digest: &Digest, mut object: ObjectRow) -> Result<(), QueryError> {
        if object.memberships == 0 && object.unreferenced.is_none() {
            let since = self.now();
            object.unreferenced = Some(since);
            self.rows.put(UNREFERENCED, (&since, digest), &())?;
        }
        self.rows.put(OBJECTS, digest, &object)
    }

    /// Changes how many manifests of a repository name a blob.
    pub(super) fn count_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        change: impl FnOnce(u64) -> u64,
    ) -> Result<(), QueryError> {
        let mut membership = self.rows.get(MEMBERSHIPS, (repository, digest))?.unwrap_or_default();
        membership.manifests = change(membership.manifests);
        membership.leased = self.now();
        self.put_membership(repository, digest, &membership)
    }

    /// Lets a repository hold a blob, or renews its lease.
    pub(super) fn join(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        mut object: ObjectRow,
    ) -> Result<(), QueryError> {
        let mut membership = self.rows.get(MEMBERSHIPS, (repository, &digest))?.unwrap_or_default();
        let joins = !membership.held;
        membership.held = true;
        membership.leased = self.now();
        self.put_membership(repository, &digest, &membership)?;
        if !joins {
            return Ok(());
        }
        self.rows.put(HOLDERS, (&digest, repository), &())?;
        self.count(repository, |counts| counts.blobs += 1)?;
        object.memberships += 1;
        if let Some(since) = object.unreferenced.take() {
            self.rows.remove(UNREFERENCED, (&since, &digest))?;
        }
        self.rows.put(OBJECTS, &digest, &object)?;
        self.feed(ChangeKind::BlobLinked { repository: repository.clone(), digest, size: object.size })
    }

    /// Begins the lease of a blob anew.
    pub(super) fn renew(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<(), QueryError> {
        let mut membership = self.rows.get(MEMBERSHIPS, (repository, digest))?.unwrap_or_default();
        membership.leased = self.now();
        self.put_membership(repository, digest, &membership)
    }

    /// Whether exactly this was linked before.
    fn is_linked(&self, repository: &RepositoryName, digest: &Digest, key: &ObjectKey) -> Result<bool, QueryError> {
        Ok(self.rows.get(KEYS, key)? == Some(KeyRow::Linked)
            && self.rows.get(OBJECTS, digest)?.is_some_and(|object| object.key == *key)
            && self.rows.has(HOLDERS, (digest, repository))?)
    }

    /// Whether a blob is set aside, as if it were not there.
    pub(super) fn is_quarantined(&self, digest: &Digest) -> Result<bool, QueryError> {
        self.rows.has(QUARANTINED_OBJECTS, digest)
    }

    fn put_membership(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        membership: &MembershipRow,
    ) -> Result<(), QueryError> {
        let former = self.rows.get(MEMBERSHIPS, (repository, digest))?;
        if let Some(former) = former.filter(MembershipRow::is_unnamed) {
            self.rows.remove(UNNAMED, (&former.leased, repository, digest))?;
        }
        if membership.is_unnamed() {
            self.rows.put(UNNAMED, (&membership.leased, repository, digest), &())?;
        }
        if membership.held || membership.manifests > 0 {
            self.rows.put(MEMBERSHIPS, (repository, digest), membership)
        } else {
            self.rows.remove(MEMBERSHIPS, (repository, digest))
        }
    }
}

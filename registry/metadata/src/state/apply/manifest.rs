//! Manifests, their tags and their referrers.

use roadstead_oci::{Digest, RepositoryName, Tag};

use super::{Apply, Halt, require};
use crate::state::keyspace::{
    MANIFESTS, MEMBERSHIPS, QUARANTINED_MANIFESTS, QUARANTINED_OBJECTS, REFERRERS, TAGS, TAGS_OF,
};
use crate::state::rows::{ManifestRow, ReferrerRow};
use crate::{
    ChangeKind, DeleteManifest, DeleteManifestRefused, DeleteTag, DeleteTagRefused, ManifestContent, ManifestPut,
    MovedTag, Precondition, PutManifest, PutManifestRefused, QueryError, Referrer, TagManifest, TagManifestRefused,
};

impl Apply<'_> {
    pub(super) fn put_manifest(&mut self, operation: PutManifest) -> Result<ManifestPut, Halt<PutManifestRefused>> {
        let digest = operation.digest();
        let former = self.rows.get(MANIFESTS, (&operation.repository, &digest))?;
        self.require_content(&operation, former.as_ref())?;
        self.require_blobs(&operation)?;
        // Last, as RFC 9110 has it: a request that fails anyhow fails for its own reason.
        let PutManifest { repository, tags, precondition, .. } = &operation;
        let current = former.as_ref().map(|_| digest);
        self.require_precondition(precondition, repository, tags, digest, current, |current| {
            PutManifestRefused::PreconditionFailed { current }
        })?;

        let created = former.is_none();
        let tags = operation.tags.clone();
        let repository = operation.repository.clone();
        self.store(operation, former)?;
        let moved = self.move_tags(repository, tags, digest)?;
        Ok(ManifestPut { created, moved })
    }

    pub(super) fn tag_manifest(&mut self, operation: TagManifest) -> Result<ManifestPut, Halt<TagManifestRefused>> {
        let TagManifest { repository, digest, media_type, tags, precondition, sparse } = operation;
        let manifest = self.rows.get(MANIFESTS, (&repository, &digest))?.filter(|row| row.media_type == media_type);
        let manifest = manifest.ok_or(Halt::Refused(TagManifestRefused::ManifestUnknown))?;
        if !sparse {
            let unknown = self.unknown_blobs(&repository, &manifest.blobs)?;
            require(unknown.is_empty(), TagManifestRefused::BlobsUnknown(unknown))?;
        }
        self.require_precondition(&precondition, &repository, &tags, digest, Some(digest), |current| {
            TagManifestRefused::PreconditionFailed { current }
        })?;
        Ok(ManifestPut { created: false, moved: self.move_tags(repository, tags, digest)? })
    }

    pub(super) fn delete_manifest(&mut self, operation: DeleteManifest) -> Result<u64, Halt<DeleteManifestRefused>> {
        let DeleteManifest { repository, digest } = operation;
        let manifest = match self.rows.take(MANIFESTS, (&repository, &digest))? {
            None => self.rows.take(QUARANTINED_MANIFESTS, (&repository, &digest))?,
            sound => sound,
        };
        let manifest = manifest.ok_or(Halt::Refused(DeleteManifestRefused::ManifestUnknown))?;
        self.count_blobs(&repository, &manifest.blobs, &[])?;
        self.unlist(&repository, &digest, manifest.subject)?;
        if let ManifestContent::Object(key) = &manifest.content
            && !self.is_content_aside(key)?
        {
            self.condemn(key, None)?;
        }
        let span = TAGS_OF.within::<(RepositoryName, Digest)>((&repository, &digest));
        let tags = self.rows.keys(TAGS_OF, span, usize::MAX)?;
        for (repository, digest, tag) in &tags {
            self.rows.remove(TAGS, (repository, tag))?;
            self.rows.remove(TAGS_OF, (repository, digest, tag))?;
        }
        let dropped = tags.len() as u64;
        self.count(&repository, |counts| {
            counts.manifests -= 1;
            counts.tags -= dropped;
        })?;
        self.feed(ChangeKind::ManifestDeleted { repository, digest })?;
        Ok(dropped)
    }

    pub(super) fn delete_tag(&mut self, operation: DeleteTag) -> Result<(), Halt<DeleteTagRefused>> {
        let DeleteTag { repository, tag } = operation;
        let digest = self.rows.take(TAGS, (&repository, &tag))?;
        let digest = digest.ok_or(Halt::Refused(DeleteTagRefused::TagUnknown))?;
        self.rows.remove(TAGS_OF, (&repository, &digest, &tag))?;
        self.count(&repository, |counts| counts.tags -= 1)?;
        Ok(self.feed(ChangeKind::TagDeleted { repository, tag })?)
    }

    fn require_content(
        &self,
        operation: &PutManifest,
        former: Option<&ManifestRow>,
    ) -> Result<(), Halt<PutManifestRefused>> {
        match &operation.content {
            ManifestContent::Inline(_) => Ok(()),
            content if former.is_some_and(|former| former.content == *content) => Ok(()),
            ManifestContent::Object(key) => require(self.is_reserved(key)?, PutManifestRefused::KeyNotReserved),
        }
    }

    fn require_blobs(&self, operation: &PutManifest) -> Result<(), Halt<PutManifestRefused>> {
        if operation.sparse {
            return Ok(());
        }
        let unknown = self.unknown_blobs(&operation.repository, &operation.blobs)?;
        require(unknown.is_empty(), PutManifestRefused::BlobsUnknown(unknown))
    }

    /// Those of `blobs` that the repository does not hold, or only damaged.
    fn unknown_blobs(&self, repository: &RepositoryName, blobs: &[Digest]) -> Result<Vec<Digest>, QueryError> {
        // Seldom is anything set aside, and then each would be looked for in vain.
        let any_damaged = self.rows.scan(QUARANTINED_OBJECTS, QUARANTINED_OBJECTS.all())?.next().is_some();
        let mut unknown = Vec::new();
        for digest in blobs {
            let membership = self.rows.get(MEMBERSHIPS, (repository, digest))?;
            let held = membership.is_some_and(|membership| membership.held);
            if !held || (any_damaged && self.is_quarantined(digest)?) {
                unknown.push(*digest);
            }
        }
        Ok(unknown)
    }

    /// Requires that a precondition holds of each tag that is moved to `digest`, or of what stands under `digest` itself
    /// where there are none: `current`. `failed` is the refusal, by what the first reference that fails it names.
    fn require_precondition<R>(
        &self,
        precondition: &Precondition,
        repository: &RepositoryName,
        tags: &[Tag],
        digest: Digest,
        current: Option<Digest>,
        failed: impl Fn(Option<Digest>) -> R,
    ) -> Result<(), Halt<R>> {
        let holds = |current: Option<Digest>| match precondition {
            Precondition::None => true,
            Precondition::Absent => current.is_none(),
            Precondition::Exists => current.is_some(),
            // Whoever repeats it because the answer was lost asks for what is so already (RFC 9110, section 13.1.1).
            Precondition::Match(wanted) => {
                current.is_some_and(|current| wanted.contains(&current) || current == digest)
            }
        };
        if tags.is_empty() {
            return require(holds(current), failed(current));
        }
        for tag in tags {
            let current = self.rows.get(TAGS, (repository, tag))?;
            require(holds(current), failed(current))?;
        }
        Ok(())
    }

    /// Points `tags` at a manifest, and tells the feed of it.
    fn move_tags(
        &mut self,
        repository: RepositoryName,
        tags: Vec<Tag>,
        digest: Digest,
    ) -> Result<Vec<MovedTag>, QueryError> {
        let mut moved = Vec::new();
        for tag in &tags {
            let previous = self.rows.get(TAGS, (&repository, tag))?;
            if previous != Some(digest) {
                self.point(&repository, tag, previous, digest)?;
                moved.push(MovedTag { tag: tag.clone(), previous });
            }
        }
        self.feed(ChangeKind::ManifestPut { repository, digest, tags })?;
        Ok(moved)
    }

    /// Writes a manifest's row, and what follows from it. The same digest means the same bytes, so where it exists its
    /// content stays, and only what the client said of it is new; unless that content is set aside.
    fn store(&mut self, operation: PutManifest, former: Option<ManifestRow>) -> Result<(), QueryError> {
        let digest = operation.digest();
        let PutManifest { repository, media_type, size, mut content, blobs, referrer, .. } = operation;
        if let Some(former) = former {
            if let ManifestContent::Object(key) = &content
                && content != former.content
            {
                self.condemn(key, None)?;
            }
            content = former.content;
            self.count_blobs(&repository, &former.blobs, &blobs)?;
            self.unlist(&repository, &digest, former.subject)?;
        } else if let Some(damaged) = self.rows.take(QUARANTINED_MANIFESTS, (&repository, &digest))? {
            if let ManifestContent::Object(key) = &damaged.content {
                self.forget(key)?;
            }
            self.link_content(&content)?;
            self.count_blobs(&repository, &damaged.blobs, &blobs)?;
            self.unlist(&repository, &digest, damaged.subject)?;
        } else {
            self.link_content(&content)?;
            self.count(&repository, |counts| counts.manifests += 1)?;
            self.count_blobs(&repository, &[], &blobs)?;
        }
        let subject = referrer.as_ref().map(|referrer| referrer.subject);
        if let Some(Referrer { subject, artifact_type, annotations }) = referrer {
            let row = ReferrerRow { media_type: media_type.clone(), size, artifact_type, annotations };
            self.rows.put(REFERRERS, (&repository, &subject, &digest), &row)?;
        }
        let row = ManifestRow { media_type, size, content, blobs, subject };
        self.rows.put(MANIFESTS, (&repository, &digest), &row)
    }

    fn link_content(&mut self, content: &ManifestContent) -> Result<(), QueryError> {
        match content {
            ManifestContent::Inline(_) => Ok(()),
            ManifestContent::Object(key) => self.link(key),
        }
    }

    /// A manifest names the blobs of `to` that named those of `from`.
    fn count_blobs(&mut self, repository: &RepositoryName, from: &[Digest], to: &[Digest]) -> Result<(), QueryError> {
        if from == to {
            return Ok(()); // the rule where a manifest is put again
        }
        from.iter().try_for_each(|blob| self.count_manifest(repository, blob, |manifests| manifests - 1))?;
        to.iter().try_for_each(|blob| self.count_manifest(repository, blob, |manifests| manifests + 1))
    }

    fn unlist(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        subject: Option<Digest>,
    ) -> Result<(), QueryError> {
        subject.map_or(Ok(()), |subject| self.rows.remove(REFERRERS, (repository, &subject, digest)))
    }

    fn point(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        previous: Option<Digest>,
        digest: Digest,
    ) -> Result<(), QueryError> {
        match previous {
            Some(previous) => self.rows.remove(TAGS_OF, (repository, &previous, tag))?,
            None => self.count(repository, |counts| counts.tags += 1)?,
        }
        self.rows.put(TAGS, (repository, tag), &digest)?;
        self.rows.put(TAGS_OF, (repository, &digest, tag), &())
    }
}

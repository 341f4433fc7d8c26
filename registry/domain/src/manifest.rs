//! Pushing, pulling and deleting manifests and tags.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use roadstead_metadata::{
    DeleteManifest, DeleteTag, ManifestContent, NewManifest, Precondition, PutManifest, PutManifestRefused, Referrer,
    StoredManifest, TagManifest, TagManifestRefused,
};
use roadstead_oci::{
    Algorithm, Digest, Hasher, Manifest, ManifestError, MediaType, Reference, RepositoryName, Tag, Verified,
    VerifyError,
};

use crate::fault::Fault;
use crate::registry::Registry;
use crate::remote::Acknowledge;

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub struct ManifestFound {
    /// Its digest, under the algorithm that it was pushed with.
    pub digest: Digest,
    /// As its client declared it.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// How long ago this replica heard of a leader, if none confirmed that its tag still points here.
    pub stale: Option<Duration>,
    content: ManifestContent,
}

impl ManifestFound {
    /// One that is kept somewhere else than in a repository.
    pub(crate) const fn kept(digest: Digest, media_type: String, size: u64, content: ManifestContent) -> Self {
        Self { digest, media_type, size, stale: None, content }
    }

    /// One that is not kept here, and whose bytes are.
    pub const fn passing(digest: Digest, media_type: String, bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        Self { digest, media_type, size, stale: None, content: ManifestContent::Inline(bytes) }
    }
}

/// Why a manifest was not read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestReadError {
    /// The repository has no such manifest or tag.
    #[error("the repository has no such manifest")]
    Unknown,
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A manifest as a client sends it.
#[derive(Clone, Debug)]
pub struct PushedManifest {
    /// Its `Content-Type`.
    pub declared: Option<MediaType>,
    /// Its exact bytes.
    pub bytes: Bytes,
}

impl From<&Manifest> for PushedManifest {
    fn from(manifest: &Manifest) -> Self {
        Self { declared: Some(manifest.media_type().clone()), bytes: manifest.bytes().clone() }
    }
}

/// Why a manifest was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ManifestPutError {
    /// The bytes are no manifest.
    #[error(transparent)]
    Invalid(#[from] ManifestError),
    /// The bytes have another digest than the URL says.
    #[error("the manifest has the digest {actual}")]
    DigestMismatch {
        /// What the bytes hash to.
        actual: Digest,
    },
    /// The repository lacks blobs that the manifest needs.
    #[error("the repository does not hold {} of the blobs that the manifest names", .0.len())]
    BlobsUnknown(Vec<Digest>),
    /// The reference names another manifest than the client said, or one at all.
    #[error("the reference names another manifest than the precondition says")]
    PreconditionFailed,
    /// It is stored here, and no mirror has said in time that it has it too: it is not known whether it outlives this region.
    #[error("it is stored, and no mirror has said in time that it has it too")]
    NoRemote,
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A manifest that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestStored {
    /// Its digest.
    pub digest: Digest,
    /// The manifest that it refers to, if any: its listing of referrers has it now.
    pub subject: Option<Digest>,
}

impl Registry {
    /// Finds a manifest. By tag: the newest that was acknowledged by any replica, or without a leader the newest that this
    /// one knows, marked as stale. By digest: from this replica's own state, and from the newest where that does not have
    /// it.
    pub async fn find_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestFound, ManifestReadError> {
        match reference {
            Reference::Digest(digest) => self.find_manifest_by_digest(repository, *digest).await,
            Reference::Tag(tag) => self.find_manifest_by_tag(repository, tag).await,
        }
    }

    async fn find_manifest_by_digest(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<ManifestFound, ManifestReadError> {
        if let Some(found) = self.lookup(repository, digest)? {
            return Ok(found);
        }
        self.linearize().await?;
        self.lookup(repository, digest)?.ok_or(ManifestReadError::Unknown)
    }

    async fn find_manifest_by_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<ManifestFound, ManifestReadError> {
        let stale = self.freshen().await?;
        let digest = self.metadata.query().map_err(Fault::from)?.tag(repository, tag).map_err(Fault::from)?;
        match digest {
            Some(digest) => {
                let found = self.lookup(repository, digest)?.ok_or(ManifestReadError::Unknown)?;
                Ok(ManifestFound { stale, ..found })
            }
            None if stale.is_some() => Err(Fault::Leaderless.into()),
            None => Err(ManifestReadError::Unknown),
        }
    }

    fn lookup(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<ManifestFound>, Fault> {
        let stored = self.metadata.query()?.manifest(repository, &digest)?;
        Ok(stored.map(|StoredManifest { media_type, size, content, .. }| ManifestFound {
            digest,
            media_type,
            size,
            stale: None,
            content,
        }))
    }

    /// The exact bytes of a manifest.
    pub async fn read_manifest(&self, found: &ManifestFound) -> Result<Bytes, Fault> {
        let key = match &found.content {
            ManifestContent::Inline(bytes) => return Ok(bytes.clone()),
            ManifestContent::Object(key) => key,
        };
        if let Some(bytes) = self.manifest_cache.get(&found.digest) {
            return Ok(bytes);
        }
        let _place = self.manifest_reads.acquire().await; // never closed
        if let Some(bytes) = self.manifest_cache.get(&found.digest) {
            return Ok(bytes);
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(found.size).unwrap_or_default());
        let mut pieces = self.blobs.get(key, 0..found.size).await?;
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        let bytes = bytes.freeze();
        if Hasher::verify_bytes(found.digest, &bytes).is_err() {
            return Err(Fault::Inconsistent(format!("the object {key} is not the manifest {}", found.digest)));
        }
        self.manifest_cache.insert(found.digest, bytes.clone());
        Ok(bytes)
    }

    /// Stores a manifest and moves its tags: `reference`, if that is one, and `tags`. Returns when it is as durable as
    /// [`Acknowledge`] says.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        tags: &[Tag],
        precondition: Precondition,
        pushed: impl Into<PushedManifest>,
    ) -> Result<ManifestStored, ManifestPutError> {
        let stored = self.put_manifest_here(repository, reference, tags, precondition, pushed.into()).await?;
        if let Acknowledge::OneRemote { within } = self.options.acknowledge {
            self.until_remote(repository, &stored.digest, within).await?;
        }
        Ok(stored)
    }

    async fn put_manifest_here(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        tags: &[Tag],
        precondition: Precondition,
        pushed: PushedManifest,
    ) -> Result<ManifestStored, ManifestPutError> {
        let PushedManifest { declared, bytes } = pushed;
        let verified = verify(reference, &bytes)?;
        let digest = *verified.get();
        let tags = match reference {
            Reference::Tag(tag) => vec![tag.clone()],
            Reference::Digest(_) => tags.to_vec(),
        };
        if let Some(media_type) = &declared
            && let Some(stored) = self.tag_manifest(repository, digest, media_type, &tags, &precondition).await?
        {
            return Ok(stored);
        }
        let manifest = Manifest::parse(declared.as_ref(), bytes)?;
        let subject = manifest.subject().map(|subject| subject.digest);
        let put = PutManifest::new(
            verified,
            NewManifest {
                repository: repository.clone(),
                media_type: manifest.media_type().to_string(),
                size: manifest.bytes().len() as u64,
                content: self.store_content(digest, manifest.bytes()).await?,
                blobs: manifest.blobs(),
                referrer: subject.map(|subject| referrer(subject, &manifest)),
                tags,
                precondition,
                sparse: self.options.sparse_manifests,
            },
        );
        match self.propose(put).await? {
            Ok(_put) => Ok(ManifestStored { digest, subject }),
            Err(PutManifestRefused::BlobsUnknown(missing)) => Err(ManifestPutError::BlobsUnknown(missing)),
            Err(PutManifestRefused::PreconditionFailed { .. }) => Err(ManifestPutError::PreconditionFailed),
            Err(refused @ PutManifestRefused::KeyNotReserved) => {
                Err(Fault::Inconsistent(format!("manifest {digest}: {refused}")).into())
            }
        }
    }

    /// Moves tags to a manifest that the repository has already: then it is neither read here nor sent through the log.
    /// `None` if it is not there under this media type, and has to be put.
    async fn tag_manifest(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        media_type: &MediaType,
        tags: &[Tag],
        precondition: &Precondition,
    ) -> Result<Option<ManifestStored>, ManifestPutError> {
        let held = self.metadata.query().and_then(|query| query.manifest(repository, &digest)).map_err(Fault::from)?;
        let media_type = media_type.to_string();
        let Some(held) = held.filter(|held| held.media_type == media_type) else { return Ok(None) };
        let tag = TagManifest {
            repository: repository.clone(),
            digest,
            media_type,
            tags: tags.to_vec(),
            precondition: precondition.clone(),
            sparse: self.options.sparse_manifests,
        };
        match self.propose(tag).await? {
            Ok(_put) => Ok(Some(ManifestStored { digest, subject: held.subject })),
            // Deleted since, or set aside.
            Err(TagManifestRefused::ManifestUnknown) => Ok(None),
            Err(TagManifestRefused::BlobsUnknown(missing)) => Err(ManifestPutError::BlobsUnknown(missing)),
            Err(TagManifestRefused::PreconditionFailed { .. }) => Err(ManifestPutError::PreconditionFailed),
        }
    }

    pub(crate) async fn store_content(&self, digest: Digest, bytes: &Bytes) -> Result<ManifestContent, Fault> {
        if bytes.len() <= PutManifest::MAX_INLINE {
            return Ok(ManifestContent::Inline(bytes.clone()));
        }
        let key = self.keys.manifest(&self.metadata, &self.ports, digest).await?;
        self.blobs.put(&key, bytes.clone()).await?;
        Ok(ManifestContent::Object(key))
    }

    /// Deletes a manifest with every tag that points at it, or a tag and not its manifest.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<(), ManifestReadError> {
        let repository = repository.clone();
        match reference {
            Reference::Digest(digest) => {
                let delete = DeleteManifest { repository, digest: *digest };
                self.propose(delete).await?.map_err(|_refused| ManifestReadError::Unknown)?;
                self.metadata.settle().await;
                Ok(())
            }
            Reference::Tag(tag) => {
                let delete = DeleteTag { repository, tag: tag.clone() };
                self.propose(delete).await?.map(|_deleted| ()).map_err(|_refused| ManifestReadError::Unknown)
            }
        }
    }
}

/// A manifest pushed by tag is named by its SHA-256 digest.
fn verify(reference: &Reference, bytes: &[u8]) -> Result<Verified<Digest>, ManifestPutError> {
    match reference {
        Reference::Tag(_) => Ok(Hasher::digest(Algorithm::Sha256, bytes)),
        Reference::Digest(claimed) => Hasher::verify_bytes(*claimed, bytes).map_err(|error| match error {
            VerifyError::Mismatch { actual, .. } => ManifestPutError::DigestMismatch { actual },
            VerifyError::NotComputed(_) => Fault::Inconsistent(error.to_string()).into(),
        }),
    }
}

pub(crate) fn referrer(subject: Digest, manifest: &Manifest) -> Referrer {
    Referrer {
        subject,
        artifact_type: manifest.artifact_type().map(ToString::to_string),
        annotations: manifest.annotations().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}

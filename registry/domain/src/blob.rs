//! Pulling, mounting and deleting blobs.

use std::ops::Range;
use std::sync::atomic::Ordering;

use roadstead_blobs::{BlobError, ByteStream, FileStream};
use roadstead_metadata::{Blob, MountBlob, TouchBlob, UnlinkBlob};
use roadstead_oci::{Digest, ObjectKey, RepositoryName};

use crate::access::Identity;
use crate::fault::Fault;
use crate::limits::{MAX_HOLDERS_EXAMINED, REDIRECT_ABOVE_PARTS};
use crate::registry::Registry;

/// Why a blob was not read.
#[derive(Debug, thiserror::Error)]
pub enum BlobReadError {
    /// The repository does not hold it.
    #[error("the repository does not hold this blob")]
    Unknown,
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A blob that a repository holds, found but not read.
#[derive(Clone, Debug)]
pub struct FoundBlob(pub(crate) Blob);

impl FoundBlob {
    /// In bytes.
    pub const fn size(&self) -> u64 {
        self.0.size
    }
}

/// Where a blob's bytes come from.
pub enum BlobSource {
    /// From here.
    Stream(ByteStream),
    /// From the store itself, by this URL.
    Redirect(String),
}

impl Registry {
    /// Finds a blob. What was acknowledged by any replica is found by this one.
    pub async fn find_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<FoundBlob, BlobReadError> {
        let local = self.metadata.query().map_err(Fault::from)?.blob(repository, digest).map_err(Fault::from)?;
        if let Some(blob) = local {
            return Ok(FoundBlob(blob));
        }
        self.linearize().await?;
        let newest = self.metadata.query().map_err(Fault::from)?.blob(repository, digest).map_err(Fault::from)?;
        newest.map(FoundBlob).ok_or(BlobReadError::Unknown)
    }

    /// Finds a blob for somebody who will rely on its being there, as a client does that pushes an image: it stays for
    /// at least half a grace, if no manifest names it (promise P7).
    pub async fn promise_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<FoundBlob, BlobReadError> {
        self.look_at_the_clock();
        if self.lags.load(Ordering::Relaxed) {
            // What was deleted after this replica heard of a leader may be collected by now.
            self.linearize().await?;
            self.lags.store(false, Ordering::Relaxed);
        }
        let half_a_grace_ago = self.ports.before(&self.metadata, self.options.gc_grace / 2);
        let found = self.find_blob(repository, digest).await?;
        if found.0.unnamed_since.is_some_and(|since| since < half_a_grace_ago) {
            let touch = TouchBlob { repository: repository.clone(), digest: *digest };
            self.propose(touch).await?.map_err(|_refused| BlobReadError::Unknown)?;
        }
        Ok(found)
    }

    /// Opens `range` of a blob, which must lie within it.
    pub async fn open_blob(&self, blob: &FoundBlob, range: Range<u64>) -> Result<BlobSource, BlobReadError> {
        let FoundBlob(Blob { size, key, .. }) = blob;
        if let Some(valid) = self.options.redirect
            && *size > REDIRECT_ABOVE_PARTS * self.options.part_size
            && let Some(url) = self.blobs.presign(key, valid).await.map_err(Fault::from)?
        {
            return Ok(BlobSource::Redirect(url));
        }
        if range.is_empty() {
            return Ok(BlobSource::Stream(Box::pin(futures_util::stream::empty())));
        }
        self.blobs.get(key, range).await.map(BlobSource::Stream).map_err(|error| unreadable(key, error))
    }

    /// The bytes of a range of a blob, which must lie within it, from here and not from the store itself.
    pub async fn stream_blob(&self, blob: &FoundBlob, range: Range<u64>) -> Result<ByteStream, BlobReadError> {
        let key = &blob.0.key;
        if range.is_empty() {
            return Ok(Box::pin(futures_util::stream::empty()));
        }
        self.blobs.get(key, range).await.map_err(|error| unreadable(key, error))
    }

    /// Opens `range` of a blob as files, for a caller that can send those; `None` if it is not kept in files.
    pub async fn open_blob_files(
        &self,
        blob: &FoundBlob,
        range: Range<u64>,
    ) -> Result<Option<FileStream>, BlobReadError> {
        let key = &blob.0.key;
        self.blobs.get_files(key, range).await.map_err(|error| unreadable(key, error))
    }

    /// Gives `repository` a blob that another one holds, `from` or any that `identity` may pull from. `false` if there
    /// is none such, for whatever reason: a caller does not learn which (promise P11).
    pub async fn mount_blob(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
        digest: Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, Fault> {
        let Some(from) = self.mount_source(identity, digest, from).await? else { return Ok(false) };
        let mount = MountBlob { repository: repository.clone(), digest, from };
        Ok(self.propose(mount).await?.is_ok())
    }

    pub(crate) async fn mount_source(
        &self,
        identity: &Identity,
        digest: Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Option<RepositoryName>, Fault> {
        let may_pull = |source: &RepositoryName| self.options.access.rights(identity, source).pull;
        if let Some(source) = from {
            return Ok(may_pull(source).then(|| source.clone()));
        }
        self.linearize().await?;
        let holders = self.metadata.query()?.holders(&digest, None, MAX_HOLDERS_EXAMINED)?;
        Ok(holders.into_iter().find(may_pull))
    }

    /// Takes a blob out of a repository.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: Digest) -> Result<(), BlobReadError> {
        let unlink = UnlinkBlob { repository: repository.clone(), digest };
        self.propose(unlink).await?.map_err(|_refused| BlobReadError::Unknown)?;
        self.metadata.settle().await;
        Ok(())
    }
}

fn unreadable(key: &ObjectKey, error: BlobError) -> BlobReadError {
    match error {
        BlobError::NotFound => Fault::Inconsistent(format!("the object {key} of a blob is not in the store")).into(),
        error => Fault::from(error).into(),
    }
}

//! Blobs that clients push to a mirror: they are kept beside the client, and its home gets what it lacks.
//!
//! ```text
//!  mirror: upload, as at any registry --> an object that no repository holds --land_blob--> shown in its repository
//!  home:   claim_blobs --> what it has somewhere is given to the repository; the rest is lacking, and comes
//! ```

use std::sync::Arc;

use roadstead_metadata::{LandBlob, LandBlobRefused, MountBlob};
use roadstead_oci::{ContentRange, Digest, RepositoryName};

use crate::access::Identity;
use crate::blob::{BlobReadError, FoundBlob};
use crate::fault::Fault;
use crate::mirror::Transfer;
use crate::registry::Registry;
use crate::upload::{Body, Content, UploadError};

impl Registry {
    /// Shows a blob, whose bytes are here, in a repository of this mirror, for a grace from now on. `false` if its bytes
    /// are not here.
    pub async fn land_blob(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Fault> {
        let land = LandBlob { repository: repository.clone(), digest };
        match self.propose(land).await? {
            Ok(()) => Ok(true),
            Err(LandBlobRefused::BlobUnknown) => Ok(false),
        }
    }

    /// A blob that was pushed to this repository of a mirror, or that it holds as its home does. What was acknowledged by
    /// any replica is found by this one.
    pub async fn find_landed(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<FoundBlob>, Fault> {
        match self.find_blob(repository, digest).await {
            Ok(found) => return Ok(Some(found)),
            Err(BlobReadError::Unknown) => {}
            Err(BlobReadError::Fault(fault)) => return Err(fault),
        }
        // What was not found was looked for in what is newest.
        Ok(self.metadata.query()?.landed_blob(repository, digest)?.map(FoundBlob))
    }

    /// The same, for somebody who will rely on its being there: it stays for at least half a grace.
    pub async fn promise_landed(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<FoundBlob>, Fault> {
        let Some(found) = self.find_landed(repository, digest).await? else { return Ok(None) };
        let half_a_grace_ago = self.ports.before(&self.metadata, self.options.gc_grace / 2);
        // Home may have let go of it, or may soon; then this mirror brings it there once more.
        let is_old = found.0.unnamed_since.is_some_and(|since| since < half_a_grace_ago);
        if is_old && !self.land_blob(repository, *digest).await? {
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// Gives `repository` of a mirror a blob that another one shows, `from` or any that `identity` may pull from. `false`
    /// if there is none such here.
    pub async fn land_mount(
        &self,
        identity: &Identity,
        repository: &RepositoryName,
        digest: Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, Fault> {
        let Some(from) = self.mount_source(identity, digest, from).await? else { return Ok(false) };
        if self.find_landed(&from, &digest).await?.is_none() {
            return Ok(false);
        }
        self.land_blob(repository, digest).await
    }

    /// At home: lets a repository hold those of these blobs that are here, in whichever repository, since whoever asks has
    /// their bytes; and gives those that are not.
    pub async fn claim_blobs(&self, repository: &RepositoryName, digests: Vec<Digest>) -> Result<Vec<Digest>, Fault> {
        let mut lacking = Vec::new();
        for digest in digests {
            if !self.claim_blob(repository, digest).await? {
                lacking.push(digest);
            }
        }
        Ok(lacking)
    }

    async fn claim_blob(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Fault> {
        match self.promise_blob(repository, &digest).await {
            Ok(_held) => return Ok(true),
            Err(BlobReadError::Unknown) => {}
            Err(BlobReadError::Fault(fault)) => return Err(fault),
        }
        // What was not found was looked for in what is newest. One that lets go of it just now is as good as none.
        let Some(from) = self.metadata.query()?.holders(&digest, None, 1)?.pop() else { return Ok(false) };
        let mount = MountBlob { repository: repository.clone(), digest, from };
        Ok(self.propose(mount).await?.is_ok())
    }

    /// At home: where a blob of `size` bytes goes on that is being sent by a mirror.
    pub async fn sent_so_far(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
    ) -> Result<Transfer, UploadError> {
        self.linearize().await?;
        self.begin_transfer(repository, digest, size).await
    }

    /// At home: takes a blob that was pushed to a mirror, from `offset` on, which [`sent_so_far`](Self::sent_so_far) has
    /// told. It is linked if it has this digest.
    pub async fn take_blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
        offset: u64,
        body: Body,
    ) -> Result<(), UploadError> {
        let transfer = self.sent_so_far(repository, digest, size).await?;
        if transfer.offset != offset {
            return Err(UploadError::OutOfOrder { offset: transfer.offset });
        }
        let Some(upload) = transfer.upload else {
            return self.transfer_blob(repository, digest, size, transfer, body).await;
        };
        if offset < size {
            // With its place, since others may send the same blob.
            let range: ContentRange = format!("{offset}-{}", size - 1).parse().map_err(|_| UploadError::Length)?;
            let content = Content { range: Some(range), length: Some(size - offset), body };
            self.append_upload(repository, upload, content).await?;
        }
        let nothing = Content { range: None, length: Some(0), body: Box::pin(futures_util::stream::empty()) };
        self.close_upload(repository, upload, digest, nothing).await
    }
}

//! Pushing a blob by one request, without a session that the client sees.

use std::sync::Arc;

use roadstead_metadata::{CancelUpload, LinkBlob};
use roadstead_oci::{Algorithm, Digest, Hasher, RepositoryName, VerifyError};

use super::{Content, UploadError};
use crate::fault::Fault;
use crate::registry::Registry;

impl Registry {
    /// Makes a blob of `content`, if it has the digest `claimed`.
    ///
    /// Content that is known to fit into one part is hashed before anything is stored and costs one entry of the log.
    /// All other goes through a session that ends with this request.
    pub async fn upload_blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        claimed: Digest,
        content: Content,
    ) -> Result<(), UploadError> {
        match content.length {
            Some(length) if length <= self.options.part_size => {
                self.upload_small(repository, claimed, content, length).await
            }
            _ => {
                let (registry, repository) = (Arc::clone(self), repository.clone());
                self.detach(async move {
                    let upload = registry.start_upload(&repository, claimed.algorithm() == Algorithm::Sha512).await?;
                    let result = registry.close_upload(&repository, upload, claimed, content).await;
                    if result.is_err() {
                        // Nobody else knows of this session. Where it cannot be cancelled now, it expires.
                        let _ = registry.propose(CancelUpload { upload, repository }).await;
                    }
                    result
                })
                .await
            }
        }
    }

    async fn upload_small(
        self: &Arc<Self>,
        repository: &RepositoryName,
        claimed: Digest,
        content: Content,
        length: u64,
    ) -> Result<(), UploadError> {
        let mut memory = self.collect(content.body, length).await?;
        let verified = match Hasher::verify_bytes(claimed, &memory.bytes) {
            Ok(verified) => verified,
            Err(VerifyError::Mismatch { actual, .. }) => return Err(UploadError::DigestMismatch { actual }),
            Err(error @ VerifyError::NotComputed(_)) => return Err(Fault::Inconsistent(error.to_string()).into()),
        };
        let (registry, repository, size) = (Arc::clone(self), repository.clone(), memory.bytes.len() as u64);
        self.detach(async move {
            let key = registry.keys.blob(&registry.metadata, &registry.ports).await?;
            registry.blobs.put(&key, memory.freeze()).await.map_err(Fault::from)?;
            drop(memory);
            let link = LinkBlob::new(repository, verified, size, key, None);
            match registry.propose(link).await? {
                Ok(_linked) => Ok(()),
                Err(refused) => Err(Fault::Inconsistent(format!("a fresh blob was refused: {refused}")).into()),
            }
        })
        .await
    }
}

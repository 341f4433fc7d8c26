//! What waits in the inbox for somebody to do something: manifests that home has to be asked for, and changes whose turn
//! has come while nobody looked.

use std::sync::Arc;

use roadstead_domain::{Fault, ReceivedManifestError};
use roadstead_metadata::{Arrival, Unresolved};
use roadstead_oci::{Digest, Reference, RepositoryName, Tag};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::follow::{FollowError, in_time};
use crate::home::HomeError;
use crate::limits::{LOOK, MAX_LOOKED_AT};
use crate::mirror::Mirror;

impl Mirror {
    /// Resolves what waits, until `stop`, while this replica leads.
    pub async fn resolve(self: Arc<Self>, stop: CancellationToken) {
        let mut applied = self.registry.metadata().subscribe_applied();
        while !stop.is_cancelled() {
            applied.borrow_and_update();
            let resolved = if self.leads() { self.resolve_all().await } else { Ok(false) };
            match resolved {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    debug!(reason = %error, "what waits in the inbox is looked at again: {error}");
                }
            }
            // Something has changed, or it is time to look anyway.
            let _ = timeout(LOOK, stop.cancelled()).await;
        }
    }

    /// Looks at each repository once; whether something was done.
    async fn resolve_all(&self) -> Result<bool, FollowError> {
        let (mut after, mut done) = (None, false);
        loop {
            let query = self.registry.metadata().query().map_err(Fault::from)?;
            let (found, last) = query.unresolved(after.as_ref(), MAX_LOOKED_AT).map_err(Fault::from)?;
            drop(query);
            for unresolved in found {
                done |= match unresolved {
                    Unresolved::Ready(repository) => self.registry.advance_inbox(&repository).await?.published > 0,
                    Unresolved::Manifest { repository, arrival, digest, tags } => {
                        self.resolve_one(&repository, arrival, digest, tags).await?
                    }
                };
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(done),
            }
        }
    }

    async fn resolve_one(
        &self,
        repository: &RepositoryName,
        arrival: Arrival,
        digest: Digest,
        tags: Vec<Tag>,
    ) -> Result<bool, FollowError> {
        let manifest = match in_time(self.home.manifest(repository, &Reference::Digest(digest))).await {
            Ok(manifest) => manifest,
            Err(HomeError::Unknown { .. }) => {
                debug!(%repository, %digest, "home has deleted a manifest before it could be received");
                return Ok(self.registry.resolve_manifest(repository, arrival, None).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let received =
            self.registry.received_manifest(repository, digest, &manifest.media_type, tags, manifest.bytes).await;
        match received {
            Ok(put) => Ok(self.registry.resolve_manifest(repository, arrival, Some(put)).await?),
            Err(error @ ReceivedManifestError::Unfit { .. }) => {
                warn!(%repository, reason = %error, "{error}");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

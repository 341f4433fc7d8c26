//! What a mirror with a filter reads of manifests and blobs to choose by it: from here, or from home.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use roadstead_domain::Fault;
use roadstead_oci::{Descriptor, Digest, Hasher, Manifest, MediaType, Reference, RepositoryName};
use tracing::warn;

use crate::filter::Filter;
use crate::follow::{FollowError, Pauses, in_time};
use crate::home::HomeError;
use crate::limits::{COMPARED_ATTEMPTS, SIZE_ATTEMPTS};
use crate::mirror::Mirror;

/// A manifest that was read.
pub(crate) struct Read {
    pub(super) media_type: String,
    pub(super) manifest: Manifest,
}

impl Read {
    /// `None` of what is none, or another one: nothing is chosen by bytes that were not hashed here.
    pub(super) fn new(digest: Digest, media_type: String, bytes: Bytes) -> Option<Self> {
        Hasher::verify_bytes(digest, &bytes).ok()?;
        let declared = MediaType::from_content_type(&media_type).ok()?;
        let manifest = Manifest::parse(Some(&declared), bytes).ok()?;
        Some(Self { media_type, manifest })
    }

    /// What it says something of.
    pub(crate) fn subject(&self) -> Option<Digest> {
        self.manifest.subject().map(|subject| subject.digest)
    }

    /// The manifests of an index that a filter follows.
    pub(crate) fn children(&self, filter: &Filter) -> Vec<Digest> {
        let follows = |entry: &&Descriptor| match &entry.platform {
            Some(platform) => filter.takes_platform(&platform.os, &platform.architecture, platform.variant.as_deref()),
            None => true,
        };
        let followed: BTreeSet<Digest> =
            self.manifest.manifests().iter().filter(follows).map(|entry| entry.digest).collect();
        self.manifest.children().into_iter().filter(|child| followed.contains(child)).collect()
    }

    /// The blobs that it names.
    pub(crate) fn blobs(&self) -> Vec<Digest> {
        self.manifest.blobs()
    }

    /// The blobs that it names, and their sizes as it says them.
    pub(super) fn sizes(&self) -> Vec<(Digest, u64)> {
        let named = self.manifest.config().into_iter().chain(self.manifest.layers()).chain(self.manifest.manifests());
        let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
        for descriptor in named {
            sizes.entry(descriptor.digest).or_insert(descriptor.size);
        }
        self.blobs().into_iter().map(|blob| (blob, sizes.get(&blob).copied().unwrap_or_default())).collect()
    }
}

impl Mirror {
    /// The size of a blob, by what is here or at home, since manifests may say another one; what this one says, if home does
    /// not have it, or does not give it now: then it is wanted still, and the manifest waits for it, or for that home is known
    /// to have deleted it.
    pub(super) async fn size_of(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        said: u64,
    ) -> Result<(Digest, u64), FollowError> {
        let query = self.registry.metadata().query().map_err(Fault::from)?;
        let held = query.blob(repository, &digest).map_err(Fault::from)?.map(|blob| blob.size);
        let wanted = query.is_wanted(repository, &digest).map_err(Fault::from)?;
        drop(query);
        if let Some(size) = held.or(wanted) {
            return Ok((digest, size));
        }
        let (mut attempts, mut pauses) = (0, Pauses::new());
        loop {
            let error = match in_time(self.home.blob_size(repository, &digest)).await {
                Ok(size) => return Ok((digest, size)),
                Err(HomeError::Unknown { .. }) => return Ok((digest, said)),
                Err(error) => error,
            };
            attempts += 1;
            if self.is_ending() || !self.contact.is_there() {
                return Err(error.into());
            }
            if attempts == SIZE_ATTEMPTS {
                warn!(%repository, %digest, reason = %error, "how large a blob is home does not say: {error}");
                return Ok((digest, said));
            }
            pauses.wait(&self.ending()).await;
        }
    }

    /// A manifest: from here, which costs no round trip, else from home.
    pub(crate) async fn read_here_or_at_home(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<Read>, FollowError> {
        if let Ok(found) = self.registry.find_manifest(repository, &Reference::Digest(digest)).await
            && let Ok(bytes) = self.registry.read_manifest(&found).await
            && let Some(read) = Read::new(digest, found.media_type, bytes)
        {
            return Ok(Some(read));
        }
        self.read_at_home(repository, digest).await
    }

    /// A manifest as home has it; `None` if it does not, or not any more.
    pub(crate) async fn read_at_home(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<Read>, FollowError> {
        let (mut attempts, mut pauses) = (0, Pauses::new());
        loop {
            let error = match in_time(self.home.manifest(repository, &Reference::Digest(digest))).await {
                Ok(manifest) => match Read::new(digest, manifest.media_type, manifest.bytes) {
                    Some(read) => return Ok(Some(read)),
                    None => HomeError::Refused("what came is not the manifest that its digest says".to_owned()),
                },
                Err(HomeError::Unknown { .. }) => return Ok(None),
                Err(error) => error,
            };
            attempts += 1;
            if attempts == COMPARED_ATTEMPTS || self.is_ending() || !self.contact.is_there() {
                return Err(error.into());
            }
            pauses.wait(&self.ending()).await;
        }
    }
}

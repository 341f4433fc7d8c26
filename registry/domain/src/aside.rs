//! What a home that was fenced had acknowledged and its successor did not have: kept aside, listed, taken out, dismissed.

use bytes::Bytes;
use roadstead_metadata::{AsideChange, AsideManifest, ChangeKind, DismissAside, KeepAside, KeepAsideRefused, Position};
use roadstead_oci::{Digest, RepositoryName, Tag};

use crate::fault::Fault;
use crate::manifest::ManifestFound;
use crate::registry::Registry;

/// Changes that one entry keeps aside or forgets at most: some 50 us each, during which nothing else is applied.
const ASIDE_PER_ENTRY: u32 = 256;

/// A manifest that is kept aside, as it was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsidePut {
    /// Where to.
    pub repository: RepositoryName,
    /// Its digest.
    pub digest: Digest,
    /// The tags that were moved to it.
    pub tags: Vec<Tag>,
    /// As its client declared it.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The blobs that it names.
    pub blobs: Vec<Digest>,
}

impl Registry {
    /// Keeps aside what this region, which is fenced, changed after `fork` by its own count. Can be repeated, and goes on
    /// where it was.
    pub async fn keep_aside(&self, fork: Position) -> Result<Result<u64, KeepAsideRefused>, Fault> {
        let mut kept = 0;
        loop {
            match self.propose(KeepAside { after: fork, limit: ASIDE_PER_ENTRY }).await? {
                Ok(page) => {
                    kept += u64::from(page.kept);
                    if !page.more {
                        return Ok(Ok(kept));
                    }
                }
                Err(refused) => return Ok(Err(refused)),
            }
        }
    }

    /// What is kept aside, in the order in which it happened.
    pub fn aside(&self, after: Option<Position>, limit: usize) -> Result<Vec<AsideChange>, Fault> {
        Ok(self.metadata.query()?.aside(after, limit)?)
    }

    /// A manifest that is kept aside; `None` if there is none under that place.
    pub async fn aside_put(&self, position: Position) -> Result<Option<AsidePut>, Fault> {
        let found = self.metadata.query()?.aside_at(position)?;
        let Some(AsideChange {
            kind: ChangeKind::ManifestPut { repository, digest, tags },
            manifest: Some(manifest),
            ..
        }) = found
        else {
            return Ok(None);
        };
        let AsideManifest { media_type, size, content, blobs } = manifest;
        let bytes = self.read_manifest(&ManifestFound::kept(digest, media_type.clone(), size, content)).await?;
        Ok(Some(AsidePut { repository, digest, tags, media_type, bytes, blobs }))
    }

    /// Forgets a change that is kept aside, or all of them; how many.
    pub async fn dismiss_aside(&self, position: Option<Position>) -> Result<u64, Fault> {
        let mut dismissed = 0;
        loop {
            let Ok(page) = self.propose(DismissAside { position, limit: ASIDE_PER_ENTRY }).await?;
            dismissed += u64::from(page);
            if position.is_some() || page < ASIDE_PER_ENTRY {
                return Ok(dismissed);
            }
        }
    }
}

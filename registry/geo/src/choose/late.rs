//! What comes to home after the manifest that names it: an image that an index lists, or, where home takes manifests without
//! their blobs, a blob. Nothing else says that it is followed.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use roadstead_domain::Fault;
use roadstead_metadata::ManifestContent;
use roadstead_oci::{Digest, ManifestKind, MediaType, RepositoryName};

use super::read::Read;
use crate::follow::FollowError;
use crate::limits::{MAX_LACKED, MAX_LOOKED_AT, MAX_WAITING_LOOKED_AT};
use crate::mirror::Mirror;

/// Images that are listed by indexes which are followed, and are not here: by repository.
#[derive(Default)]
pub(crate) struct Lacked(Mutex<BTreeMap<RepositoryName, Listed>>);

#[derive(Default)]
struct Listed {
    digests: BTreeSet<Digest>,
    /// Whether those of all indexes are among them.
    is_whole: bool,
}

impl Lacked {
    /// Nothing is known any more: as when others have received changes meanwhile.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Nothing is known of a repository any more.
    pub(super) fn forget(&self, repository: &RepositoryName) {
        self.0.lock().remove(repository);
    }

    /// An index lists an image that home does not have.
    pub(super) fn note(&self, repository: &RepositoryName, digest: Digest) {
        self.add(repository, [digest], false);
    }

    fn add(&self, repository: &RepositoryName, digests: impl IntoIterator<Item = Digest>, is_whole: bool) {
        let mut lacked = self.0.lock();
        if lacked.values().map(|listed| listed.digests.len() + 1).sum::<usize>() >= MAX_LACKED {
            // They are found again.
            lacked.clear();
        }
        let listed = lacked.entry(repository.clone()).or_default();
        listed.digests.extend(digests);
        listed.is_whole |= is_whole;
    }

    /// Whether it is listed, if that is known.
    fn knows(&self, repository: &RepositoryName, digest: &Digest) -> Option<bool> {
        let lacked = self.0.lock();
        let listed = lacked.get(repository)?;
        let is_listed = listed.digests.contains(digest);
        (is_listed || listed.is_whole).then_some(is_listed)
    }
}

impl Mirror {
    /// Whether a blob that home holds now is named by a manifest that is followed: it was not there when that came, or home had
    /// let it go, which may not have its turn here yet.
    pub(super) fn names_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, Fault> {
        Ok(self.query()?.names_blob(repository, digest, MAX_WAITING_LOOKED_AT)?)
    }

    /// Whether a manifest that home has now is listed by an index that is followed, and was not there when that came.
    pub(super) async fn is_listed(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, FollowError> {
        if let Some(known) = self.lacked.knows(repository, digest) {
            return Ok(known);
        }
        let mut lacked = BTreeSet::new();
        for index in self.indexes(repository)? {
            // One that does not fit into the facts is read; what home does not give now is read through.
            let Ok(Some(read)) = self.read_here_or_at_home(repository, index).await else { continue };
            lacked.extend(read.children(&self.filter));
        }
        for waiting in self.query()?.manifests_waiting(repository, MAX_WAITING_LOOKED_AT).map_err(Fault::from)? {
            let digest = waiting.digest();
            if let ManifestContent::Inline(bytes) = waiting.content
                && let Some(read) = Read::new(digest, waiting.media_type, bytes)
            {
                lacked.extend(read.children(&self.filter));
            }
        }
        let query = self.query()?;
        let mut missing = BTreeSet::new();
        for digest in lacked {
            if query.manifest(repository, &digest).map_err(Fault::from)?.is_none() {
                missing.insert(digest);
            }
        }
        drop(query);
        let is_listed = missing.contains(digest);
        self.lacked.add(repository, missing, true);
        Ok(is_listed)
    }

    /// The indexes of a repository that are here.
    fn indexes(&self, repository: &RepositoryName) -> Result<Vec<Digest>, Fault> {
        let query = self.query()?;
        let (mut indexes, mut last) = (Vec::new(), None);
        loop {
            let page = query.manifest_digests(repository, last.as_ref(), MAX_LOOKED_AT)?;
            let Some(end) = page.last().copied() else { return Ok(indexes) };
            last = Some(end);
            for digest in page {
                let stored = query.manifest(repository, &digest)?;
                let media_type = stored.and_then(|stored| MediaType::from_content_type(&stored.media_type).ok());
                if media_type.is_some_and(|media_type| media_type.manifest_kind() == Some(ManifestKind::Index)) {
                    indexes.push(digest);
                }
            }
        }
    }
}

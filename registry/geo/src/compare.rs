//! Comparing the mirror with its home: where the feed does not reach back far enough, or home was restored.
//!
//! ```text
//!  home's snapshot, repository by repository --+
//!  the mirror's own facts ---------------------+--> what differs, as changes --> the inbox, behind the same gate
//! ```
//!
//! Until it has ended the mirror serves what it has. One that breaks off is made again from its start.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use roadstead_domain::Fault;
use roadstead_metadata::{ChangeKind, ClusterId, LogTime, Position, PutManifest, ReceiveSnapshot, ReceivedChange};
use roadstead_oci::{Digest, Reference, RepositoryName, Tag};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::follow::{FollowError, in_time};
use crate::home::{HomeError, Lines};
use crate::limits::{ANSWER_PATIENCE, MAX_LOOKED_AT, MAX_PAGE_CHANGES};
use crate::mirror::Mirror;
use crate::wire::SnapshotLine;

/// Manifests that home is asked for at once.
const ASKED_AT_ONCE: usize = 16;

/// What one side has of a repository.
#[derive(Default)]
struct Holdings {
    blobs: BTreeMap<Digest, u64>,
    manifests: BTreeSet<Digest>,
    tags: BTreeMap<Tag, Digest>,
}

/// Whose snapshot it is, and of when.
#[derive(Clone, Copy)]
struct Moment {
    home: ClusterId,
    position: Position,
    time: LogTime,
}

impl Mirror {
    /// Compares all, until `stop`.
    pub(crate) async fn compare(&self, stop: &CancellationToken) -> Result<(), FollowError> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            compared = self.compare_all() => compared,
        }
    }

    async fn compare_all(&self) -> Result<(), FollowError> {
        let mut lines = in_time(self.home.snapshot()).await?;
        let Some(SnapshotLine::Begin { home, position, time }) = next(&mut lines).await? else {
            return Err(broken("it has no beginning").into());
        };
        let moment = Moment { home: home.0, position, time };
        self.send(moment, true, Vec::new(), false).await?;
        let mut last: Option<RepositoryName> = None;
        let mut current: Option<(RepositoryName, Holdings)> = None;
        loop {
            let line = next(&mut lines).await?.ok_or_else(|| broken("it has no end"))?;
            let name = match &line {
                SnapshotLine::Begin { .. } => return Err(broken("it begins twice").into()),
                SnapshotLine::Blobs { repository, .. }
                | SnapshotLine::Manifests { repository, .. }
                | SnapshotLine::Tags { repository, .. } => Some(repository.clone()),
                SnapshotLine::End => None,
            };
            if let Some((repository, holdings)) = current.take_if(|(repository, _)| Some(&*repository) != name.as_ref())
            {
                self.drop_between(moment, last.as_ref(), Some(&repository)).await?;
                self.align(moment, &repository, holdings).await?;
                last = Some(repository);
            }
            let Some(name) = name else { break };
            let (_, holdings) = current.get_or_insert_with(|| (name, Holdings::default()));
            match line {
                SnapshotLine::Blobs { blobs, .. } => holdings.blobs.extend(blobs),
                SnapshotLine::Manifests { digests, .. } => holdings.manifests.extend(digests),
                SnapshotLine::Tags { tags, .. } => holdings.tags.extend(tags),
                SnapshotLine::Begin { .. } | SnapshotLine::End => {}
            }
        }
        self.drop_between(moment, last.as_ref(), None).await?;
        self.send(moment, false, Vec::new(), true).await?;
        info!(
            home = self.home(),
            sequence = position.sequence,
            "compared with home as of change {}",
            position.sequence
        );
        Ok(())
    }

    /// Repositories that are here and not at home, between two that are.
    async fn drop_between(
        &self,
        moment: Moment,
        after: Option<&RepositoryName>,
        before: Option<&RepositoryName>,
    ) -> Result<(), FollowError> {
        let mut after = after.cloned();
        loop {
            let query = self.registry.metadata().query().map_err(Fault::from)?;
            let last = after.as_ref().map(RepositoryName::as_str);
            let Some(repository) = query.repositories(last, 1).map_err(Fault::from)?.pop() else { return Ok(()) };
            drop(query);
            let is_here = before.is_none_or(|before| repository.as_str().cmp(before.as_str()) == Ordering::Less);
            if !is_here {
                return Ok(());
            }
            self.align(moment, &repository, Holdings::default()).await?;
            after = Some(repository);
        }
    }

    /// Makes a repository like home's.
    async fn align(&self, moment: Moment, repository: &RepositoryName, home: Holdings) -> Result<(), FollowError> {
        let here = self.holdings(repository)?;
        let name = || repository.clone();
        let mut changes = Vec::new();
        for (digest, size) in home.blobs.iter().filter(|(digest, _)| !here.blobs.contains_key(digest)) {
            changes.push((ChangeKind::BlobLinked { repository: name(), digest: *digest, size: *size }, None));
        }
        changes.extend(self.manifests_to_put(repository, &home, &here).await?);
        for tag in here.tags.keys().filter(|tag| !home.tags.contains_key(tag)) {
            changes.push((ChangeKind::TagDeleted { repository: name(), tag: tag.clone() }, None));
        }
        for digest in here.manifests.difference(&home.manifests) {
            changes.push((ChangeKind::ManifestDeleted { repository: name(), digest: *digest }, None));
        }
        for digest in here.blobs.keys().filter(|digest| !home.blobs.contains_key(digest)) {
            changes.push((ChangeKind::BlobUnlinked { repository: name(), digest: *digest }, None));
        }
        let Moment { position, time: at, .. } = moment;
        let mut page = Vec::new();
        for (kind, manifest) in changes {
            page.push(ReceivedChange { position, at, kind, manifest });
            if page.len() == MAX_PAGE_CHANGES / 8 {
                self.send(moment, false, std::mem::take(&mut page), false).await?;
            }
        }
        if page.is_empty() { Ok(()) } else { self.send(moment, false, page, false).await }
    }

    /// Manifests that are missing here, and those at which tags point that point elsewhere here. Images come before
    /// the indexes that name them.
    async fn manifests_to_put(
        &self,
        repository: &RepositoryName,
        home: &Holdings,
        here: &Holdings,
    ) -> Result<Vec<(ChangeKind, Option<PutManifest>)>, FollowError> {
        let missing = home.manifests.difference(&here.manifests);
        let mut wanted: BTreeMap<Digest, Vec<Tag>> = missing.map(|digest| (*digest, Vec::new())).collect();
        for (tag, digest) in home.tags.iter().filter(|(tag, digest)| here.tags.get(tag) != Some(digest)) {
            wanted.entry(*digest).or_default().push(tag.clone());
        }
        let asked = stream::iter(wanted).map(|(digest, tags)| self.manifest_to_put(repository, digest, tags));
        let put: Vec<_> = asked.buffered(ASKED_AT_ONCE).try_collect().await?;
        let (images, indexes): (Vec<_>, Vec<_>) =
            put.into_iter().partition(|(_, manifest): &(ChangeKind, Option<PutManifest>)| {
                manifest.as_ref().is_some_and(|manifest| !manifest.blobs.is_empty())
            });
        Ok(images.into_iter().chain(indexes).collect())
    }

    async fn manifest_to_put(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        tags: Vec<Tag>,
    ) -> Result<(ChangeKind, Option<PutManifest>), FollowError> {
        let manifest = match in_time(self.home.manifest(repository, &Reference::Digest(digest))).await {
            // What is large is asked for again when its turn comes: its object cannot wait in the inbox.
            Ok(manifest) if manifest.bytes.len() <= PutManifest::MAX_INLINE => Some(manifest),
            Ok(_) | Err(HomeError::Unknown { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let put = match manifest {
            Some(manifest) => {
                let (media_type, bytes) = (manifest.media_type, manifest.bytes);
                Some(self.registry.received_manifest(repository, digest, &media_type, tags.clone(), bytes).await?)
            }
            None => None,
        };
        Ok((ChangeKind::ManifestPut { repository: repository.clone(), digest, tags }, put))
    }

    fn holdings(&self, repository: &RepositoryName) -> Result<Holdings, Fault> {
        let query = self.registry.metadata().query()?;
        let mut holdings = Holdings::default();
        let mut last = None;
        loop {
            let page = query.blobs(repository, last.as_ref(), MAX_LOOKED_AT)?;
            let Some((digest, _)) = page.last() else { break };
            last = Some(*digest);
            holdings.blobs.extend(page.into_iter().map(|(digest, blob)| (digest, blob.size)));
        }
        let mut last = None;
        loop {
            let page = query.manifest_digests(repository, last.as_ref(), MAX_LOOKED_AT)?;
            let Some(digest) = page.last() else { break };
            last = Some(*digest);
            holdings.manifests.extend(page);
        }
        let mut last: Option<Tag> = None;
        loop {
            let page = query.tags(repository, last.as_ref().map(Tag::as_str), MAX_LOOKED_AT)?;
            let Some(tag) = page.last() else { break };
            last = Some(tag.clone());
            for tag in page {
                if let Some(digest) = query.tag(repository, &tag)? {
                    holdings.tags.insert(tag, digest);
                }
            }
        }
        Ok(holdings)
    }

    async fn send(
        &self,
        moment: Moment,
        begins: bool,
        changes: Vec<ReceivedChange>,
        ends: bool,
    ) -> Result<(), FollowError> {
        let ends = ends.then_some(moment.position);
        self.registry.receive_snapshot(ReceiveSnapshot { home: moment.home, begins, changes, ends }).await?;
        Ok(())
    }
}

async fn next(lines: &mut Lines<SnapshotLine>) -> Result<Option<SnapshotLine>, HomeError> {
    match timeout(ANSWER_PATIENCE, lines.next()).await {
        Ok(line) => line.transpose(),
        Err(_elapsed) => Err(HomeError::Away("its snapshot stalled".to_owned())),
    }
}

fn broken(how: &str) -> HomeError {
    HomeError::Away(format!("home's snapshot broke off: {how}"))
}

//! Comparing the mirror with its home: where the feed does not reach back far enough, or home was restored.
//!
//! ```text
//!  home's snapshot --disk--> repository by repository --+
//!  the mirror's own facts ------------------------------+--> what differs, as changes --> the inbox, behind the same gate
//! ```
//!
//! Home is read as fast as it sends, since it does not wait for whoever compares. What differs goes out as it is found, as
//! far as the inbox has room; so what was compared before a comparison broke off need not be brought again.
//!
//! Until it has ended the mirror serves what it has. One that breaks off is made again from its start, and so is one beside
//! which another was begun: it has an id, and of an older one nothing is taken in any more.

mod choose;
mod spool;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use roadstead_domain::{Fault, ReceivedManifestError};
use roadstead_metadata::{
    Advanced, ChangeKind, ClusterId, Comparison, LogTime, Position, PutManifest, ReceiveSnapshotRefused,
    ReceivedChange, SnapshotStep,
};
use roadstead_oci::{Digest, Reference, RepositoryName, Tag};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::spool::Spool;
pub(crate) use self::spool::SpoolError;
use crate::follow::{FollowError, Pauses, in_time};
use crate::home::{HomeError, Lines};
use crate::limits::{ANSWER_PATIENCE, COMPARED_ATTEMPTS, MAX_LOOKED_AT, MAX_PAGE_BYTES, MAX_PAGE_CHANGES};
use crate::mirror::Mirror;
use crate::wire::SnapshotLine;

/// Manifests that home is asked for at once, or sizes.
pub(crate) const ASKED_AT_ONCE: usize = 16;

/// What one side has of a repository.
#[derive(Default)]
struct Holdings {
    blobs: BTreeMap<Digest, u64>,
    manifests: BTreeSet<Digest>,
    tags: BTreeMap<Tag, Digest>,
}

/// Whose snapshot it is, for which comparison, and of when.
#[derive(Clone, Copy)]
struct Moment {
    home: ClusterId,
    comparison: Comparison,
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
        self.require_no_handover()?;
        let report = in_time(self.home.region()).await?;
        self.obey(&self.registry.region()?, report.cluster.0, &report.region).await?;
        self.keep_aside(&report).await?;
        let home = self.who_is_home().await?;
        let comparison = self.registry.begin_comparison(home).await?;
        let mut lines = in_time(self.home.snapshot()).await?;
        let Some(SnapshotLine::Begin { home: of, position, time }) = next(&mut lines).await? else {
            return Err(broken("it has no beginning").into());
        };
        if of.0 != home {
            return Err(broken("it is another cluster's").into());
        }
        let moment = Moment { home, comparison, time };
        let mut lines = self.spool(lines).await?;
        while self.send(moment, SnapshotStep::Forgets).await?.more {}
        self.send(moment, SnapshotStep::Chooses(self.filter.hash())).await?;
        let mut last: Option<RepositoryName> = None;
        let mut current: Option<(RepositoryName, Holdings)> = None;
        loop {
            let line = lines.next().await?.ok_or_else(|| broken("it has no end"))?;
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
                let holdings = self.choose_holdings(&repository, holdings).await?;
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
        self.send(moment, SnapshotStep::Ends(position)).await?;
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

    /// Puts a snapshot on the disk, to its end.
    async fn spool(&self, mut lines: Lines<SnapshotLine>) -> Result<Spool, FollowError> {
        let mut spool = Spool::new(self.fetches.folder())?;
        loop {
            let line = next(&mut lines).await?.ok_or_else(|| broken("it has no end"))?;
            spool.push(&line).await?;
            if line == SnapshotLine::End {
                spool.flush().await?;
                return Ok(spool);
            }
        }
    }

    /// Makes a repository like home's.
    async fn align(&self, moment: Moment, repository: &RepositoryName, home: Holdings) -> Result<(), FollowError> {
        let here = self.holdings(repository)?;
        let name = || repository.clone();
        let mut page = Page { mirror: self, moment, changes: Vec::new(), bytes: 0 };
        for (digest, size) in home.blobs.iter().filter(|(digest, _)| !here.blobs.contains_key(digest)) {
            page.push(ChangeKind::BlobLinked { repository: name(), digest: *digest, size: *size }, None).await?;
        }
        self.put_manifests(&mut page, repository, &home, &here).await?;
        for tag in here.tags.keys().filter(|tag| !home.tags.contains_key(tag)) {
            page.push(ChangeKind::TagDeleted { repository: name(), tag: tag.clone() }, None).await?;
        }
        for digest in here.manifests.difference(&home.manifests) {
            page.push(ChangeKind::ManifestDeleted { repository: name(), digest: *digest }, None).await?;
        }
        for digest in here.blobs.keys().filter(|digest| !home.blobs.contains_key(digest)) {
            page.push(ChangeKind::BlobUnlinked { repository: name(), digest: *digest }, None).await?;
        }
        page.send().await
    }

    /// Manifests that are missing here, and those at which tags point that point elsewhere here. Images come before
    /// the indexes that name them.
    async fn put_manifests(
        &self,
        page: &mut Page<'_>,
        repository: &RepositoryName,
        home: &Holdings,
        here: &Holdings,
    ) -> Result<(), FollowError> {
        let missing = home.manifests.difference(&here.manifests);
        let mut wanted: BTreeMap<Digest, Vec<Tag>> = missing.map(|digest| (*digest, Vec::new())).collect();
        for (tag, digest) in home.tags.iter().filter(|(tag, digest)| here.tags.get(tag) != Some(digest)) {
            wanted.entry(*digest).or_default().push(tag.clone());
        }
        let mut indexes = Vec::new();
        let asked = stream::iter(wanted).map(|(digest, tags)| self.manifest_to_put(repository, digest, tags));
        let mut asked = asked.buffered(ASKED_AT_ONCE);
        while let Some(put) = asked.next().await {
            let (digest, tags, manifest) = put?;
            // What is no image is asked for again behind all of them, so that not all manifests are held here.
            match manifest.filter(|manifest| !manifest.blobs.is_empty()) {
                Some(manifest) => page.push_manifest(repository, digest, tags, Some(manifest)).await?,
                None => indexes.push((digest, tags)),
            }
        }
        let asked = stream::iter(indexes).map(|(digest, tags)| self.manifest_to_put(repository, digest, tags));
        let mut asked = asked.buffered(ASKED_AT_ONCE);
        while let Some(put) = asked.next().await {
            let (digest, tags, manifest) = put?;
            page.push_manifest(repository, digest, tags, manifest).await?;
        }
        Ok(())
    }

    /// A manifest, where home gives one that fits into the inbox. What it does not give now is asked for again when its
    /// turn comes, and holds up its repository alone.
    async fn manifest_to_put(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        tags: Vec<Tag>,
    ) -> Result<(Digest, Vec<Tag>, Option<PutManifest>), FollowError> {
        let (mut attempts, mut pauses) = (0, Pauses::new());
        let manifest = loop {
            let error = match in_time(self.home.manifest(repository, &Reference::Digest(digest))).await {
                Ok(manifest) => break (manifest.bytes.len() <= PutManifest::MAX_INLINE).then_some(manifest),
                Err(HomeError::Unknown { .. }) => break None,
                Err(error) => error,
            };
            attempts += 1;
            if attempts < COMPARED_ATTEMPTS && !self.is_ending() {
                pauses.wait(&self.ending()).await;
            } else if self.contact.is_there() {
                debug!(%repository, %digest, reason = %error, "a manifest is compared without its bytes: {error}");
                break None;
            } else {
                return Err(error.into());
            }
        };
        let Some(manifest) = manifest else { return Ok((digest, tags, None)) };
        let (media_type, bytes) = (manifest.media_type, manifest.bytes);
        match self.registry.received_manifest(repository, digest, &media_type, tags.clone(), bytes).await {
            Ok(put) => Ok((digest, tags, Some(put))),
            Err(error @ ReceivedManifestError::Unfit { .. }) => {
                warn!(%repository, reason = %error, "{error}");
                Ok((digest, tags, None))
            }
            Err(error) => Err(error.into()),
        }
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

    async fn who_is_home(&self) -> Result<ClusterId, HomeError> {
        let mut lines = in_time(self.home.watermarks()).await?;
        let line = in_time(async { lines.next().await.unwrap_or_else(|| Err(broken("it says nothing"))) }).await?;
        Ok(line.home.0)
    }

    /// A step of a comparison, as long as this replica leads and nobody else has begun one.
    async fn send(&self, moment: Moment, step: SnapshotStep) -> Result<Advanced, FollowError> {
        if !self.leads() {
            return Err(FollowError::Superseded);
        }
        match self.registry.receive_snapshot(moment.home, moment.comparison, step).await? {
            Ok(advanced) => Ok(advanced),
            Err(ReceiveSnapshotRefused::Superseded) => Err(FollowError::Superseded),
            Err(refused @ (ReceiveSnapshotRefused::NotForgotten | ReceiveSnapshotRefused::NotKeptAside)) => {
                Err(Fault::Inconsistent(refused.to_string()).into())
            }
        }
    }
}

/// Changes that go into one entry.
struct Page<'mirror> {
    mirror: &'mirror Mirror,
    moment: Moment,
    changes: Vec<ReceivedChange>,
    bytes: u64,
}

impl Page<'_> {
    async fn push_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        tags: Vec<Tag>,
        manifest: Option<PutManifest>,
    ) -> Result<(), FollowError> {
        self.push(ChangeKind::ManifestPut { repository: repository.clone(), digest, tags }, manifest).await
    }

    async fn push(&mut self, kind: ChangeKind, manifest: Option<PutManifest>) -> Result<(), FollowError> {
        self.bytes += manifest.as_ref().map_or(0, |manifest| manifest.size);
        // When home changed it nobody knows any more: it may have been the first change of all.
        let (position, at) = (Position::default(), self.moment.time);
        self.changes.push(ReceivedChange { position, at, kind, manifest });
        if self.changes.len() >= MAX_PAGE_CHANGES || self.bytes >= MAX_PAGE_BYTES as u64 {
            self.send().await
        } else {
            Ok(())
        }
    }

    async fn send(&mut self) -> Result<(), FollowError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        self.mirror.until_room().await?;
        self.bytes = 0;
        self.mirror.send(self.moment, SnapshotStep::Changes(std::mem::take(&mut self.changes))).await?;
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

//! Two registries for tests, a home and its mirror: real facts in temporary folders, bytes in memory, and between them a
//! home that does as it is told.

mod writes;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use roadstead_blobs::MemoryStore;
use roadstead_domain::{
    AccessPolicy, Acknowledge, BlobReadError, Clock, Content, Entropy, ManifestReadError, Options as RegistryOptions,
    Ports, Precondition, PushedManifest, Registry,
};
use roadstead_metadata::{HandoverStep, Metadata, Options as MetadataOptions, Position, RegionEpoch, RemoteProgress};
use roadstead_oci::{Algorithm, Digest, Hasher, MediaType, Reference, RepositoryName, Tag, UploadId};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::home::{Home, HomeBlob, HomeError, HomeManifest, Lines};
use crate::referrers::{HomeReferrers, home_referrers};
use crate::region::{DemotionToken, HandoverRequest, RegionReport, region_report};
use crate::wire::{FeedLine, HomeId, SnapshotLine};
use crate::{Calendar, Filter, Mirror, Options, Shown, Terms, feed_line, snapshot_lines, watermark};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What home says of itself.
const TERMS: Terms = Terms { writes: true, partial: false };

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Counted(Mutex<u64>);

impl Entropy for Counted {
    fn fill(&self, bytes: &mut [u8]) {
        let mut count = self.0.lock();
        *count += 1;
        let spread = count.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        for (byte, value) in bytes.iter_mut().zip(spread.iter().cycle()) {
            *byte = *value;
        }
        if let Some(last) = bytes.last_mut() {
            *last = count.to_le_bytes()[0];
        }
    }
}

/// A registry of one replica.
pub(crate) struct Place {
    pub(crate) registry: Arc<Registry>,
    folder: tempfile::TempDir,
}

impl Place {
    /// One that takes manifests without their blobs, or not.
    pub(crate) async fn new(seed: u64, sparse_manifests: bool) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
        let metadata =
            Metadata::open(MetadataOptions::new(folder.path().join("metadata"), [seed.into(), u128::from(seed) + 10]))
                .await;
        let clock = Arc::new(RealClock(Instant::now()));
        let ports = Ports { clock, entropy: Arc::new(Counted(Mutex::new(seed << 32))) };
        let options = RegistryOptions {
            access: AccessPolicy::Open,
            part_size: 1 << 20,
            memory_budget: 64 << 20,
            max_uploads: 100,
            upload_expiry: Duration::from_hours(1),
            max_staleness: Duration::from_hours(1),
            gc_grace: Duration::from_hours(1),
            backup: false,
            backup_interval: Duration::MAX,
            backup_retention: Duration::ZERO,
            sparse_manifests,
            acknowledge: Acknowledge::Local,
            redirect: None,
        };
        let registry = Registry::new(metadata.expect("facts"), Arc::new(MemoryStore::new()), ports, options);
        Self { registry, folder }
    }

    /// How a mirror behaves that is here: it copies everything at any time.
    pub(crate) fn options(&self) -> Options {
        let (calendar, filter) = (Calendar::default(), Filter::default());
        Options { spool: self.folder.path().join("spool"), disk_reserve: 0, link_rate: None, calendar, filter }
    }

    pub(crate) async fn push_blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = sha256(content);
        let body = stream::iter([Ok(Bytes::copy_from_slice(content))]).boxed();
        let content = Content { range: None, length: Some(content.len() as u64), body };
        self.registry.upload_blob(&name(repository), digest, content).await.expect("a blob");
        digest
    }

    /// Puts a manifest that names these blobs, with so much besides.
    pub(crate) async fn put(&self, repository: &str, tag: &str, blobs: &[Digest], padding: usize) -> Digest {
        let layers: Vec<_> = blobs.iter().map(descriptor).collect();
        let document = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": layers[0], "layers": layers,
            "annotations": {"of": format!("{repository}:{tag}"), "padding": "x".repeat(padding)},
        });
        let bytes = Bytes::from(serde_json::to_vec(&document).expect("JSON"));
        let digest = sha256(&bytes);
        let declared = Some(MediaType::from_content_type(MANIFEST).expect("a type"));
        let pushed = PushedManifest { declared, bytes };
        let reference = Reference::Tag(tag.parse::<Tag>().expect("a tag"));
        let put = self.registry.put_manifest(&name(repository), &reference, &[], Precondition::None, pushed).await;
        put.expect("a manifest");
        digest
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        let query = self.registry.metadata().query().expect("facts");
        query.tag(&name(repository), &tag.parse().expect("a tag")).expect("facts")
    }

    pub(crate) fn position(&self) -> Position {
        self.registry.metadata().query().expect("facts").position().expect("facts")
    }
}

fn descriptor(digest: &Digest) -> serde_json::Value {
    serde_json::json!({"mediaType": "application/octet-stream", "digest": digest.to_string(), "size": 5})
}

pub(crate) fn name(repository: &str) -> RepositoryName {
    repository.parse().expect("a repository")
}

pub(crate) fn sha256(content: &[u8]) -> Digest {
    *Hasher::digest(Algorithm::Sha256, content).get()
}

/// What home answers instead of what it has.
#[derive(Clone, Debug)]
pub(crate) enum Instead {
    Fails(HomeError),
    /// Other bytes.
    Bytes(Bytes),
    /// Nothing, for ever.
    Stalls,
}

/// A home behind no network.
pub(crate) struct FakeHome {
    pub(crate) place: Place,
    instead: Mutex<BTreeMap<Digest, Instead>>,
    /// How often each manifest and blob was asked for.
    asked: Mutex<BTreeMap<Digest, usize>>,
    /// Everything that was asked.
    pub(crate) requests: AtomicU64,
    /// Snapshots that were begun.
    pub(crate) snapshots: AtomicU64,
    /// Bytes of uploads that were asked for, and of blobs.
    pub(crate) ahead: Mutex<u64>,
    pub(crate) sent: Mutex<u64>,
    /// Whether it sends others than an upload has.
    pub(crate) damages_uploads: AtomicBool,
    /// Whether it is of a release that does not say what refers to a manifest.
    pub(crate) lists_no_referrers: AtomicBool,
    is_away: AtomicBool,
}

impl FakeHome {
    pub(crate) fn instead(&self, digest: Digest, instead: Instead) {
        self.instead.lock().insert(digest, instead);
    }

    pub(crate) fn as_it_is(&self, digest: Digest) {
        self.instead.lock().remove(&digest);
    }

    pub(crate) fn asked(&self, digest: Digest) -> usize {
        self.asked.lock().get(&digest).copied().unwrap_or_default()
    }

    pub(crate) fn go_away(&self, away: bool) {
        self.is_away.store(away, Ordering::SeqCst);
    }

    async fn ask(&self, digest: Option<Digest>) -> Result<Option<Bytes>, HomeError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        if self.is_away.load(Ordering::SeqCst) {
            return Err(away());
        }
        let Some(digest) = digest else { return Ok(None) };
        *self.asked.lock().entry(digest).or_default() += 1;
        let instead = self.instead.lock().get(&digest).cloned();
        match instead {
            Some(Instead::Fails(error)) => Err(error),
            Some(Instead::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Instead::Stalls) => std::future::pending().await,
            None => Ok(None),
        }
    }

    fn unknown(&self) -> HomeError {
        HomeError::Unknown { newest: self.place.position() }
    }
}

fn away() -> HomeError {
    HomeError::Away("the test says so".to_owned())
}

fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T, HomeError> {
    serde_json::from_slice(line).map_err(|error| HomeError::Refused(error.to_string()))
}

#[async_trait]
impl Home for Arc<FakeHome> {
    fn name(&self) -> &'static str {
        "home"
    }

    async fn feed(&self, after: Position) -> Result<Lines<FeedLine>, HomeError> {
        self.ask(None).await?;
        feed_line(&self.place.registry, after, TERMS, &mut Shown::new())
            .map_err(|error| HomeError::Resynchronise(error.to_string()))?;
        let lines = stream::unfold((Arc::clone(self), after, Shown::new()), |(home, after, mut shown)| async move {
            if home.is_away.load(Ordering::SeqCst) {
                return None;
            }
            let registry = &home.place.registry;
            let (mut newest, mut applied) = (registry.metadata().subscribe(), registry.metadata().subscribe_applied());
            if newest.borrow_and_update().sequence <= after.sequence {
                let news = shown.until_news(registry, &mut newest, &mut applied);
                let _ = tokio::time::timeout(Duration::from_millis(100), news).await;
            }
            let (line, last) = feed_line(&home.place.registry, after, TERMS, &mut shown).ok()?;
            Some((read(&line), (home, last, shown)))
        });
        Ok(lines.boxed())
    }

    async fn watermarks(&self) -> Result<Lines<FeedLine>, HomeError> {
        self.ask(None).await?;
        let lines = stream::unfold((Arc::clone(self), true), |(home, is_first)| async move {
            if !is_first {
                let _ = tokio::time::timeout(Duration::from_millis(100), std::future::pending::<()>()).await;
            }
            if home.is_away.load(Ordering::SeqCst) {
                return None;
            }
            let line = watermark(&home.place.registry, TERMS).ok()?;
            Some((read(&line), (home, false)))
        });
        Ok(lines.boxed())
    }

    async fn snapshot(&self) -> Result<Lines<SnapshotLine>, HomeError> {
        self.ask(None).await?;
        self.snapshots.fetch_add(1, Ordering::SeqCst);
        let mut lines = snapshot_lines(&self.place.registry).map_err(|error| HomeError::Away(error.to_string()))?;
        let mut read_lines = Vec::new();
        while let Some(line) = lines.next_line().map_err(|error| HomeError::Away(error.to_string()))? {
            read_lines.push(read(&line));
        }
        Ok(stream::iter(read_lines).boxed())
    }

    async fn region(&self) -> Result<RegionReport, HomeError> {
        self.ask(None).await?;
        region_report(&self.place.registry).map_err(|error| HomeError::Away(error.to_string()))
    }

    async fn hand_over(&self, to: HandoverRequest) -> Result<DemotionToken, HomeError> {
        self.ask(None).await?;
        let epoch = RegionEpoch { number: to.epoch, home: to.home.0 };
        let step = if to.ends { HandoverStep::Ends } else { HandoverStep::Begins };
        let fenced = self.place.registry.hand_over(epoch, to.origin.0, step).await;
        let fenced = fenced.map_err(|error| HomeError::Away(error.to_string()))?;
        let last = fenced.map_err(|refused| HomeError::Refused(refused.to_string()))?.last;
        let from = HomeId(self.place.registry.metadata().identity().cluster);
        Ok(DemotionToken { epoch: to.epoch, home: to.home, from, last })
    }

    async fn report(&self, progress: &RemoteProgress) -> Result<(), HomeError> {
        self.ask(None).await?;
        let noted = self.place.registry.note_remote("here".to_owned(), progress.clone()).await;
        noted.map_err(|error| HomeError::Away(error.to_string()))
    }

    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<HomeManifest, HomeError> {
        let digest = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => self.place.tag(repository.as_str(), tag.as_str()),
        };
        let instead = self.ask(digest).await?;
        match self.place.registry.find_manifest(repository, reference).await {
            Ok(found) => {
                let bytes = self.place.registry.read_manifest(&found).await.map_err(|_| away())?;
                let bytes = instead.unwrap_or(bytes);
                Ok(HomeManifest { digest: found.digest, media_type: found.media_type, bytes })
            }
            Err(ManifestReadError::Unknown) => Err(self.unknown()),
            Err(ManifestReadError::Fault(fault)) => Err(HomeError::Away(fault.to_string())),
        }
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<&Digest>,
    ) -> Result<HomeReferrers, HomeError> {
        self.ask(None).await?;
        if self.lists_no_referrers.load(Ordering::SeqCst) {
            return Err(HomeError::NotServed);
        }
        let listed = home_referrers(&self.place.registry, repository, subject, last).await;
        listed.map_err(|error| HomeError::Away(error.to_string()))
    }

    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, HomeError> {
        self.ask(None).await?;
        if let Some(Instead::Fails(error)) = self.instead.lock().get(digest).cloned() {
            return Err(error);
        }
        match self.place.registry.find_blob(repository, digest).await {
            Ok(blob) => Ok(blob.size()),
            Err(BlobReadError::Unknown) => Err(self.unknown()),
            Err(BlobReadError::Fault(fault)) => Err(HomeError::Away(fault.to_string())),
        }
    }

    async fn upload(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, HomeError>>, HomeError> {
        self.ask(None).await?;
        *self.ahead.lock() += range.end - range.start;
        let read = self.place.registry.read_upload(repository, upload, range).await;
        let bytes = read.map_err(|error| HomeError::Away(error.to_string()))?;
        let is_damaged = self.damages_uploads.load(Ordering::SeqCst);
        let damaged = move |bytes: Bytes| {
            if is_damaged { bytes.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>().into() } else { bytes }
        };
        Ok(bytes.map(move |piece| piece.map(damaged).map_err(|error| HomeError::Away(error.to_string()))).boxed())
    }

    async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<HomeBlob, HomeError> {
        self.ask(Some(*digest)).await?;
        let blob = match self.place.registry.find_blob(repository, digest).await {
            Ok(blob) => blob,
            Err(BlobReadError::Unknown) => return Err(self.unknown()),
            Err(BlobReadError::Fault(fault)) => return Err(HomeError::Away(fault.to_string())),
        };
        if range.start >= blob.size() {
            return Err(HomeError::Refused("there is nothing".to_owned()));
        }
        let range = range.start..range.end.min(blob.size());
        *self.sent.lock() += range.end - range.start;
        let bytes = self.place.registry.stream_blob(&blob, range).await.map_err(|_| away())?;
        let bytes = bytes.map(|piece| piece.map_err(|error| HomeError::Away(error.to_string()))).boxed();
        Ok(HomeBlob { size: blob.size(), bytes })
    }
}

/// A home, and a mirror whose tasks run.
pub(crate) struct Regions {
    pub(crate) home: Arc<FakeHome>,
    pub(crate) here: Place,
    pub(crate) mirror: Arc<Mirror>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Regions {
    pub(crate) async fn new() -> Self {
        Self::with(Calendar::default(), Filter::default()).await
    }

    pub(crate) async fn with(calendar: Calendar, filter: Filter) -> Self {
        Self::of(Place::new(1, false).await, calendar, filter).await
    }

    pub(crate) async fn of(home: Place, calendar: Calendar, filter: Filter) -> Self {
        let here = Place::new(2, false).await;
        let home = Arc::new(FakeHome {
            place: home,
            instead: Mutex::default(),
            asked: Mutex::default(),
            requests: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            ahead: Mutex::default(),
            sent: Mutex::default(),
            damages_uploads: false.into(),
            lists_no_referrers: false.into(),
            is_away: false.into(),
        });
        let options = Options { calendar, filter, ..here.options() };
        let mirror = Mirror::new(Arc::clone(&here.registry), Arc::new(Arc::clone(&home)), None, options);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self { home, here, mirror, stop, tasks }
    }

    /// Bytes that are free where blobs are on their way through.
    pub(crate) fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.here.folder.path()).expect("a disk");
        disk.f_bavail * disk.f_frsize
    }

    /// Runs all tasks of the mirror.
    pub(crate) fn run(&self) {
        self.tasks.spawn(Arc::clone(&self.mirror).follow(self.stop.clone()));
        self.tasks.spawn(Arc::clone(&self.mirror).watch(self.stop.clone()));
        self.tasks.spawn(Arc::clone(&self.mirror).move_blobs(self.stop.clone()));
        self.tasks.spawn(Arc::clone(&self.mirror).resolve(self.stop.clone()));
    }

    /// Hears how far home is, and receives nothing.
    pub(crate) fn watch(&self) {
        self.tasks.spawn(Arc::clone(&self.mirror).watch(self.stop.clone()));
    }

    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let mut applied = self.here.registry.metadata().subscribe_applied();
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "not {what} within {PATIENCE:?}: {:?}", self.mirror.lag());
            let _ = tokio::time::timeout(Duration::from_millis(20), applied.changed()).await;
        }
    }

    pub(crate) async fn until_tag(&self, repository: &str, tag: &str, digest: Digest) {
        self.until(&format!("{repository}:{tag} at {digest}"), || self.here.tag(repository, tag) == Some(digest)).await;
    }

    /// Waits until all that home has was received.
    pub(crate) async fn until_received(&self) {
        let newest = self.home.place.position();
        self.until("everything received", || {
            let following = self.here.registry.metadata().query().and_then(|query| query.following());
            following.expect("facts").is_some_and(|following| following.position >= newest && !following.comparing)
        })
        .await;
    }

    /// Ends all tasks of the mirror, as its process does that starts anew.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        self.mirror.end().await;
        self.tasks.close();
        self.tasks.wait().await;
        (self.stop, self.tasks) = (CancellationToken::new(), TaskTracker::new());
    }

    pub(crate) async fn end(mut self) {
        self.stop().await;
    }
}

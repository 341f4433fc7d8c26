//! The bucket that all replicas share: in memory, behind errors that come before or after the effect.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use roadstead_blobs::{
    BlobError, ByteStream, Fault, FaultyStore, Listing, MemoryStore, Moment, MultipartInfo, MultipartStore, ObjectInfo,
    ObjectStore, Operation, PresignStore,
};
use roadstead_oci::{MultipartId, ObjectKey, ObjectKind, Part};

use super::clock::Time;
use super::network::pause;
use super::process::{Dead, Process};
use crate::random::Random;
use crate::trace::Trace;

/// What all replicas write to.
pub(crate) struct Bucket {
    store: FaultyStore<MemoryStore>,
    weather: Arc<Mutex<Weather>>,
}

struct Weather {
    random: Random,
    /// How many calls of a thousand fail.
    failing: usize,
    latest: Duration,
}

impl Bucket {
    pub(crate) fn new(random: Random, time: &Arc<Time>) -> Arc<Self> {
        let weather = Weather { random, failing: 0, latest: Duration::from_millis(20) };
        let weather = Arc::new(Mutex::new(weather));
        let (drawn, time) = (Arc::clone(&weather), Arc::clone(time));
        let store = FaultyStore::new(MemoryStore::with_clock(move || time.now()));
        let store = store.with_plan(move |call| drawn.lock().fault(call.operation));
        Arc::new(Self { store, weather })
    }

    /// How many calls of a thousand fail, and how late the latest answer is.
    pub(crate) fn disturb(&self, failing: usize, latest: Duration) {
        let mut weather = self.weather.lock();
        weather.failing = failing;
        weather.latest = latest;
    }

    pub(crate) fn heal(&self) {
        self.disturb(0, Duration::from_millis(20));
    }

    /// What is in it, for whoever checks.
    pub(crate) fn content(&self) -> &MemoryStore {
        self.store.inner()
    }

    fn latency(&self) -> Duration {
        let mut weather = self.weather.lock();
        let latest = weather.latest;
        weather.random.time(Duration::from_millis(1), latest)
    }
}

impl Weather {
    fn fault(&mut self, operation: Operation) -> Option<Fault> {
        if !self.random.permille(self.failing) {
            return None;
        }
        let lost = BlobError::Unavailable("simulated".to_owned());
        Some(match (operation, self.random.below(3)) {
            (Operation::Get, 0) => Fault::Cut(self.random.next() % 5_000),
            (_, 0 | 1) => Fault::Fail(Moment::Before, lost),
            _ => Fault::Fail(Moment::After, lost),
        })
    }
}

/// Bytes on their way from one process into the bucket.
#[derive(Default)]
pub(crate) struct Traffic {
    in_flight: AtomicU64,
    /// The most that were under way at once.
    pub(crate) peak: AtomicU64,
    /// All that were written.
    pub(crate) written: AtomicU64,
}

struct InFlight<'a>(&'a Traffic, u64);

impl Traffic {
    fn begin(&self, key: &ObjectKey, bytes: &Bytes) -> InFlight<'_> {
        // Manifests are bounded by their number, not by the budget of blobs.
        let counted = if matches!(key.kind(), ObjectKind::Manifest { .. }) { 0 } else { bytes.len() as u64 };
        let now = self.in_flight.fetch_add(counted, Ordering::Relaxed) + counted;
        self.peak.fetch_max(now, Ordering::Relaxed);
        self.written.fetch_add(counted, Ordering::Relaxed);
        InFlight(self, counted)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// The bucket as one process sees it.
pub(crate) struct BucketOf {
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) process: Arc<Process>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) trace: Trace,
    /// The bug: whoever repeats a completion does not look whether the first one had its effect.
    pub(crate) never_looks: bool,
}

impl BucketOf {
    async fn call<T>(
        &self,
        operation: Operation,
        key: &str,
        effect: impl Future<Output = Result<T, BlobError>>,
    ) -> Result<T, BlobError> {
        let gone = |Dead| BlobError::Unavailable("this process is dead".to_owned());
        self.process.pass().await.map_err(gone)?;
        pause(self.bucket.latency()).await;
        self.process.pass().await.map_err(gone)?;
        let answer = effect.await;
        let how = if answer.is_ok() { "done" } else { "failed" };
        self.trace.note(format_args!("{} {operation:?} {key} {how}", self.process.name));
        pause(self.bucket.latency()).await;
        self.process.pass().await.map_err(gone)?;
        answer
    }

    fn store(&self) -> &FaultyStore<MemoryStore> {
        &self.bucket.store
    }
}

#[async_trait]
impl ObjectStore for BucketOf {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), BlobError> {
        let _in_flight = self.traffic.begin(key, &content);
        self.call(Operation::Put, key.as_str(), self.store().put(key, content.clone())).await
    }

    async fn put_new(&self, key: &ObjectKey, content: Bytes) -> Result<bool, BlobError> {
        self.call(Operation::PutNew, key.as_str(), self.store().put_new(key, content)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BlobError> {
        let found = self.call(Operation::Head, key.as_str(), self.store().head(key)).await?;
        Ok(found.filter(|_| !self.never_looks))
    }

    async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        self.call(Operation::Get, key.as_str(), self.store().get(key, range)).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError> {
        let first = keys.first().map_or("nothing", ObjectKey::as_str);
        self.call(Operation::Delete, first, self.store().delete(keys)).await
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError> {
        self.call(Operation::List, prefix, self.store().list(prefix, next)).await
    }
}

#[async_trait]
impl MultipartStore for BucketOf {
    fn min_part_size(&self) -> u64 {
        self.store().min_part_size()
    }

    async fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError> {
        self.call(Operation::CreateMultipart, key.as_str(), self.store().create_multipart(key)).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        part_size: u64,
        content: Bytes,
    ) -> Result<Part, BlobError> {
        let _in_flight = self.traffic.begin(key, &content);
        let put = self.store().put_part(key, id, number, part_size, content.clone());
        self.call(Operation::PutPart, key.as_str(), put).await
    }

    async fn persist(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        self.call(Operation::Persist, key.as_str(), self.store().persist(key, id, parts)).await
    }

    async fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError> {
        let copied = self.store().copy_parts(source, key, id, part_size, parts);
        self.call(Operation::CopyParts, key.as_str(), copied).await
    }

    async fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        self.call(Operation::Complete, key.as_str(), self.store().complete(key, id, parts)).await
    }

    async fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        self.call(Operation::Abort, key.as_str(), self.store().abort(key, id)).await
    }

    async fn list_multiparts(&self, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError> {
        self.call(Operation::ListMultiparts, "", self.store().list_multiparts(next)).await
    }
}

impl PresignStore for BucketOf {
    fn presign<'a>(&'a self, _: &'a ObjectKey, _: Duration) -> BoxFuture<'a, Result<Option<String>, BlobError>> {
        async { Ok(None) }.boxed()
    }
}

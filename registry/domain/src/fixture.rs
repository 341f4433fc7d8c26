//! A registry for tests: real facts in a temporary folder, bytes in memory, time that stands still, counted randomness.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use roadstead_blobs::{FaultyStore, MemoryStore, ObjectStore};
use roadstead_metadata::{Metadata, Options as MetadataOptions};
use roadstead_oci::{Algorithm, ContentRange, Digest, Hasher, RepositoryName};

use crate::access::AccessPolicy;
use crate::blob::BlobSource;
use crate::ports::{Clock, Entropy, Ports};
use crate::race;
use crate::registry::{Options, Registry};
use crate::upload::{BodyError, Content};

/// Small, so that a few kilobytes have many parts.
pub(crate) const PART_SIZE: u64 = 1000;

pub(crate) const GRACE: Duration = Duration::from_mins(10);

/// How often a snapshot is due.
pub(crate) const BACKUP_INTERVAL: Duration = Duration::from_hours(6);

pub(crate) struct World {
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<FaultyStore<MemoryStore>>,
    pub(crate) clock: Arc<StoppedClock>,
    metadata: Metadata,
    entropy: Arc<CountedEntropy>,
    retention: Option<Duration>,
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_backup(None).await
    }

    /// One whose backup is kept, from which a restore can go back so far.
    pub(crate) async fn with_backup(retention: Option<Duration>) -> Self {
        let clock = Arc::new(StoppedClock::default());
        let time = Arc::clone(&clock);
        let store = FaultyStore::new(MemoryStore::with_clock(move || time.now()));
        let store = Arc::new(store.with_plan(|_call| race::store_step()));
        Self::open(folder(), store, clock, Arc::default(), retention).await
    }

    /// Another process at the same store, on facts of its own that may be in the folder already.
    pub(crate) async fn beside(&self, folder: tempfile::TempDir) -> Self {
        let (store, clock, entropy) = (Arc::clone(&self.store), Arc::clone(&self.clock), Arc::clone(&self.entropy));
        Self::open(folder, store, clock, entropy, self.retention).await
    }

    async fn open(
        folder: tempfile::TempDir,
        store: Arc<FaultyStore<MemoryStore>>,
        clock: Arc<StoppedClock>,
        entropy: Arc<CountedEntropy>,
        retention: Option<Duration>,
    ) -> Self {
        let options = MetadataOptions::new(folder.path().join("metadata"), [1, 2]);
        let metadata = Metadata::open(options).await.expect("facts");
        let registry = open(metadata.clone(), Arc::clone(&store), &clock, &entropy, retention);
        Self { registry, store, clock, metadata, entropy, retention, folder }
    }

    /// What a registry is made with.
    pub(crate) fn ports(&self) -> Ports {
        Ports { clock: Arc::clone(&self.clock) as _, entropy: Arc::clone(&self.entropy) as _ }
    }

    /// The same facts and bytes under a new process.
    pub(crate) fn restart(&mut self) {
        let (metadata, store) = (self.metadata.clone(), Arc::clone(&self.store));
        self.registry = open(metadata, store, &self.clock, &self.entropy, self.retention);
    }

    /// Time passes, and the registry looks at the clock meanwhile, as it does every few seconds.
    pub(crate) fn pass(&self, by: Duration) {
        let step = Duration::from_secs(10);
        let mut left = by;
        while left > Duration::ZERO {
            self.clock.advance(left.min(step));
            self.registry.look_at_the_clock();
            left = left.saturating_sub(step);
        }
    }

    /// Everything in the store, when the janitor has nothing left to do.
    pub(crate) async fn objects_after_sweep(&self) -> Vec<String> {
        while self.registry.sweep().await.expect("a sweep").objects > 0 {}
        let listing = self.store.list("", None).await.expect("a listing");
        assert!(listing.next.is_none());
        listing.items.into_iter().map(|object| object.key.to_string()).collect()
    }

    /// A blob as a client would pull it.
    pub(crate) async fn pull(&self, repository: &RepositoryName, digest: Digest) -> Vec<u8> {
        let blob = self.registry.find_blob(repository, &digest).await.expect("the blob is there");
        match self.registry.open_blob(&blob, 0..blob.size()).await.expect("it can be read") {
            BlobSource::Stream(bytes) => bytes.try_collect::<Vec<Bytes>>().await.expect("to its end").concat(),
            BlobSource::Redirect(url) => panic!("a redirect to {url}"),
        }
    }
}

/// In memory, where there is such a folder: what a power cut leaves is tested elsewhere.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

fn open(
    metadata: Metadata,
    store: Arc<FaultyStore<MemoryStore>>,
    clock: &Arc<StoppedClock>,
    entropy: &Arc<CountedEntropy>,
    retention: Option<Duration>,
) -> Arc<Registry> {
    let ports = Ports { clock: Arc::clone(clock) as _, entropy: Arc::clone(entropy) as _ };
    let options = Options {
        access: AccessPolicy::Open,
        part_size: PART_SIZE,
        memory_budget: 64 * PART_SIZE,
        max_uploads: 100,
        upload_expiry: Duration::from_hours(1),
        max_staleness: Duration::from_hours(1),
        gc_grace: GRACE,
        backup: retention.is_some(),
        backup_interval: BACKUP_INTERVAL,
        backup_retention: retention.unwrap_or_default(),
        sparse_manifests: false,
        acknowledge: crate::Acknowledge::Local,
        redirect: None,
    };
    Registry::new(metadata, store, ports, options)
}

/// Moves only when told to.
#[derive(Default)]
pub(crate) struct StoppedClock {
    seconds: AtomicU64,
    /// By how many the wall clock is ahead.
    ahead: AtomicU64,
}

impl StoppedClock {
    /// Time passes.
    pub(crate) fn advance(&self, by: Duration) {
        self.seconds.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_ahead(&self, by: Duration) {
        self.ahead.store(by.as_secs(), Ordering::Relaxed);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + self.ahead.load(Ordering::Relaxed)) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }
}

#[derive(Default)]
pub(crate) struct CountedEntropy(Mutex<u64>);

impl Entropy for CountedEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut count = self.0.lock();
        *count += 1;
        let spread = count.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        for (byte, (index, value)) in bytes.iter_mut().zip(spread.iter().cycle().enumerate()) {
            *byte = value.wrapping_add(u8::try_from(index).unwrap_or(u8::MAX));
        }
    }
}

pub(crate) fn repository(name: &str) -> RepositoryName {
    name.parse().expect("a repository name")
}

/// `size` bytes that do not repeat with any part.
pub(crate) fn bytes(size: usize) -> Vec<u8> {
    let mixed = |index: usize| (index.wrapping_mul(0x9E37_79B9) >> 8).to_le_bytes()[0];
    (0..size).map(mixed).collect()
}

pub(crate) fn sha256(content: &[u8]) -> Digest {
    *Hasher::digest(Algorithm::Sha256, content).get()
}

pub(crate) fn sha512(content: &[u8]) -> Digest {
    *Hasher::digest(Algorithm::Sha512, content).get()
}

/// A body in pieces of an odd size, without length or range, as docker streams it.
pub(crate) fn streamed(content: &[u8]) -> Content {
    let pieces: Vec<_> = content.chunks(333).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Content { range: None, length: None, body: stream::iter(pieces).boxed() }
}

/// A body with its length, as containerd sends it.
pub(crate) fn sized(content: &[u8]) -> Content {
    Content { length: Some(content.len() as u64), ..streamed(content) }
}

/// A chunk that says where it belongs.
pub(crate) fn chunk(start: u64, content: &[u8]) -> Content {
    let range: ContentRange = format!("{start}-{}", start + content.len() as u64 - 1).parse().expect("a range");
    Content { range: Some(range), ..sized(content) }
}

/// A body whose connection breaks after `content`.
pub(crate) fn broken(content: &[u8]) -> Content {
    let whole = streamed(content);
    Content { body: whole.body.chain(stream::iter([Err(BodyError::Broken)])).boxed(), ..whole }
}

/// A body of which nothing more comes after `content`, and which does not end.
pub(crate) fn stalled(content: &[u8]) -> Content {
    let whole = streamed(content);
    Content { body: whole.body.chain(stream::pending()).boxed(), ..whole }
}

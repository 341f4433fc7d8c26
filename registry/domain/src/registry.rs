//! The registry: what its verbs work on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roadstead_blobs::BlobStore;
use roadstead_metadata::{Incarnation, Metadata, Operation};
use roadstead_oci::Part;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::access::AccessPolicy;
use crate::backup::Backup;
use crate::budget::ByteBudget;
use crate::fault::Fault;
use crate::keys::KeyPool;
use crate::limits::MAX_MANIFEST_READS;
use crate::manifest_cache::ManifestCache;
use crate::ports::Ports;
use crate::remote::Acknowledge;
use crate::upload::writers::Writers;

/// How a registry behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may do what.
    pub access: AccessPolicy,
    /// Bytes of every part of an upload but the last.
    pub part_size: u64,
    /// Bytes that all pushes may hold in memory at once.
    pub memory_budget: u64,
    /// Upload sessions that may be open at once.
    pub max_uploads: u64,
    /// An upload session that nobody touches for this long is ended.
    pub upload_expiry: Duration,
    /// How old the facts may be from which a read is answered when there is no leader.
    pub max_staleness: Duration,
    /// A blob that nothing names is let go after this, and its object condemned after as much again.
    pub gc_grace: Duration,
    /// Whether what is applied is shipped to the store.
    pub backup: bool,
    /// How often a snapshot is written at least, if anything has changed.
    pub backup_interval: Duration,
    /// How far back a restore can go.
    pub backup_retention: Duration,
    /// Whether a manifest is stored even if its repository does not hold all blobs that it names.
    pub sparse_manifests: bool,
    /// When a push is acknowledged.
    pub acknowledge: Acknowledge,
    /// Whether large blobs are fetched from the store itself, and for how long such a link is good.
    pub redirect: Option<Duration>,
}

impl Options {
    /// The largest blob: S3's number of parts times the part size.
    pub const fn max_blob_size(&self) -> u64 {
        self.part_size * Part::MAX_NUMBER as u64
    }
}

/// A registry: its verbs are in the files beside this one.
pub struct Registry {
    pub(crate) metadata: Metadata,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) ports: Ports,
    pub(crate) options: Options,
    pub(crate) backup: Backup,
    pub(crate) budget: ByteBudget,
    pub(crate) keys: KeyPool,
    pub(crate) writers: Writers,
    pub(crate) manifest_cache: ManifestCache,
    pub(crate) manifest_reads: Semaphore,
    pub(crate) incarnation: Incarnation,
    /// Whether what this replica has may be older than half a grace: until a leader has said how far it has to be.
    pub(crate) lags: AtomicBool,
    /// Uploads outlive the requests that feed them by as long as it takes to leave a session in order.
    pub(crate) uploads: TaskTracker,
}

impl Registry {
    /// A registry on these facts and bytes.
    pub fn new(metadata: Metadata, blobs: Arc<dyn BlobStore>, ports: Ports, options: Options) -> Arc<Self> {
        Arc::new(Self {
            metadata,
            blobs,
            budget: ByteBudget::new(options.memory_budget, options.part_size),
            backup: Backup::default(),
            keys: KeyPool::new(),
            writers: Writers::default(),
            manifest_cache: ManifestCache::default(),
            manifest_reads: Semaphore::new(MAX_MANIFEST_READS),
            incarnation: ports.incarnation(),
            lags: AtomicBool::new(false),
            uploads: TaskTracker::new(),
            ports,
            options,
        })
    }

    /// Who may do what.
    pub fn access(&self) -> AccessPolicy {
        self.options.access
    }

    /// The memory that pushes share.
    pub fn budget(&self) -> &ByteBudget {
        &self.budget
    }

    /// Bytes of every part but the last: the smallest chunk that is worth sending.
    pub fn part_size(&self) -> u64 {
        self.options.part_size
    }

    /// The facts, for whoever reports on them.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Looks at the clock, so that what this replica stamps is in step with the others: to be done every few seconds,
    /// whether it leads or not.
    pub fn look_at_the_clock(&self) {
        self.ports.now(&self.metadata);
        if self.metadata.silence(self.ports.clock.monotonic()) > self.options.gc_grace / 2 {
            self.lags.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until every upload has left its session in order. New ones are refused by then: the edge has drained.
    pub async fn drain(&self) {
        self.uploads.close();
        self.uploads.wait().await;
    }

    pub(crate) async fn propose<O: Operation>(&self, operation: O) -> Result<Result<O::Done, O::Refused>, Fault> {
        #[cfg(test)]
        let _busy = crate::race::step().await;
        Ok(self.metadata.propose(self.ports.command_id(), self.ports.now(&self.metadata), operation).await?)
    }

    /// After it, the facts are those of everything that was acknowledged anywhere before.
    pub(crate) async fn linearize(&self) -> Result<(), Fault> {
        #[cfg(test)]
        let _busy = crate::race::busy();
        Ok(self.metadata.linearize().await?)
    }
}

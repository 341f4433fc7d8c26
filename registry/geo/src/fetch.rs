//! Bringing a blob from home, once for all who want it.
//!
//! ```text
//!  home --some connections, a stretch each, what somebody waits for first--> spool (a file without name)
//!                                   pull, pull, ... <--as far as it is filled--'--> transfer_blob: kept
//! ```
//!
//! * Whoever asks for a blob that is on its way reads the same bytes: they cross the link once for this replica.
//! * A connection that breaks costs what was in flight on it: the rest of its stretch is asked for again.
//! * What is kept was hashed by the domain. A pull that reads along is checked by its client, as every pull is.
//! * After a restart the transfer goes on at its last checkpoint; who reads what came before that reads it from home.

mod bring;
mod pieces;
mod reader;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::future::join;
use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use pieces::Pieces;
pub(crate) use reader::Pull;
use roadstead_domain::{BodyError, Transfer, UploadError};
use roadstead_oci::{Digest, RepositoryName};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::ahead::CameAhead;
use crate::follow::in_time;
use crate::home::{HomeBlob, HomeError};
use crate::limits::{ANSWER_PATIENCE, MAX_FETCHES, MAX_SIZES, PIECE_BYTES};
use crate::mirror::{Mirror, Options};
use crate::pace::Pace;

/// Why a blob did not come, or was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Home did not send it.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The disk did not hold it.
    #[error("it could not be put on the disk: {0}")]
    Spool(String),
    /// As many as may be are on their way.
    #[error("{MAX_FETCHES} others are on their way")]
    Busy,
    /// It has another size than was announced, or than a manifest says that is believed where home did not answer.
    #[error("{announced} bytes of it were announced, and home has {actual}")]
    OtherSize {
        /// As was believed.
        announced: u64,
        /// What home says that sends it.
        actual: u64,
    },
    /// It is large, no pull waits for it, and this is not the time to copy it ahead.
    #[error("it is copied in the next window of the calendar")]
    PutOff,
    /// It came, and could not be kept.
    #[error("it could not be kept: {0}")]
    NotKept(String),
}

/// The blobs that are on their way.
pub(crate) struct Fetches {
    options: Options,
    /// How many more may be.
    places: Arc<Semaphore>,
    running: Mutex<HashMap<Digest, Arc<Fetch>>>,
    /// Blobs whose beginning home is asked for, which says how large they are.
    asked: Mutex<HashSet<Digest>>,
    /// Blobs that have another size than is believed, as home said last: what they are asked for by.
    sizes: Mutex<HashMap<Digest, u64>>,
    pub(crate) pace: Pace,
}

/// Somebody who asks home for the beginning of a blob.
struct Asking<'fetches> {
    fetches: &'fetches Fetches,
    digest: Digest,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.fetches.asked.lock().remove(&self.digest);
    }
}

/// A blob on its way.
pub(crate) struct Fetch {
    digest: Digest,
    /// By whose name home is asked for it.
    repository: RepositoryName,
    size: u64,
    /// Bytes that the spool may come to hold besides.
    unwritten: AtomicU64,
    /// A reader's place in the file is its place in the blob.
    spool: Arc<File>,
    progress: Mutex<Progress>,
    /// Changes with `progress`.
    changed: watch::Sender<u64>,
    /// The answer with its first bytes, where home was asked for them before its size was known.
    beginning: Mutex<Option<HomeBlob>>,
    /// Changes when there is more to be asked for than before, or nothing ever again.
    work: watch::Sender<u64>,
    /// How it ended.
    ended: watch::Sender<Option<Result<(), FetchError>>>,
    /// What had come of its upload before it was a blob: where its pieces begin.
    ahead: OnceLock<CameAhead>,
    /// What had come of it before this fetch began, and by whom that is kept.
    begun: OnceLock<(RepositoryName, Transfer)>,
    /// How many pulls read along.
    pulls: AtomicUsize,
    /// How many ever did.
    pulled: AtomicU64,
}

struct Progress {
    /// Once it is known where they begin.
    pieces: Option<Pieces>,
    /// When something of it came last, or it was begun.
    moved: Instant,
    /// When a pull read it last, or it was begun.
    pulled: Instant,
    failed: Option<FetchError>,
}

impl Fetches {
    pub(crate) fn new(options: Options) -> Self {
        let (places, pace) = (Arc::new(Semaphore::new(MAX_FETCHES)), Pace::new(options.link_rate));
        let (running, asked, sizes) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { options, places, running, asked, sizes, pace }
    }

    /// Where blobs are on their way through.
    pub(crate) fn folder(&self) -> &Path {
        &self.options.spool
    }

    /// How large a blob is of which this is believed.
    pub(crate) fn size(&self, digest: &Digest, believed: u64) -> u64 {
        self.sizes.lock().get(digest).copied().unwrap_or(believed)
    }

    /// Home has another size of a blob than is believed.
    fn note_size(&self, digest: Digest, actual: u64) {
        let mut sizes = self.sizes.lock();
        if sizes.len() >= MAX_SIZES {
            // Those that are asked for still are noted again.
            sizes.clear();
        }
        sizes.insert(digest, actual);
    }

    /// Whoever asks home for the beginning of a blob, unless somebody does or it is on its way.
    fn ask(&self, digest: Digest) -> Option<Asking<'_>> {
        let is_on_its_way = self.running.lock().contains_key(&digest);
        (!is_on_its_way && self.asked.lock().insert(digest)).then(|| Asking { fetches: self, digest })
    }

    /// How many blobs are on their way.
    pub(crate) fn count(&self) -> usize {
        self.running.lock().len()
    }
}

impl Mirror {
    /// The blob on its way; begun, unless it is already.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: Digest,
        size: Option<u64>,
    ) -> Result<Arc<Fetch>, FetchError> {
        if self.is_ending() {
            // Else there would be no end to it, where pulls or those who move blobs try again.
            return Err(FetchError::NotKept("the registry ends".to_owned()));
        }
        // What another repository waits for says nothing of what this one holds at home (promise P11).
        let believed = size.map(|size| self.fetches.size(&digest, size));
        let (size, beginning) = match believed {
            // Of what is believed to be empty nothing would be asked for, and nothing learnt.
            Some(size) if size > 0 => (size, None),
            _ => self.ask_for_beginning(repository, digest).await?,
        };
        if let Some(running) = self.fetches.running.lock().get(&digest) {
            return Ok(Arc::clone(running));
        }
        let place = timeout(ANSWER_PATIENCE, Arc::clone(&self.fetches.places).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(FetchError::Busy)?;
        let fetch = {
            let mut running = self.fetches.running.lock();
            if let Some(running) = running.get(&digest) {
                return Ok(Arc::clone(running));
            }
            // What others have been promised of the disk is not free, though it is not written yet.
            let promised = running.values().map(|fetch| fetch.unwritten()).sum();
            let fetch = Arc::new(Fetch::begin(repository, digest, size, promised, &self.fetches.options)?);
            *fetch.beginning.lock() = beginning;
            running.insert(digest, Arc::clone(&fetch));
            fetch
        };
        let (mirror, repository, running) = (Arc::clone(self), repository.clone(), Arc::clone(&fetch));
        self.tasks.spawn(async move {
            let ended = running.run(&mirror, &repository).await;
            if let Err(error) = &ended {
                debug!(%digest, reason = %error, "a blob did not come: {error}");
                if let FetchError::OtherSize { actual, .. } = error {
                    mirror.fetches.note_size(digest, *actual);
                }
                running.fail(error.clone());
            }
            // First the end is known, then nobody finds it any more: whoever comes in between reads what is there.
            running.ended.send_replace(Some(ended));
            running.has_changed();
            mirror.fetches.running.lock().remove(&digest);
            drop(place);
        });
        Ok(fetch)
    }

    /// The size of a blob of which nothing is known, and with it its first bytes: so they are here a round trip earlier. Who
    /// asks while another one does is told the size alone, since the bytes cross the link once.
    async fn ask_for_beginning(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<(u64, Option<HomeBlob>), HomeError> {
        // A replica that does not lead has the bytes from the one that does.
        let may_ask = self.leads() || self.siblings.is_none();
        if let Some(_asking) = self.fetches.ask(digest).filter(|_| may_ask) {
            match in_time(self.home.blob(repository, &digest, 0..PIECE_BYTES)).await {
                Ok(beginning) => return Ok((beginning.size, Some(beginning))),
                Err(error @ (HomeError::Unknown { .. } | HomeError::Away(_))) => return Err(error),
                // Of an empty one nothing is given.
                Err(HomeError::Refused(_) | HomeError::Resynchronise(_) | HomeError::NotServed) => {}
            }
        }
        Ok((in_time(self.home.blob_size(repository, &digest)).await?, None))
    }
}

impl Fetch {
    fn begin(
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
        promised: u64,
        options: &Options,
    ) -> Result<Self, FetchError> {
        let failed = |error: &dyn std::fmt::Display| FetchError::Spool(error.to_string());
        std::fs::create_dir_all(&options.spool).map_err(|error| failed(&error))?;
        if let Ok(disk) = rustix::fs::statvfs(&options.spool) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(promised);
            if free < size.saturating_add(options.disk_reserve) {
                return Err(FetchError::Spool(format!(
                    "{free} bytes are free in {}, of which {} stay free",
                    options.spool.display(),
                    options.disk_reserve
                )));
            }
        }
        let spool = tempfile::tempfile_in(&options.spool).map_err(|error| failed(&error))?;
        Ok(Self {
            digest,
            repository: repository.clone(),
            size,
            unwritten: AtomicU64::new(size),
            spool: Arc::new(spool),
            progress: Mutex::new(Progress {
                pieces: None,
                moved: Instant::now(),
                pulled: Instant::now(),
                failed: None,
            }),
            changed: watch::Sender::new(0),
            beginning: Mutex::default(),
            work: watch::Sender::new(0),
            ended: watch::Sender::new(None),
            ahead: OnceLock::new(),
            begun: OnceLock::new(),
            pulls: AtomicUsize::new(0),
            pulled: AtomicU64::new(0),
        })
    }

    /// By whose name home is asked for it.
    pub(crate) const fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The whole blob's, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Waits until the blob is kept.
    pub(crate) async fn kept(&self) -> Result<(), FetchError> {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ok(())),
            Err(_) => Err(FetchError::NotKept("it was given up".to_owned())),
        }
    }

    async fn run(self: &Arc<Self>, mirror: &Arc<Mirror>, repository: &RepositoryName) -> Result<(), FetchError> {
        let wanting = self.wanting(mirror)?;
        if wanting.is_some()
            && let Some(ahead) = mirror.came_ahead(&self.digest, self.size).map_err(|fault| not_kept(&fault))?
        {
            return self.run_ahead(mirror, repository, ahead).await;
        }
        let transfer = match &wanting {
            Some(wanting) => {
                let transfer = mirror.registry.begin_transfer(wanting, self.digest, self.size).await;
                Some(transfer.map_err(|error| not_kept(&error))?)
            }
            None => None,
        };
        let base = transfer.map_or(0, |transfer| transfer.offset);
        if let (Some(wanting), Some(transfer)) = (&wanting, transfer) {
            let _ = self.begun.set((wanting.clone(), transfer));
        }
        self.lay_out(base);
        let bringing = self.bring_or_fail(mirror, repository);
        let keeping = async {
            match (&wanting, transfer) {
                (Some(wanting), Some(transfer)) => self.keep(mirror, repository, wanting, transfer).await,
                _ => Ok(()),
            }
        };
        let (brought, kept) = join(bringing, keeping).await;
        brought?;
        // What ends because nothing more comes does not say why.
        if let Some(error) = self.progress.lock().failed.clone() {
            return Err(error);
        }
        kept?;
        // What was pulled before the feed told of it is kept if that has come meanwhile.
        let wanting = if wanting.is_none() { self.wanting(mirror)? } else { None };
        if let Some(wanting) = wanting {
            let transfer = mirror.registry.begin_transfer(&wanting, self.digest, self.size).await;
            let transfer = transfer.map_err(|error| not_kept(&error))?;
            self.keep(mirror, repository, &wanting, transfer).await?;
        }
        Ok(())
    }

    /// Brings what has not come of its upload, and closes the session in which the rest is.
    async fn run_ahead(
        self: &Arc<Self>,
        mirror: &Arc<Mirror>,
        repository: &RepositoryName,
        ahead: CameAhead,
    ) -> Result<(), FetchError> {
        let ahead = self.ahead.get_or_init(|| ahead);
        debug!(digest = %self.digest, ahead.end, size = self.size, "a blob has come ahead so far");
        self.lay_out(ahead.end);
        let bringing = self.bring_or_fail(mirror, repository);
        let keeping = async {
            let transfer = ahead.settle(mirror, self.size).await.map_err(|fault| not_kept(&fault))?;
            let broken = || FetchError::NotKept("what was on its way of its upload broke off".to_owned());
            let kept = self.keep(mirror, repository, ahead.repository(), transfer.ok_or_else(broken)?).await;
            if kept.is_err() && self.progress.lock().failed.is_none() {
                // Not for want of bytes.
                ahead.forsake(mirror).await;
            }
            kept
        };
        let (brought, kept) = join(bringing, keeping).await;
        brought?;
        let failed = self.progress.lock().failed.clone();
        failed.map_or(kept, Err)
    }

    async fn bring_or_fail(&self, mirror: &Mirror, repository: &RepositoryName) -> Result<(), FetchError> {
        let brought = self.bring_all(mirror, repository).await;
        if let Err(error) = &brought {
            self.fail(error.clone());
        }
        brought
    }

    /// One of those who want it, if this replica is to keep it: two that do would be in each other's way.
    fn wanting(&self, mirror: &Mirror) -> Result<Option<RepositoryName>, FetchError> {
        if !mirror.leads() {
            return Ok(None);
        }
        let wanting = mirror.registry.metadata().query().and_then(|query| query.wanting(&self.digest, 1));
        Ok(wanting.map_err(|error| not_kept(&error))?.into_iter().next())
    }

    /// Makes a blob of what comes.
    async fn keep(
        self: &Arc<Self>,
        mirror: &Arc<Mirror>,
        repository: &RepositoryName,
        wanting: &RepositoryName,
        transfer: Transfer,
    ) -> Result<(), FetchError> {
        let rest = transfer.offset..self.size;
        let body = self.read(mirror, repository, rest, None).map_err(|_broken| BodyError::Broken).boxed();
        let kept = mirror.registry.transfer_blob(wanting, self.digest, self.size, transfer, body).await;
        kept.map_err(|error| {
            if let UploadError::DigestMismatch { actual } = &error {
                warn!(digest = %self.digest, %actual, home = mirror.home(), "home sent other bytes than it announced");
            }
            not_kept(&error)
        })
    }

    /// By which repository, and by what transfer, the bytes before the spool's are kept, as far as they are.
    fn kept_so_far(&self, mirror: &Mirror) -> Option<(RepositoryName, Transfer)> {
        match self.ahead.get() {
            Some(ahead) => ahead.so_far(mirror, self.size).map(|transfer| (ahead.repository().clone(), transfer)),
            None => self.begun.get().cloned(),
        }
    }

    fn lay_out(&self, base: u64) {
        self.unwritten.store(self.size - base, Ordering::Relaxed);
        self.progress.lock().pieces = Some(Pieces::new(base, self.size));
        self.has_changed();
    }

    fn has_changed(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// There is more to be asked for than before, or nothing ever again.
    fn has_work(&self) {
        self.work.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn fail(&self, error: FetchError) {
        self.progress.lock().failed.get_or_insert(error);
        self.has_changed();
        self.has_work();
    }
}

fn not_kept(error: &dyn std::fmt::Display) -> FetchError {
    FetchError::NotKept(error.to_string())
}

//! Bringing a blob from home, once for all who want it.
//!
//! ```text
//!  home --STREAMS_PER_BLOB connections, a chunk each, the one that somebody waits for first--> spool (a file without name)
//!                                                     pull, pull, ... <--as far as it is filled--'--> transfer_blob: kept
//! ```
//!
//! * Whoever asks for a blob that is on its way reads the same bytes: they cross the link once for this replica.
//! * A connection that breaks costs what was in flight on it: the rest of its chunk is asked for again.
//! * What is kept was hashed by the domain. A pull that reads along is checked by its client, as every pull is.
//! * After a restart the transfer goes on at its last checkpoint; who reads what came before that reads it from home.

mod reader;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
pub(crate) use reader::Pull;
use roadstead_domain::{BodyError, Transfer, UploadError};
use roadstead_oci::{Digest, RepositoryName};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::disk::disk_work;
use crate::follow::{Pauses, in_time};
use crate::home::{HomeBlob, HomeError};
use crate::limits::{ANSWER_PATIENCE, CHUNK_BYTES, MAX_ATTEMPTS, MAX_FETCHES, PIECES_AT_ONCE, STREAMS_PER_BLOB};
use crate::link::Class;
use crate::mirror::{Mirror, Options};

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
    /// How it ended.
    ended: watch::Sender<Option<Result<(), FetchError>>>,
    /// How many pulls read along.
    pulls: AtomicUsize,
}

#[derive(Default)]
struct Progress {
    /// Where the spool begins, once that is known: what is before it was kept by an earlier process.
    base: Option<u64>,
    chunks: Vec<Chunk>,
    /// Chunks that somebody waits for.
    demanded: VecDeque<usize>,
    failed: Option<FetchError>,
}

#[derive(Clone, Copy, Default)]
struct Chunk {
    is_begun: bool,
    /// Bytes from its start.
    filled: u64,
}

impl Fetches {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, places: Arc::new(Semaphore::new(MAX_FETCHES)), running: Mutex::default() }
    }

    /// Where blobs are on their way through.
    pub(crate) fn folder(&self) -> &Path {
        &self.options.spool
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
        // What another repository waits for says nothing of what this one holds at home (promise P11).
        let size = match size {
            Some(size) => size,
            None => in_time(self.home.blob_size(repository, &digest)).await?,
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
            running.insert(digest, Arc::clone(&fetch));
            fetch
        };
        let (mirror, repository, running) = (Arc::clone(self), repository.clone(), Arc::clone(&fetch));
        self.tasks.spawn(async move {
            let ended = running.run(&mirror, &repository).await;
            if let Err(error) = &ended {
                debug!(%digest, reason = %error, "a blob did not come: {error}");
                running.fail(error.clone());
            }
            // First the end is known, then nobody finds it any more: whoever comes in between reads what is there.
            running.ended.send_replace(Some(ended));
            mirror.fetches.running.lock().remove(&digest);
            drop(place);
        });
        Ok(fetch)
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
            progress: Mutex::default(),
            changed: watch::Sender::new(0),
            ended: watch::Sender::new(None),
            pulls: AtomicUsize::new(0),
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
        let transfer = match &wanting {
            Some(wanting) => {
                let transfer = mirror.registry.begin_transfer(wanting, self.digest, self.size).await;
                Some(transfer.map_err(|error| not_kept(&error))?)
            }
            None => None,
        };
        let base = transfer.map_or(0, |transfer| transfer.offset);
        self.lay_out(base);
        let bringing = async {
            let streams = (0..STREAMS_PER_BLOB).map(|_| self.bring(mirror, repository));
            let brought: Result<Vec<()>, FetchError> = join_all(streams).await.into_iter().collect();
            if let Err(error) = &brought {
                self.fail(error.clone());
            }
            brought
        };
        let keeping = async {
            match (&wanting, transfer) {
                (Some(wanting), Some(transfer)) => self.keep(mirror, repository, wanting, transfer).await,
                _ => Ok(()),
            }
        };
        let (brought, kept) = join(bringing, keeping).await;
        brought?;
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

    fn lay_out(&self, base: u64) {
        let mut progress = self.progress.lock();
        let count = usize::try_from((self.size - base).div_ceil(CHUNK_BYTES)).unwrap_or(usize::MAX);
        progress.base = Some(base);
        self.unwritten.store(self.size - base, Ordering::Relaxed);
        progress.chunks = vec![Chunk::default(); count];
        drop(progress);
        self.has_changed();
    }

    fn has_changed(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn fail(&self, error: FetchError) {
        self.progress.lock().failed.get_or_insert(error);
        self.has_changed();
    }

    /// Brings one chunk after the other until all are begun.
    async fn bring(&self, mirror: &Mirror, repository: &RepositoryName) -> Result<(), FetchError> {
        while let Some((number, chunk)) = self.next_chunk() {
            self.bring_chunk(mirror, repository, number, chunk).await?;
        }
        Ok(())
    }

    /// What it is brought for at the moment.
    fn class(&self) -> Class {
        if self.pulls.load(Ordering::Relaxed) > 0 { Class::Demand } else { Class::Bulk }
    }

    /// The chunk that somebody waits for, or else the first that nobody brings.
    fn next_chunk(&self) -> Option<(usize, Range<u64>)> {
        let mut progress = self.progress.lock();
        if progress.failed.is_some() {
            return None;
        }
        let base = progress.base?;
        let mut chosen = None;
        while let Some(number) = progress.demanded.pop_front() {
            if progress.chunks.get(number).is_some_and(|chunk| !chunk.is_begun) {
                chosen = Some(number);
                break;
            }
        }
        let number = chosen.or_else(|| progress.chunks.iter().position(|chunk| !chunk.is_begun))?;
        progress.chunks.get_mut(number)?.is_begun = true;
        let start = base + number as u64 * CHUNK_BYTES;
        Some((number, start..self.size.min(start + CHUNK_BYTES)))
    }

    async fn bring_chunk(
        &self,
        mirror: &Mirror,
        repository: &RepositoryName,
        number: usize,
        chunk: Range<u64>,
    ) -> Result<(), FetchError> {
        let (mut attempts, mut pauses) = (0, Pauses::new());
        let mut at = chunk.start;
        loop {
            let before = at;
            let error = match self.bring_rest(mirror, repository, number, &mut at, chunk.end, attempts == 0).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if at > before {
                (attempts, pauses) = (0, Pauses::new());
            }
            attempts += 1;
            let is_final = matches!(error, FetchError::Spool(_) | FetchError::Home(HomeError::Unknown { .. }));
            if is_final || attempts > MAX_ATTEMPTS || mirror.is_ending() {
                return Err(error);
            }
            debug!(digest = %self.digest, at, reason = %error, "a stretch of a blob broke off and is asked for again: {error}");
            pauses.wait(&mirror.ending()).await;
        }
    }

    /// Opens a stretch: from the replica that leads, if that is another one and has it, else from home; and whether it
    /// crosses the link.
    async fn open(
        &self,
        mirror: &Mirror,
        repository: &RepositoryName,
        stretch: Range<u64>,
        from_siblings: bool,
    ) -> Result<(HomeBlob, bool), FetchError> {
        if let Some(siblings) = mirror.siblings.as_ref().filter(|_| from_siblings && !mirror.leads()) {
            let asked = siblings.blob(repository, &self.digest, stretch.clone());
            if let Ok(Some(blob)) = timeout(ANSWER_PATIENCE, asked).await {
                return Ok((blob, false));
            }
        }
        Ok((in_time(mirror.home.blob(repository, &self.digest, stretch)).await?, true))
    }

    /// Brings what is left of a chunk, over one connection.
    async fn bring_rest(
        &self,
        mirror: &Mirror,
        repository: &RepositoryName,
        number: usize,
        at: &mut u64,
        end: u64,
        from_siblings: bool,
    ) -> Result<(), FetchError> {
        if *at == end {
            return Ok(());
        }
        let (blob, crosses_link) = self.open(mirror, repository, *at..end, from_siblings).await?;
        if blob.size != self.size {
            let why = format!("home announced {} bytes of {} and has {}", self.size, self.digest, blob.size);
            return Err(HomeError::Refused(why).into());
        }
        let mut pieces = blob.bytes.ready_chunks(PIECES_AT_ONCE);
        while *at < end {
            let pieces = match timeout(ANSWER_PATIENCE, pieces.next()).await {
                Ok(Some(pieces)) => pieces,
                Ok(None) => return Err(HomeError::Away("the connection ended early".to_owned()).into()),
                Err(_elapsed) => return Err(HomeError::Away("the connection stalled".to_owned()).into()),
            };
            let (mut whole, mut broken) = (Vec::with_capacity(pieces.len()), None);
            for piece in pieces {
                match piece {
                    Ok(piece) => whole.push(piece),
                    Err(error) => broken = Some(error),
                }
            }
            let length: usize = whole.iter().map(Bytes::len).sum();
            if crosses_link {
                mirror.link.take(length as u64, self.class()).await;
            }
            let written = self.write(*at, end, whole).await?;
            self.unwritten.fetch_sub(written, Ordering::Relaxed);
            *at += written;
            if let Some(chunk) = self.progress.lock().chunks.get_mut(number) {
                chunk.filled += written;
            }
            self.has_changed();
            if let Some(error) = broken {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Writes pieces into the spool; how many bytes those are. What goes beyond `end` was not asked for.
    async fn write(&self, at: u64, end: u64, pieces: Vec<Bytes>) -> Result<u64, FetchError> {
        let (spool, bytes) = (Arc::clone(&self.spool), pieces.iter().map(Bytes::len).sum());
        let written = disk_work(bytes, move || {
            let mut written = 0;
            for piece in pieces {
                let room = usize::try_from(end - at - written).unwrap_or(usize::MAX);
                let piece = piece.slice(..piece.len().min(room));
                spool.write_all_at(&piece, at + written)?;
                written += piece.len() as u64;
            }
            std::io::Result::Ok(written)
        });
        match written.await {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => Err(FetchError::Spool(error.to_string())),
            Err(error) => Err(FetchError::Spool(error.to_string())),
        }
    }
}

fn not_kept(error: &dyn std::fmt::Display) -> FetchError {
    FetchError::NotKept(error.to_string())
}

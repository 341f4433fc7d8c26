//! Reading a blob while it comes.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use roadstead_domain::Transfer;
use roadstead_oci::RepositoryName;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Fetch, FetchError};
use crate::disk::disk_work;
use crate::follow::in_time;
use crate::limits::{DEMAND_HELD, DEMAND_PATIENCE, KEPT_BYTES, KEPT_LOOK, READ_BYTES};
use crate::mirror::Mirror;

/// Somebody who reads a blob that is on its way.
struct Reader {
    fetch: Arc<Fetch>,
    mirror: Arc<Mirror>,
    repository: RepositoryName,
    changes: watch::Receiver<u64>,
    /// What it has not read yet.
    range: Range<u64>,
    /// If a pull reads.
    pull: Option<Pull>,
    /// Whether the bytes before the spool's can be read here.
    reads_kept: bool,
}

/// A pull that reads along: what it waits for goes before what nobody does.
pub(crate) struct Pull {
    fetch: Arc<Fetch>,
    number: u64,
}

impl Pull {
    pub(crate) fn of(fetch: &Arc<Fetch>) -> Self {
        if fetch.pulls.fetch_add(1, Ordering::Relaxed) == 0 {
            // What did not come while nobody waited for it may come now.
            fetch.progress.lock().moved = Instant::now();
        }
        Self { fetch: Arc::clone(fetch), number: fetch.pulled.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.fetch.pulls.fetch_sub(1, Ordering::Relaxed);
        let mut progress = self.fetch.progress.lock();
        progress.pulled = Instant::now();
        if let Some(pieces) = &mut progress.pieces {
            pieces.forget(self.number);
        }
    }
}

impl Reader {
    /// The next bytes, when they are there; `None` at the end.
    async fn next_piece(&mut self) -> Result<Option<BoxStream<'static, Result<Bytes, FetchError>>>, FetchError> {
        if self.range.is_empty() {
            return Ok(None);
        }
        match self.wait().await? {
            Found::Bytes(found) => {
                self.range.start = found.end;
                let bytes = self.fetch.read_spool(found).await?;
                Ok(Some(stream::iter([Ok(bytes)]).boxed()))
            }
            Found::Partly(repository, transfer, found) => {
                let Self { mirror, .. } = self;
                let Ok(bytes) = mirror.registry.read_transfer(&repository, &transfer, found.clone()).await else {
                    self.reads_kept = false;
                    return Ok(Some(stream::empty().boxed()));
                };
                self.range.start = found.end;
                Ok(Some(bytes.map_err(|error| FetchError::NotKept(error.to_string())).boxed()))
            }
            Found::Before(end) => {
                // Nobody but home has these: they are in an object that cannot be read before it is whole.
                let missing = self.range.start..end.min(self.range.end);
                self.range.start = missing.end;
                let blob = in_time(self.mirror.home.blob(&self.repository, &self.fetch.digest, missing)).await?;
                Ok(Some(blob.bytes.map_err(FetchError::from).boxed()))
            }
            Found::Kept => {
                let range = self.range.clone();
                self.range.start = range.end;
                self.read_kept(range).await.map(Some)
            }
        }
    }

    /// The rest of a range from the blob that is kept, if this repository holds it; else from home.
    async fn read_kept(&self, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError> {
        let Self { mirror, repository, fetch, .. } = self;
        if let Ok(found) = mirror.registry.find_blob(repository, &fetch.digest).await
            && let Ok(bytes) = mirror.registry.stream_blob(&found, range.clone()).await
        {
            return Ok(bytes.map_err(|error| FetchError::NotKept(error.to_string())).boxed());
        }
        let blob = in_time(mirror.home.blob(repository, &fetch.digest, range)).await?;
        Ok(blob.bytes.map_err(FetchError::from).boxed())
    }

    /// Whether its place is before what the spool holds.
    fn is_before(&self) -> bool {
        self.fetch.progress.lock().pieces.as_ref().is_some_and(|pieces| self.range.start < pieces.base())
    }

    /// What is kept here at its place of a blob that is not whole yet.
    fn look_before(&self) -> Option<Found> {
        if !self.reads_kept || !self.is_before() {
            return None;
        }
        let (repository, transfer) = self.fetch.kept_so_far(&self.mirror)?;
        let Range { start, end } = self.range;
        let end = end.min(transfer.offset).min(start + KEPT_BYTES);
        (start < end).then_some(Found::Partly(repository, transfer, start..end))
    }

    /// Waits until there is something at its place.
    async fn wait(&mut self) -> Result<Found, FetchError> {
        let ending = self.mirror.ending();
        let link = &self.mirror.link;
        let mut patience = Instant::now() + DEMAND_PATIENCE;
        let mut waiting = None;
        loop {
            self.changes.borrow_and_update();
            if let Some(found) = self.look_before() {
                return Ok(found);
            }
            if let Some(found) = self.fetch.look(&self.range, self.pull.as_ref())? {
                return Ok(found);
            }
            let held = self.fetch.moved() + DEMAND_HELD;
            let is_holding = self.pull.is_some() && held > Instant::now();
            if is_holding && waiting.is_none() {
                waiting = Some(link.wait());
            } else if !is_holding {
                waiting = None;
            }
            tokio::select! {
                more = self.changes.changed() => {
                    if more.is_err() {
                        return Err(FetchError::NotKept("it was given up".to_owned()));
                    }
                }
                () = ending.cancelled() => return Err(FetchError::NotKept("the registry ends".to_owned())),
                // Nobody tells what is kept meanwhile of what came ahead.
                () = sleep_until(Instant::now() + KEPT_LOOK), if self.is_before() => {}
                () = sleep_until(patience), if is_holding => {
                    link.press();
                    patience = Instant::now() + DEMAND_PATIENCE;
                }
            }
        }
    }
}

/// What a reader finds at its place.
enum Found {
    Bytes(Range<u64>),
    /// They are not in the spool, but kept already of a blob that is not whole.
    Partly(RepositoryName, Transfer, Range<u64>),
    /// They are not in the spool, since an earlier process kept them: up to here.
    Before(u64),
    /// They are in the blob, which is whole and here.
    Kept,
}

impl Fetch {
    /// The bytes of a range as they come.
    pub(crate) fn read(
        self: &Arc<Self>,
        mirror: &Arc<Mirror>,
        repository: &RepositoryName,
        range: Range<u64>,
        pull: Option<Pull>,
    ) -> BoxStream<'static, Result<Bytes, FetchError>> {
        let reader = Reader {
            fetch: Arc::clone(self),
            mirror: Arc::clone(mirror),
            repository: repository.clone(),
            changes: self.changed.subscribe(),
            range,
            pull,
            reads_kept: true,
        };
        let pieces = stream::try_unfold(reader, |mut reader| async move {
            Ok::<_, FetchError>(reader.next_piece().await?.map(|piece| (piece, reader)))
        });
        pieces.try_flatten().boxed()
    }

    /// What there is at the start of a range; where nothing is, it is brought before all else, if a pull waits.
    fn look(&self, range: &Range<u64>, pull: Option<&Pull>) -> Result<Option<Found>, FetchError> {
        let mut progress = self.progress.lock();
        let failed = progress.failed.clone();
        let has_failed = failed.is_some();
        let nothing = || failed.map_or(Ok(None), Err);
        let Some(pieces) = &mut progress.pieces else { return nothing() };
        let base = pieces.base();
        if range.start < base {
            let ended = self.ended.borrow().clone();
            let waits = match (self.ahead.get(), ended) {
                (Some(_), Some(Ok(()))) => return Ok(Some(Found::Kept)),
                // It is whole in a moment, and is not sent once more for that.
                (Some(ahead), None) if !has_failed && !ahead.has_lasted() => ahead,
                _ => return Ok(Some(Found::Before(base))),
            };
            waits.hurry();
            let is_new = pull.is_some_and(|pull| pieces.demand(pull.number, base));
            drop(progress);
            if is_new {
                self.has_work();
            }
            return Ok(None);
        }
        let filled = pieces.filled_to(range.start);
        if range.start < filled {
            let most = range.start + READ_BYTES as u64;
            return Ok(Some(Found::Bytes(range.start..filled.min(range.end).min(most))));
        }
        let is_new = pull.is_some_and(|pull| pieces.demand(pull.number, range.start));
        drop(progress);
        if is_new {
            self.has_work();
        }
        nothing()
    }

    /// When something came last.
    fn moved(&self) -> Instant {
        self.progress.lock().moved
    }

    async fn read_spool(&self, range: Range<u64>) -> Result<Bytes, FetchError> {
        let (spool, bytes) = (Arc::clone(&self.spool), usize::try_from(range.end - range.start).unwrap_or_default());
        let read = disk_work(bytes, move || {
            let mut bytes = BytesMut::zeroed(bytes);
            spool.read_exact_at(&mut bytes, range.start)?;
            std::io::Result::Ok(bytes.freeze())
        });
        match read.await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(FetchError::Spool(error.to_string())),
            Err(error) => Err(FetchError::Spool(error.to_string())),
        }
    }
}

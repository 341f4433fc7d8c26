//! Reading a blob while it comes.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use roadstead_oci::RepositoryName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Fetch, FetchError};
use crate::disk::disk_work;
use crate::follow::in_time;
use crate::limits::{CHUNK_BYTES, READ_BYTES};
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
    _pull: Option<Pull>,
}

/// A pull that reads along: what it waits for goes before what nobody does.
pub(crate) struct Pull(Arc<Fetch>);

impl Pull {
    pub(crate) fn of(fetch: &Arc<Fetch>) -> Self {
        fetch.pulls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(fetch))
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.0.pulls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reader {
    /// The next bytes, when they are there; `None` at the end.
    async fn next_piece(&mut self) -> Result<Option<BoxStream<'static, Result<Bytes, FetchError>>>, FetchError> {
        if self.range.is_empty() {
            return Ok(None);
        }
        match self.fetch.wait_for(&mut self.changes, &self.mirror.ending(), &self.range).await? {
            Found::Bytes(found) => {
                self.range.start = found.end;
                let bytes = self.fetch.read_spool(found).await?;
                Ok(Some(stream::iter([Ok(bytes)]).boxed()))
            }
            Found::Before(end) => {
                // Nobody but home has these: they are in an object that is not whole yet.
                let missing = self.range.start..end.min(self.range.end);
                self.range.start = missing.end;
                let blob = in_time(self.mirror.home.blob(&self.repository, &self.fetch.digest, missing)).await?;
                Ok(Some(blob.bytes.map_err(FetchError::from).boxed()))
            }
            Found::Nothing => Ok(None),
        }
    }
}

/// What a reader finds at its place.
enum Found {
    Bytes(Range<u64>),
    /// They are not in the spool, since an earlier process kept them: up to here.
    Before(u64),
    Nothing,
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
            _pull: pull,
        };
        let pieces = stream::try_unfold(reader, |mut reader| async move {
            Ok::<_, FetchError>(reader.next_piece().await?.map(|piece| (piece, reader)))
        });
        pieces.try_flatten().boxed()
    }

    /// Waits until there is something at the start of `range`.
    async fn wait_for(
        &self,
        changes: &mut watch::Receiver<u64>,
        ending: &CancellationToken,
        range: &Range<u64>,
    ) -> Result<Found, FetchError> {
        loop {
            changes.borrow_and_update();
            match self.look(range)? {
                Found::Nothing => {}
                found => return Ok(found),
            }
            tokio::select! {
                more = changes.changed() => {
                    if more.is_err() {
                        return Err(FetchError::NotKept("it was given up".to_owned()));
                    }
                }
                () = ending.cancelled() => return Err(FetchError::NotKept("the registry ends".to_owned())),
            }
        }
    }

    fn look(&self, range: &Range<u64>) -> Result<Found, FetchError> {
        let mut progress = self.progress.lock();
        let Some(base) = progress.base else {
            return progress.failed.clone().map_or(Ok(Found::Nothing), Err);
        };
        if range.start < base {
            return Ok(Found::Before(base));
        }
        let number = usize::try_from((range.start - base) / CHUNK_BYTES).unwrap_or(usize::MAX);
        let Some(chunk) = progress.chunks.get(number).copied() else { return Ok(Found::Nothing) };
        let filled = base + number as u64 * CHUNK_BYTES + chunk.filled;
        if range.start < filled {
            let most = range.start + READ_BYTES as u64;
            return Ok(Found::Bytes(range.start..filled.min(range.end).min(most)));
        }
        if let Some(error) = &progress.failed {
            return Err(error.clone());
        }
        if !chunk.is_begun && !progress.demanded.contains(&number) {
            progress.demanded.push_back(number);
        }
        Ok(Found::Nothing)
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

//! Uploads that are in progress at home come here while their clients still send them.
//!
//! ```text
//!  line of the feed: upload, offset ---> whole parts up to there --over some connections--> session here: hashed, kept
//!                    upload, digest ---> the blob's fetch goes on where that session ends, and closes it by the digest
//! ```
//!
//! * The session here is the journal: another replica that leads goes on with it, and so does this one after a restart.
//! * Nothing of it can be pulled before all bytes were hashed and the blob is kept, like any other.
//! * It is bulk: while a pull waits, nothing is asked for, and what is on its way is given up if that does not help.
//! * Whatever fails, the blob is fetched as a whole when home has it. What home does not tell of any more is dropped;
//!   what is left behind, as when this mirror is promoted, expires like every session.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use roadstead_domain::{Body, BodyError, Fault, Transfer, UploadError};
use roadstead_metadata::ClusterId;
use roadstead_oci::{Digest, RepositoryName, UploadId};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::filter::Share;
use crate::follow::{Pauses, in_time};
use crate::home::HomeError;
use crate::limits::{
    AHEAD_ATTEMPTS, AHEAD_AWAITED, AHEAD_KEPT, AHEAD_LINGER, AHEAD_MOVERS, AHEAD_PARTS, AHEAD_REQUEST_BYTES, AHEAD_RUN,
    ANSWER_PATIENCE, END_PATIENCE, LOOK, MAX_AHEAD, MAX_AHEAD_BYTES, MAX_ATTEMPTS,
};
use crate::link::Class;
use crate::mirror::Mirror;
use crate::wire::WireUpload;

/// The uploads of home of which something comes ahead.
pub(crate) struct Ahead {
    uploads: Mutex<BTreeMap<UploadId, Arc<Coming>>>,
    /// For how many more something may be on its way.
    places: Semaphore,
    /// How many wait for one of those.
    waiting: watch::Sender<usize>,
}

/// One of them.
pub(crate) struct Coming {
    home: ClusterId,
    upload: UploadId,
    repository: RepositoryName,
    told: watch::Sender<Told>,
    standing: watch::Sender<Standing>,
    /// Whether a pull waits for what is on its way.
    is_awaited: AtomicBool,
}

/// What home says of it.
#[derive(Clone, Copy)]
struct Told {
    /// Bytes that may be asked for.
    offset: u64,
    /// The blob that it has become.
    digest: Option<Digest>,
    /// It has ended otherwise.
    is_over: bool,
}

/// How far it is here.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// Bytes that are here, as far as is known, or will be when what is on its way has come.
    end: u64,
    /// Whether something is on its way.
    is_busy: bool,
}

/// What has come of the upload that a wanted blob was.
pub(crate) struct CameAhead {
    coming: Arc<Coming>,
    /// Bytes from the start that nobody has to ask for any more.
    pub(crate) end: u64,
    /// When the rest was begun.
    since: Instant,
}

impl Ahead {
    pub(crate) fn new() -> Self {
        Self { uploads: Mutex::default(), places: Semaphore::new(AHEAD_MOVERS), waiting: watch::Sender::new(0) }
    }

    /// Waits until something may be on its way for one more.
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.places.try_acquire() {
            return Some(place);
        }
        let _waiting = Waiting::new(&self.waiting);
        self.places.acquire().await.ok()
    }

    /// Whether so many bytes more may be kept.
    fn has_room_for(&self, bytes: u64) -> bool {
        let kept: u64 = self.uploads.lock().values().map(|coming| coming.standing.borrow().end).sum();
        kept.saturating_add(bytes) <= MAX_AHEAD_BYTES
    }
}

/// An upload for which nothing may be on its way yet.
struct Waiting<'ahead>(&'ahead watch::Sender<usize>);

impl<'ahead> Waiting<'ahead> {
    fn new(count: &'ahead watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Coming {
    fn new(home: ClusterId, upload: &WireUpload) -> Self {
        let WireUpload { upload, repository, offset, digest } = upload.clone();
        let told = watch::Sender::new(Told { offset, digest, is_over: false });
        Self { home, upload, repository, told, standing: watch::Sender::default(), is_awaited: AtomicBool::new(false) }
    }

    /// Begins to bring what is before `end`, unless the upload has become a blob: then that one's fetch brings the rest.
    fn begin(&self, end: u64) -> bool {
        self.standing.send_if_modified(|standing| {
            if self.told.borrow().digest.is_some() {
                return false;
            }
            *standing = Standing { end, is_busy: true };
            true
        })
    }

    async fn until_over(&self) {
        // It is told for as long as this is there.
        let mut told = self.told.subscribe();
        let _ = told.wait_for(|told| told.is_over).await;
    }

    fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed)
    }
}

impl Mirror {
    /// Home has told of its uploads.
    pub(crate) fn hear_of_uploads(self: &Arc<Self>, home: ClusterId, uploads: &[WireUpload]) {
        let mut known = self.ahead.uploads.lock();
        for (upload, coming) in &*known {
            let told = uploads.iter().find(|told| told.upload == *upload);
            coming.told.send_modify(|former| match told {
                Some(WireUpload { offset, digest, .. }) => (former.offset, former.digest) = (*offset, *digest),
                // One that has become a blob gives way to others in what is told.
                None => former.is_over = former.digest.is_none(),
            });
        }
        for told in uploads {
            if known.contains_key(&told.upload) || known.len() >= MAX_AHEAD || self.is_ending() {
                continue;
            }
            // Which tags will lead to a blob, nobody knows yet.
            if self.filter.share(&told.repository) != Share::Everything {
                continue;
            }
            // Of one that is a blob already, there may be what another replica has brought.
            let is_needless = told.digest.is_some()
                && !matches!(self.registry.come_ahead(home, told.upload, told.offset), Ok(Some(_)));
            if is_needless {
                continue;
            }
            let coming = Arc::new(Coming::new(home, told));
            known.insert(told.upload, Arc::clone(&coming));
            let mirror = Arc::clone(self);
            self.tasks.spawn(async move {
                mirror.fetch_ahead(&coming).await;
                mirror.ahead.uploads.lock().remove(&coming.upload);
            });
        }
    }

    /// What has come of the upload that this wanted blob was, if anything has.
    pub(crate) fn came_ahead(&self, digest: &Digest, size: u64) -> Result<Option<CameAhead>, Fault> {
        let coming = {
            let known = self.ahead.uploads.lock();
            let those = known.values().filter(|coming| coming.told.borrow().digest.as_ref() == Some(digest));
            those.max_by_key(|coming| coming.standing.borrow().end).cloned()
        };
        let Some(coming) = coming else { return Ok(None) };
        if self.registry.metadata().query()?.is_wanted(&coming.repository, digest)? != Some(size) {
            return Ok(None);
        }
        let standing = *coming.standing.borrow();
        let end = if standing.is_busy {
            Some(standing.end)
        } else {
            self.registry.come_ahead(coming.home, coming.upload, size)?.map(|transfer| transfer.offset)
        };
        Ok(end.filter(|end| *end <= size).map(|end| CameAhead { coming, end, since: Instant::now() }))
    }

    /// Drops what has come of an upload.
    pub(crate) async fn drop_ahead(&self, coming: &Coming) {
        let dropped = self.registry.drop_ahead(&coming.repository, coming.home, coming.upload).await;
        coming.standing.send_replace(Standing::default());
        if let Err(error) = dropped {
            debug!(upload = %coming.upload, reason = %error, "what has come of an upload is left to expire: {error}");
        }
    }

    /// Brings an upload as far as it goes, until it is over, has become a blob here, or this replica leads no more.
    async fn fetch_ahead(self: &Arc<Self>, coming: &Arc<Coming>) {
        let (mut told, ending) = (coming.told.subscribe(), self.ending());
        let (mut attempts, mut pauses) = (0, Pauses::new());
        while self.leads() && !ending.is_cancelled() {
            let now = *told.borrow_and_update();
            if now.is_over {
                return self.drop_ahead(coming).await;
            }
            if let Some(digest) = now.digest {
                return self.keep_ahead(coming, &digest, now.offset).await;
            }
            if attempts > AHEAD_ATTEMPTS {
                self.drop_ahead(coming).await;
                let _ = timeout(LOOK, told.changed()).await;
                continue;
            }
            let brought = tokio::select! {
                brought = self.bring_parts(coming) => brought,
                () = coming.until_over() => {
                    coming.standing.send_replace(Standing::default());
                    continue;
                }
            };
            match brought {
                Ok(true) => (attempts, pauses) = (0, Pauses::new()),
                Ok(false) => {
                    let _ = timeout(LOOK, told.changed()).await;
                }
                Err(error) => {
                    attempts += 1;
                    debug!(upload = %coming.upload, reason = %error, "an upload does not come ahead: {error}");
                    pauses.wait(&ending).await;
                }
            }
        }
    }

    /// Brings the next whole parts of those that home has, and those that it comes to have meanwhile; whether there were any.
    async fn bring_parts(self: &Arc<Self>, coming: &Arc<Coming>) -> Result<bool, UploadError> {
        if self.next_end(coming, coming.standing.borrow().end).is_none() {
            return Ok(false);
        }
        let Some(_place) = self.ahead.place().await else { return Ok(false) };
        let transfer = self.registry.begin_ahead(&coming.repository, coming.home, coming.upload).await?;
        let from = transfer.offset;
        let Some(end) = self.next_end(coming, from) else {
            coming.standing.send_replace(Standing { end: from, is_busy: false });
            return Ok(false);
        };
        if !coming.begin(end) {
            return Ok(true);
        }
        let body = self.bytes_ahead(coming, from..end);
        let appended = self.registry.append_ahead(&coming.repository, transfer, body).await;
        // Where it did not go well, what was kept is found out next time.
        let end = appended.as_ref().map_or(from, |end| *end);
        coming.standing.send_replace(Standing { end, is_busy: false });
        appended.map(|_| true)
    }

    /// Up to where may be asked for next, in whole parts of the size that they have here, if there is more than is here.
    fn next_end(&self, coming: &Coming, from: u64) -> Option<u64> {
        let part = self.registry.part_size();
        let whole = coming.told.borrow().offset / part * part;
        let end = whole.min(from + AHEAD_PARTS * part);
        (end > from && self.copies_ahead() && self.ahead.has_room_for(end - from)).then_some(end)
    }

    /// Begins to bring what is behind `from` besides, as soon as home has it; `None` if this go is over.
    async fn more(&self, coming: &Coming, from: u64) -> Option<u64> {
        let (mut told, mut waiting) = (coming.told.subscribe(), self.ahead.waiting.subscribe());
        let (until, ending) = (Instant::now() + AHEAD_LINGER, self.ending());
        while *waiting.borrow_and_update() == 0 && told.borrow_and_update().digest.is_none() {
            if let Some(end) = self.next_end(coming, from) {
                return coming.begin(end).then_some(end);
            }
            tokio::select! {
                _ = told.changed() => {}
                _ = waiting.changed() => {}
                () = sleep_until(until) => return None,
                () = ending.cancelled() => return None,
            }
        }
        None
    }

    /// The bytes of a stretch of an upload, and of what comes behind it meanwhile, over some connections, in order.
    fn bytes_ahead(self: &Arc<Self>, coming: &Arc<Coming>, stretch: Range<u64>) -> Body {
        let last = stretch.start + AHEAD_RUN * self.registry.part_size();
        let (mirror, coming) = (Arc::clone(self), Arc::clone(coming));
        let asking = (Arc::clone(self), Arc::clone(&coming));
        let requests = stream::unfold(stretch, move |Range { start, end }| {
            let (mirror, coming) = (Arc::clone(&mirror), Arc::clone(&coming));
            async move {
                let end = match end {
                    end if start < end => end,
                    end if end < last => mirror.more(&coming, end).await?,
                    _ => return None,
                };
                let most = mirror.fetches.pace.request_bytes().min(AHEAD_REQUEST_BYTES);
                let next = end.min(start + most);
                Some((start..next, next..end))
            }
        });
        let brought = requests.map(move |request| {
            let (mirror, coming) = (Arc::clone(&asking.0), Arc::clone(&asking.1));
            async move { mirror.bring_request(&coming, request).await }
        });
        brought.buffered(self.fetches.pace.streams_ahead()).map_err(|_broken| BodyError::Broken).boxed()
    }

    /// One request's bytes. What was given up for a pull, or broke off, is asked for again.
    async fn bring_request(&self, coming: &Coming, request: Range<u64>) -> Result<Bytes, HomeError> {
        let mut bytes = BytesMut::with_capacity(usize::try_from(request.end - request.start).unwrap_or_default());
        let (mut attempts, mut pauses) = (0, Pauses::new());
        loop {
            self.until_not_held(coming).await;
            let (mut presses, before) = (self.link.presses(), bytes.len());
            let rest = request.start + before as u64..request.end;
            let brought = tokio::select! {
                brought = self.bring_rest_ahead(coming, rest, &mut bytes) => brought,
                Ok(()) = presses.changed(), if !coming.is_awaited() => continue,
            };
            let Err(error) = brought else { return Ok(bytes.freeze()) };
            if bytes.len() > before {
                (attempts, pauses) = (0, Pauses::new());
            }
            attempts += 1;
            let is_final = matches!(error, HomeError::Unknown { .. });
            if is_final || attempts > MAX_ATTEMPTS || self.is_ending() {
                debug!(upload = %coming.upload, reason = %error, "a part of an upload broke off: {error}");
                return Err(error);
            }
            pauses.wait(&self.ending()).await;
        }
    }

    /// Waits while a pull waits for something else.
    async fn until_not_held(&self, coming: &Coming) {
        while let Some(until) = self.link.held_until().filter(|_| !coming.is_awaited() && !self.is_ending()) {
            sleep_until(until).await;
        }
    }

    async fn bring_rest_ahead(&self, coming: &Coming, rest: Range<u64>, bytes: &mut BytesMut) -> Result<(), HomeError> {
        let pace = &self.fetches.pace;
        let _busy = pace.begin();
        let asked = Instant::now();
        let mut pieces = in_time(self.home.upload(&coming.repository, &coming.upload, rest.clone())).await?;
        pace.answered(asked.elapsed());
        let mut missing = rest.end - rest.start;
        while missing > 0 {
            let piece = match timeout(ANSWER_PATIENCE, pieces.next()).await {
                Ok(Some(piece)) => piece?,
                Ok(None) => return Err(HomeError::Away("the connection ended early".to_owned())),
                Err(_elapsed) => return Err(HomeError::Away("the connection stalled".to_owned())),
            };
            let class = if coming.is_awaited() { Class::Demand } else { Class::Bulk };
            self.link.take(piece.len() as u64, class).await;
            pace.brought_ahead(piece.len() as u64);
            // More than was asked for is not taken.
            let room = usize::try_from(missing).unwrap_or(usize::MAX);
            let piece = piece.slice(..piece.len().min(room));
            missing -= piece.len() as u64;
            bytes.extend_from_slice(&piece);
        }
        // To the end of the answer, after which its connection is used again.
        let _ = timeout(END_PATIENCE, pieces.next()).await;
        Ok(())
    }

    /// Keeps what has come of an upload for the fetch of the blob that it has become.
    async fn keep_ahead(&self, coming: &Coming, digest: &Digest, size: u64) {
        let (until, ending) = (Instant::now() + AHEAD_KEPT, self.ending());
        while Instant::now() < until {
            match self.is_needed(coming, digest, size) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => debug!(reason = %fault, "whether an upload is needed could not be read: {fault}"),
            }
            if timeout(LOOK, ending.cancelled()).await.is_ok() || !self.leads() {
                return;
            }
        }
        self.drop_ahead(coming).await;
    }

    fn is_needed(&self, coming: &Coming, digest: &Digest, size: u64) -> Result<bool, Fault> {
        let is_held = self.registry.metadata().query()?.blob(&coming.repository, digest)?.is_some();
        Ok(!is_held && self.registry.come_ahead(coming.home, coming.upload, size)?.is_some())
    }
}

impl CameAhead {
    /// By which repository it is kept.
    pub(crate) fn repository(&self) -> &RepositoryName {
        &self.coming.repository
    }

    /// Whether the rest takes so long that a pull has the blob from home rather than wait for it.
    pub(crate) fn has_lasted(&self) -> bool {
        self.since.elapsed() > AHEAD_AWAITED
    }

    /// A pull waits for the blob: what is on its way of it goes first now.
    pub(crate) fn hurry(&self) {
        self.coming.is_awaited.store(true, Ordering::Relaxed);
    }

    /// How far the session is, of what is kept already.
    pub(crate) fn so_far(&self, mirror: &Mirror, size: u64) -> Option<Transfer> {
        let Coming { home, upload, .. } = *self.coming;
        mirror.registry.come_ahead(home, upload, size).ok().flatten()
    }

    /// Where the session goes on, when what was on its way has come; `None` if that broke off.
    pub(crate) async fn settle(&self, mirror: &Mirror, size: u64) -> Result<Option<Transfer>, Fault> {
        let Coming { home, upload, .. } = *self.coming;
        let mut standing = self.coming.standing.subscribe();
        // It is told for as long as `coming` is there.
        let _ = standing.wait_for(|standing| !standing.is_busy).await;
        let come = mirror.registry.come_ahead(home, upload, size)?;
        Ok(come.filter(|transfer| transfer.offset == self.end))
    }

    /// Drops it: it cannot become the blob, which is fetched as a whole then.
    pub(crate) async fn forsake(&self, mirror: &Mirror) {
        mirror.drop_ahead(&self.coming).await;
    }
}

#[cfg(test)]
mod tests;

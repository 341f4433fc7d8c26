//! Bringing what a blob lacks: over as many connections as bring more than fewer would, and over others what pulls wait for.
//!
//! While a pull waits for anything, nothing is asked for but what pulls read now and next; if that does not help soon
//! enough, what is on its way is given up.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use roadstead_oci::RepositoryName;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::pieces::Choice;
use super::{Fetch, FetchError};
use crate::disk::disk_work;
use crate::follow::{Pauses, in_time};
use crate::home::{HomeBlob, HomeError};
use crate::limits::{
    ANSWER_PATIENCE, DEMAND_STREAMS, END_PATIENCE, MAX_ATTEMPTS, PIECE_BYTES, PIECES_AT_ONCE, PUT_OFF_AFTER,
    SMALL_BYTES, STREAMS_PER_BLOB,
};
use crate::link::Class;
use crate::mirror::Mirror;

/// What a connection is for.
#[derive(Clone, Copy)]
enum Lane {
    /// For what pulls wait for.
    Demand,
    /// For all that is missing; its number.
    Any(usize),
}

/// What a connection does next.
enum Next {
    Stretch(Range<u64>),
    /// Look again then, or when something has changed.
    Wait(Option<Instant>),
    Over,
}

/// A stretch, and how far it has come.
struct Stretch {
    at: AtomicU64,
    end: u64,
}

impl Stretch {
    fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }
}

impl Fetch {
    /// Brings all pieces.
    pub(super) async fn bring_all(&self, mirror: &Mirror, repository: &RepositoryName) -> Result<(), FetchError> {
        let count = self.progress.lock().pieces.as_ref().map_or(0, super::Pieces::count);
        // One piece needs neither a second connection nor one that goes first.
        let demand = if count > 1 { DEMAND_STREAMS } else { 0 };
        let lanes = (0..count.min(STREAMS_PER_BLOB)).map(Lane::Any).chain((0..demand).map(|_| Lane::Demand));
        let lanes = lanes.map(|lane| async move {
            let brought = self.bring(mirror, repository, lane).await;
            if let Err(error) = &brought {
                self.fail(error.clone());
            }
            brought
        });
        join_all(lanes).await.into_iter().collect()
    }

    /// Brings one stretch after the other until all have come.
    async fn bring(&self, mirror: &Mirror, repository: &RepositoryName, lane: Lane) -> Result<(), FetchError> {
        let (mut work, mut streams) = (self.work.subscribe(), mirror.fetches.pace.streams());
        loop {
            work.borrow_and_update();
            let wanted = *streams.borrow_and_update();
            match self.next(mirror, lane, wanted) {
                Next::Over => return Ok(()),
                Next::Stretch(Range { start, end }) => {
                    let stretch = Stretch { at: AtomicU64::new(start), end };
                    let presses = mirror.link.presses();
                    tokio::select! {
                        brought = self.bring_stretch(mirror, repository, &stretch) => brought?,
                        () = self.until_in_the_way(presses, &stretch) => self.give_up(&stretch),
                    }
                }
                Next::Wait(until) => tokio::select! {
                    _ = work.changed() => {}
                    _ = streams.changed() => {}
                    () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
                },
            }
        }
    }

    fn next(&self, mirror: &Mirror, lane: Lane, streams: usize) -> Next {
        if let Some(next) = self.put_off(mirror) {
            return next;
        }
        let held = mirror.link.held_until();
        let most = mirror.fetches.pace.request_bytes();
        let mut progress = self.progress.lock();
        if progress.failed.is_some() {
            return Next::Over;
        }
        let Some(pieces) = &mut progress.pieces else { return Next::Over };
        if pieces.are_complete() {
            return Next::Over;
        }
        let choice = match lane {
            Lane::Demand => Choice::Demanded,
            Lane::Any(number) if number >= streams => return Next::Wait(None),
            Lane::Any(_) if held.is_some() => Choice::Ahead,
            Lane::Any(_) => Choice::Any,
        };
        match pieces.next(choice, most) {
            Some(stretch) => Next::Stretch(stretch),
            None => Next::Wait(held.filter(|_| choice == Choice::Ahead)),
        }
    }

    /// What becomes of a large blob that no pull reads, where this is not the time to copy it ahead.
    fn put_off(&self, mirror: &Mirror) -> Option<Next> {
        if self.size <= SMALL_BYTES || self.class() == Class::Demand || mirror.copies_ahead() {
            return None;
        }
        let until = self.progress.lock().pulled + PUT_OFF_AFTER;
        if until > Instant::now() {
            return Some(Next::Wait(Some(until)));
        }
        self.fail(FetchError::PutOff);
        Some(Next::Over)
    }

    /// What it is brought for at the moment.
    fn class(&self) -> Class {
        if self.pulls.load(Ordering::Relaxed) > 0 { Class::Demand } else { Class::Bulk }
    }

    /// Returns when a pull waits in vain for something else than this stretch.
    async fn until_in_the_way(&self, mut presses: watch::Receiver<u64>, stretch: &Stretch) {
        while presses.changed().await.is_ok() {
            let progress = self.progress.lock();
            if !progress.pieces.as_ref().is_some_and(|pieces| pieces.is_wanted_now(stretch.at())) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    fn give_up(&self, stretch: &Stretch) {
        debug!(digest = %self.digest, at = stretch.at(), "a stretch of a blob is given up for a pull that waits");
        if let Some(pieces) = &mut self.progress.lock().pieces {
            pieces.give_up(stretch.at(), stretch.end);
        }
        // Whoever waits for a piece of it asks for that, and others may too.
        self.has_changed();
        self.has_work();
    }

    async fn bring_stretch(
        &self,
        mirror: &Mirror,
        repository: &RepositoryName,
        stretch: &Stretch,
    ) -> Result<(), FetchError> {
        let (mut attempts, mut pauses) = (0, Pauses::new());
        while stretch.at() < stretch.end {
            let before = stretch.at();
            let Err(error) = self.bring_rest(mirror, repository, stretch, attempts == 0).await else { continue };
            let at = stretch.at();
            if at > before {
                (attempts, pauses) = (0, Pauses::new());
            }
            attempts += 1;
            let is_final = matches!(
                error,
                FetchError::Spool(_) | FetchError::OtherSize { .. } | FetchError::Home(HomeError::Unknown { .. })
            );
            if is_final || attempts > MAX_ATTEMPTS || mirror.is_ending() {
                return Err(error);
            }
            debug!(digest = %self.digest, at, reason = %error, "a stretch of a blob broke off and is asked for again: {error}");
            pauses.wait(&mirror.ending()).await;
        }
        Ok(())
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
        let asked = Instant::now();
        let blob = in_time(mirror.home.blob(repository, &self.digest, stretch)).await?;
        mirror.fetches.pace.answered(asked.elapsed());
        Ok((blob, true))
    }

    /// Brings what is left of a stretch, over one connection.
    async fn bring_rest(
        &self,
        mirror: &Mirror,
        repository: &RepositoryName,
        stretch: &Stretch,
        from_siblings: bool,
    ) -> Result<(), FetchError> {
        let pace = &mirror.fetches.pace;
        let _busy = pace.begin();
        let beginning = if stretch.at() == 0 { self.beginning.lock().take() } else { None };
        let end = if beginning.is_some() { stretch.end.min(PIECE_BYTES) } else { stretch.end };
        let (blob, crosses_link) = match beginning {
            Some(beginning) => (beginning, true),
            None => self.open(mirror, repository, stretch.at()..end, from_siblings).await?,
        };
        if blob.size != self.size {
            return Err(FetchError::OtherSize { announced: self.size, actual: blob.size });
        }
        let mut pieces = blob.bytes.ready_chunks(PIECES_AT_ONCE);
        while stretch.at() < end {
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
                pace.brought(length as u64);
            }
            let at = stretch.at();
            let written = self.write(at, end, whole).await?;
            self.has_come(at, written);
            stretch.at.store(at + written, Ordering::Relaxed);
            if let Some(error) = broken {
                return Err(error.into());
            }
        }
        // To the end of the answer, after which its connection is used again.
        let _ = timeout(END_PATIENCE, pieces.next()).await;
        Ok(())
    }

    fn has_come(&self, at: u64, bytes: u64) {
        self.unwritten.fetch_sub(bytes, Ordering::Relaxed);
        let mut progress = self.progress.lock();
        progress.moved = Instant::now();
        let is_all = progress.pieces.as_mut().is_some_and(|pieces| {
            pieces.fill(at, bytes);
            pieces.are_complete()
        });
        drop(progress);
        self.has_changed();
        if is_all {
            self.has_work();
        }
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

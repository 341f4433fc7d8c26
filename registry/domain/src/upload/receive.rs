//! From the socket into the store, part by part.
//!
//! ```text
//! body --pieces--> buffer --full and more to come--> in flight (at most 3): hash, put --in order--> written
//!                                                                                      a second later  |
//!                                persist, checkpoint (offset, parts, hash state at the last one's end) <-'
//! ```
//!
//! A part is cut only when more bytes follow, so that content of one part or less is one plain object. The buffer of
//! a part is reserved from the memory budget before the socket is read for it, and given back when the part is written. A checkpoint waits for the
//! disk or the bucket, and while it does the socket is not read; so it is made of all parts of a second together.
//!
//! A closing request commits nothing before its end: its client sends all of it again if it breaks. What it has written is
//! shown to mirrors instead (`ShowParts`), where there are any, as often as a checkpoint would be made, from the size on at
//! which they are told of an upload.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{StreamExt, TryFutureExt, join};
use roadstead_metadata::{Multipart, Tail};
use roadstead_oci::{ContentRange, HashState, Part};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep_until, timeout};
use tracing::debug;

use super::session::Session;
use super::{BodyError, Content, UploadError};
use crate::budget::Reservation;
use crate::fault::Fault;
use crate::limits::{
    CHECKPOINT_DELAY, MAX_PARTS_IN_FLIGHT, MEMORY_DEADLINE, SHOWN_CHECKPOINT_DELAY, SHOWN_FROM_PARTS, fill_time,
    touch_interval,
};
use crate::registry::Registry;

/// What a request that breaks leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Every full part that became durable: the client resumes after it.
    EveryPart,
    /// Nothing: a closing request rolls back to its own start, since its client sends the whole body again.
    UntilClosed,
}

/// Bytes after the last full part, and the memory that they occupy.
pub(super) struct Buffer {
    pub(super) memory: Reservation,
    /// How many of its first bytes an earlier request hashed.
    hashed: usize,
    /// When it has to be on its way: a client that trickles must not keep memory from all others.
    due: Instant,
}

impl Buffer {
    fn len(&self) -> u64 {
        self.memory.bytes.len() as u64
    }
}

/// What is to be hashed of it.
impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.bytes.get(self.hashed..).unwrap_or_default()
    }
}

/// What a closing request has in hand when its body has ended.
#[derive(Default)]
pub(super) struct Received {
    /// Full parts that are written and not committed yet.
    pub(super) parts: Vec<Part>,
    /// The bytes after them, of which the store knows nothing.
    pub(super) buffer: Option<Buffer>,
}

/// A part on its way to the store.
type Sent = JoinHandle<Landed>;

/// A part that has arrived, and the hash state at its end.
type Landed = Result<(Part, HashState), Fault>;

/// Waits until `due`; for ever, if there is nothing to wait for.
async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Waits for the oldest part in flight; for ever, if there is none. Loses nothing if it is dropped.
async fn landed(in_flight: &mut VecDeque<Sent>) -> Landed {
    let Some(oldest) = in_flight.front_mut() else { return std::future::pending().await };
    let landed = oldest.await;
    in_flight.pop_front();
    landed.unwrap_or_else(|error| Err(Fault::Inconsistent(format!("the task of a part failed: {error}"))))
}

/// The end of the last part that was written.
struct Checkpoint {
    hash: HashState,
    /// When it has to be committed.
    due: Instant,
}

struct Receiver<'a> {
    registry: &'a Registry,
    session: &'a mut Session,
    keep: Keep,
    buffer: Option<Buffer>,
    /// For the first buffer.
    reserved: Option<Reservation>,
    /// Whether the tail that an earlier request left is in a buffer, or in a part, of this one.
    tail_reopened: bool,
    /// In the order of their numbers.
    in_flight: VecDeque<Sent>,
    /// In order, not committed yet.
    written: Vec<Part>,
    /// What is to be committed of them, or shown.
    pending: Option<Checkpoint>,
    /// How many of them mirrors were shown before this request ends, if it closes the session.
    shown: usize,
    /// Whether mirrors may fetch its parts while it goes on.
    is_shown: bool,
    /// A part was lost: what comes after it is of no use.
    broken: bool,
    /// Full parts cut so far, those of earlier requests included.
    cut: u32,
}

impl Registry {
    /// Takes in `content`. Afterwards either everything is durable and committed (`Keep::EveryPart`), or what is not
    /// is returned.
    pub(super) async fn receive(
        &self,
        session: &mut Session,
        content: Content,
        keep: Keep,
    ) -> Result<Received, UploadError> {
        let offset = session.progress.offset;
        if content.range.is_some_and(|range| range.start() != offset) {
            return Err(UploadError::OutOfOrder { offset });
        }
        if let (Some(range), Some(length)) = (content.range, content.length)
            && range.len() != length
        {
            return Err(UploadError::Length);
        }
        let streamed = content.range.is_none();
        let cut = u32::try_from(session.progress.parts.len()).unwrap_or(u32::MAX);
        let mut receiver = Receiver {
            registry: self,
            session,
            keep,
            buffer: None,
            reserved: None,
            tail_reopened: false,
            in_flight: VecDeque::new(),
            written: Vec::new(),
            pending: None,
            shown: 0,
            is_shown: self.shows_uploads()
                && self.metadata.query().map_err(Fault::from)?.admits_mirrors().map_err(Fault::from)?,
            broken: false,
            cut,
        };
        let taken = match receiver.take_in(content).await {
            Ok(()) if keep == Keep::UntilClosed => return receiver.hand_over().await,
            Ok(()) => receiver.keep_all(streamed).await,
            Err(error) => Err(error),
        };
        let Err(error) = taken else { return Ok(Received::default()) };
        receiver.leave_in_order().await?;
        match error {
            UploadError::Superseded { .. } => Err(self.superseded(session.upload)?), // with the offset it left
            error => Err(error),
        }
    }
}

impl Receiver<'_> {
    /// Reads the body to its end.
    async fn take_in(&mut self, content: Content) -> Result<(), UploadError> {
        let Content { range, length, mut body } = content;
        let announced = range.map(ContentRange::len).or(length);
        let start = self.session.position;
        let max = self.registry.options.max_blob_size();
        let period = touch_interval(self.registry.options.upload_expiry);
        let mut touches = interval_at(Instant::now() + period, period);
        let mut received = 0;
        if announced != Some(0) {
            // Before anything is read: hundreds of clients that wait hold less.
            self.reserved = Some(self.reserve(announced).await?);
        }
        loop {
            let piece = tokio::select! {
                biased;
                _ = self.session.turn.superseded() => return Err(self.registry.superseded(self.session.upload)?),
                piece = body.next() => piece,
                () = reached(self.buffer.as_ref().map(|buffer| buffer.due)) => return Err(BodyError::Idle.into()),
                put = landed(&mut self.in_flight) => {
                    self.note(put)?;
                    continue;
                }
                // A client that pauses finds what it has sent so far durable when it comes back.
                () = reached(self.pending.as_ref().map(|pending| pending.due)) => {
                    self.checkpoint().await?;
                    continue;
                }
                _ = touches.tick(), if self.keep == Keep::UntilClosed => {
                    self.touch().await?;
                    continue;
                }
            };
            let Some(piece) = piece.transpose()? else { break };
            received += piece.len() as u64;
            if announced.is_some_and(|announced| received > announced) {
                return Err(UploadError::Length);
            }
            if start + received > max {
                return Err(UploadError::TooLarge { max });
            }
            let remaining = announced.map(|announced| announced - received + piece.len() as u64);
            self.fill(piece, remaining).await?;
        }
        self.reserved = None;
        if range.is_some_and(|range| received != range.len()) { Err(UploadError::Length) } else { Ok(()) }
    }

    /// Puts a piece into the buffer, sending each part that gets full on the way. `remaining` counts
    /// from the start of the piece.
    async fn fill(&mut self, mut piece: Bytes, mut remaining: Option<u64>) -> Result<(), UploadError> {
        let part_size = self.registry.options.part_size;
        while !piece.is_empty() {
            let mut buffer = match self.buffer.take() {
                None => self.begin_buffer(remaining).await?,
                Some(full) if full.len() == part_size => {
                    self.send(full).await?;
                    continue;
                }
                Some(buffer) => buffer,
            };
            let room = part_size - buffer.len();
            let taken = piece.split_to(usize::try_from(room).unwrap_or(usize::MAX).min(piece.len()));
            buffer.memory.bytes.extend_from_slice(&taken);
            self.session.position += taken.len() as u64;
            remaining = remaining.map(|remaining| remaining.saturating_sub(taken.len() as u64));
            self.buffer = Some(buffer);
        }
        Ok(())
    }

    /// An empty buffer, or one with the tail that an earlier request left.
    async fn begin_buffer(&mut self, remaining: Option<u64>) -> Result<Buffer, UploadError> {
        let part_size = self.registry.options.part_size;
        let mut memory = match self.reserved.take() {
            Some(memory) => memory,
            None => self.reserve(remaining).await?,
        };
        if let Some(tail) = self.unopened_tail() {
            self.registry.reopen_tail(self.session, tail, &mut memory.bytes).await?;
            self.tail_reopened = true;
        }
        let hashed = memory.bytes.len();
        Ok(Buffer { memory, hashed, due: Instant::now() + fill_time(part_size) })
    }

    /// Memory for the next buffer, of which `remaining` bytes of the body are to come.
    async fn reserve(&mut self, remaining: Option<u64>) -> Result<Reservation, UploadError> {
        let part_size = self.registry.options.part_size;
        let tail_size = self.unopened_tail().as_ref().map_or(0, tail_size);
        let capacity = remaining.map_or(part_size, |remaining| part_size.min(remaining.saturating_add(tail_size)));
        tokio::select! {
            biased;
            _ = self.session.turn.superseded() => Err(self.registry.superseded(self.session.upload)?),
            reserved = timeout(MEMORY_DEADLINE, self.registry.budget.reserve(capacity)) => {
                reserved.map_err(|_elapsed| UploadError::Busy)
            }
        }
    }

    /// The tail that an earlier request left, unless it is in a buffer already.
    fn unopened_tail(&self) -> Option<Tail> {
        if self.tail_reopened { None } else { self.session.progress.tail.clone() }
    }

    /// Sends a full part on its way, and waits while too many are.
    async fn send(&mut self, part: Buffer) -> Result<(), UploadError> {
        let Multipart { key, id } = self.registry.multipart(self.session).await?;
        if self.is_shown
            && let Err(error) = self.registry.blobs.show(&key, &id).await
        {
            debug!(upload = %self.session.upload, reason = %error, "an upload is not shown to mirrors: {error}");
        }
        self.cut += 1;
        let (blobs, number, part_size) = (self.registry.blobs.clone(), self.cut, self.registry.options.part_size);
        // A client that closes with SHA-512 without having said so sends a small blob; see `close`.
        let sha512 = self.session.sha512;
        let Buffer { mut memory, hashed, .. } = part;
        let content = memory.freeze();
        let hash = self.session.hashing.update(content.slice(hashed..), sha512);
        self.in_flight.push_back(self.registry.uploads.spawn(async move {
            let put = blobs.put_part(&key, &id, number, part_size, content);
            let (part, hash) = join!(put, hash.map_ok(|(hash, _)| hash));
            drop(memory);
            Ok((part?, hash?))
        }));
        while self.in_flight.len() >= MAX_PARTS_IN_FLIGHT {
            let put = landed(&mut self.in_flight).await;
            self.note(put)?;
        }
        Ok(())
    }

    /// Takes note of the oldest part in flight having landed.
    fn note(&mut self, landed: Landed) -> Result<(), Fault> {
        self.broken |= landed.is_err();
        let (part, hash) = landed?;
        if !self.broken {
            self.written.push(part);
            if self.keep == Keep::EveryPart || self.is_shown && self.is_large() {
                let delay = if self.is_shown { SHOWN_CHECKPOINT_DELAY } else { CHECKPOINT_DELAY };
                let due = self.pending.take().map_or_else(|| Instant::now() + delay, |former| former.due);
                self.pending = Some(Checkpoint { hash, due });
            }
        }
        Ok(())
    }

    /// Waits for every part in flight.
    async fn note_all(&mut self) -> Result<(), Fault> {
        let mut noted = Ok(());
        while !self.in_flight.is_empty() {
            let landed = landed(&mut self.in_flight).await;
            noted = noted.and(self.note(landed));
        }
        noted
    }

    /// Whether mirrors are told of what was written so far.
    fn is_large(&self) -> bool {
        (self.session.progress.parts.len() + self.written.len()) as u64 >= SHOWN_FROM_PARTS
    }

    /// Makes the parts durable that were written, and commits that the session stands at their end; of a closing request,
    /// that mirrors may fetch them.
    async fn checkpoint(&mut self) -> Result<(), UploadError> {
        let Some(Checkpoint { hash, .. }) = self.pending.take() else { return Ok(()) };
        if self.keep == Keep::UntilClosed {
            return self.show().await;
        }
        let parts = std::mem::take(&mut self.written);
        let count = self.session.progress.parts.len() + parts.len();
        let offset = count as u64 * self.registry.options.part_size;
        let committed = self.registry.commit_checkpoint(self.session, offset, parts, None, hash).await;
        // Whether it was applied may not be known: nothing can be said to follow it.
        self.broken |= committed.is_err();
        committed
    }

    /// Makes the parts durable that were written, and shows them to mirrors. Where that fails, they have the rest with the whole
    /// blob; where the session is another request's, or the parts are lost, this one ends.
    async fn show(&mut self) -> Result<(), UploadError> {
        let parts = self.written.get(self.shown..).unwrap_or_default().to_vec();
        self.shown += parts.len();
        // A disk says once that it has lost something: whoever asks again is told that all is well.
        self.registry.persist(self.session, &parts).await?;
        match self.registry.show_parts(self.session, parts).await {
            Err(UploadError::Fault(fault)) => {
                debug!(upload = %self.session.upload, reason = %fault, "an upload is not shown to mirrors: {fault}");
                self.is_shown = false;
                Ok(())
            }
            shown => shown,
        }
    }

    /// Commits that the session is in use, so that it does not expire under a request that takes longer.
    async fn touch(&mut self) -> Result<(), UploadError> {
        self.registry.show_parts(self.session, Vec::new()).await
    }

    /// The end of a request that leaves everything it brought in the session.
    async fn keep_all(&mut self, streamed: bool) -> Result<(), UploadError> {
        let part_size = self.registry.options.part_size;
        if let Some(full) = self.buffer.take_if(|buffer| buffer.len() == part_size) {
            self.send(full).await?;
        }
        let tail = match self.buffer.take() {
            None => None,
            Some(rest) => Some(self.put_rest(rest, streamed).await?),
        };
        self.note_all().await?;
        let (parts, _) = (std::mem::take(&mut self.written), self.pending.take());
        if parts.is_empty() && tail.is_none() {
            return Ok(()); // an empty body changes nothing
        }
        let (offset, hash) = (self.session.position, self.session.hashing.hasher().await?.state());
        self.registry.commit_checkpoint(self.session, offset, parts, tail, hash).await
    }

    /// Hashes and puts the bytes after the last full part.
    async fn put_rest(&mut self, rest: Buffer, streamed: bool) -> Result<Tail, UploadError> {
        let Buffer { mut memory, hashed, .. } = rest;
        let content = memory.freeze();
        let sha512 = self.session.sha512 || self.cut == 0;
        let hash = self.session.hashing.update(content.slice(hashed..), sha512);
        let put = async {
            // docker streams a blob in one piece and closes with an empty body: this is its last part.
            if !streamed || self.cut == 0 {
                return Ok(self.registry.put_tail(self.cut > 0, content).await?);
            }
            let Multipart { key, id } = self.registry.multipart(self.session).await?;
            let (blobs, part_size) = (&self.registry.blobs, self.registry.options.part_size);
            let part = blobs.put_part(&key, &id, self.cut + 1, part_size, content).await.map_err(Fault::from)?;
            Ok(Tail::FinalPart(part))
        };
        let (tail, hash) = join!(put, hash.map_ok(drop));
        hash?;
        tail
    }

    /// The end of a request that closes the session: nothing is committed, the rest is in memory.
    async fn hand_over(mut self) -> Result<Received, UploadError> {
        if let Some(rest) = self.buffer.take() {
            let sha512 = self.session.sha512 || self.cut == 0;
            self.buffer = Some(self.session.hashing.update(rest, sha512).await?.1);
        }
        self.note_all().await?;
        Ok(Received { parts: self.written, buffer: self.buffer })
    }

    /// The end of a request that broke: no part is in flight any more, and what may be kept is kept.
    async fn leave_in_order(mut self) -> Result<(), UploadError> {
        // Each has to end, so that no late write meets the next request. Why one failed is known by now, or is the same
        // as why the request did.
        let _ = self.note_all().await;
        if self.keep == Keep::UntilClosed { Ok(()) } else { self.checkpoint().await }
    }
}

const fn tail_size(tail: &Tail) -> u64 {
    match tail {
        Tail::Object { size, .. } => *size,
        Tail::FinalPart(part) => part.size,
    }
}

#[cfg(test)]
mod tests {
    use roadstead_oci::Hasher;

    use super::super::session::Found;
    use super::*;
    use crate::fixture::{PART_SIZE, World, repository};

    async fn session(world: &World) -> Box<Session> {
        let upload = world.registry.start_upload(&repository("app"), false).await.expect("a session");
        let found = world.registry.claim(&repository("app"), upload).await.expect("it is there");
        let Found::Receiving(session) = found else { panic!("it is receiving") };
        session
    }

    fn receiver<'a>(world: &'a World, session: &'a mut Session, keep: Keep, is_shown: bool) -> Receiver<'a> {
        Receiver {
            registry: &world.registry,
            session,
            keep,
            buffer: None,
            reserved: None,
            tail_reopened: false,
            in_flight: VecDeque::new(),
            written: Vec::new(),
            pending: None,
            shown: 0,
            is_shown,
            broken: false,
            cut: 0,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as it lands")]
    fn landed(number: u32) -> Landed {
        let part = Part { number, size: PART_SIZE, etag: "etag".to_owned() };
        Ok((part, Hasher::new().state()))
    }

    #[tokio::test]
    async fn p4_no_checkpoint_follows_one_that_may_not_have_been_applied() {
        let world = World::new().await;
        let mut session = session(&world).await;
        world.registry.metadata().shutdown().await.expect("nothing is committed any more");
        let mut receiver = receiver(&world, &mut session, Keep::EveryPart, false);
        receiver.note(landed(1)).expect("the first part is written");
        receiver.checkpoint().await.expect_err("not committed");
        receiver.note(landed(2)).expect("the second part is written all the same");
        assert!(receiver.written.is_empty() && receiver.pending.is_none());
    }

    #[tokio::test]
    async fn a_closing_request_commits_nothing_before_its_end_but_what_mirrors_are_told_of() {
        let world = World::new().await;
        let mut session = session(&world).await;
        let least = u32::try_from(SHOWN_FROM_PARTS).expect("few");
        for (is_shown, parts, commits) in [(false, least + 9, false), (true, least - 1, false), (true, least, true)] {
            let mut receiver = receiver(&world, &mut session, Keep::UntilClosed, is_shown);
            for number in 1..=parts {
                receiver.note(landed(number)).expect("written");
            }
            assert_eq!(receiver.pending.is_some(), commits, "{parts} parts, shown: {is_shown}");
        }
    }

    #[tokio::test]
    async fn a_closing_request_goes_on_where_nothing_can_be_shown_and_ends_where_it_was_taken_over() {
        let world = World::new().await;
        let mut first = session(&world).await;
        first.epoch.0 += 1;
        let taken_over = receiver(&world, &mut first, Keep::UntilClosed, true).show().await;
        assert!(matches!(taken_over, Err(UploadError::Superseded { .. })), "{taken_over:?}");

        let mut second = session(&world).await;
        world.registry.metadata().shutdown().await.expect("nothing is committed any more");
        let mut receiver = receiver(&world, &mut second, Keep::UntilClosed, true);
        receiver.show().await.expect("it has the rest when it is whole");
        assert!(!receiver.is_shown, "and nothing more of it is shown");
    }
}

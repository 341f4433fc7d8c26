//! The log: entries and votes on local disk, for openraft.
//!
//! Why not the crate raft-log: a torn tail that is neither short nor all zeros (a power cut may persist a later page
//! and not an earlier one) keeps it from opening; it holds every payload of its open segment in memory, which alone is
//! more than the whole process may use when idle; and a damaged record in the middle of its last file is told from a
//! torn one by nothing. Here: see `segment` for what a crash may leave, `index` for what is in memory, `writer` for
//! who writes.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::config::{Entry, LogId, Types, Vote};
use super::index::{Frames, Index, Limits, Place, Slot};
use super::records::EntryRecord;
use super::segment::{self, End};
use super::writer::{Done, Job, QUEUE, Tail, Writer};
use crate::OpenError;
use crate::disk::{Disk, DiskFile, OpenMode, wait_for};
use crate::encoding::decode;

/// What is read at once, to be applied or sent to a follower; one larger entry still goes alone.
const BYTES_PER_READ: usize = 4 * 1024 * 1024;

/// The log, as its one owner has it.
pub(super) struct Log {
    reader: LogReader,
    /// `None` while it is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<std::thread::JoinHandle<()>>,
    /// The writer over a disk that is simulated.
    simulated_writer: JoinSet<()>,
}

/// Reads the log.
#[derive(Clone)]
pub(super) struct LogReader {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    index: Arc<Mutex<Index>>,
}

impl Log {
    /// Opens the log in a folder, or begins it there.
    pub(super) fn open(disk: Arc<dyn Disk>, folder: &Path, limits: Limits) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: folder.to_owned(), source };
        disk.create_folder(folder).map_err(io)?;
        let mut index = Index::new(limits);
        let tail = replay(&*disk, folder, &mut index)?;
        segment::remove(&*disk, folder, &index.take_purged_segments()).map_err(io)?;

        let index = Arc::new(Mutex::new(index));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(disk.clone(), folder.to_owned(), tail, index.clone(), queue);
        let is_simulated = disk.simulated_latency().is_some();
        let reader = LogReader { disk, folder: folder.to_owned(), index };
        let mut log = Self { reader, jobs: Some(jobs), writer: None, simulated_writer: JoinSet::new() };
        if is_simulated {
            log.simulated_writer.spawn(writer.run_simulated());
        } else {
            let thread = std::thread::Builder::new().name("raft log".to_owned()).spawn(move || writer.run());
            log.writer = Some(thread.map_err(io)?);
        }
        Ok(log)
    }

    /// A reader of its own.
    pub(super) fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Queues what `change` makes of the index; what it answers with, the caller gets.
    async fn submit<R>(
        &mut self,
        done: Done,
        change: impl FnOnce(&mut Index, &mut Frames) -> io::Result<(R, Vec<u64>)>,
    ) -> io::Result<R> {
        let Some(jobs) = &self.jobs else { return Err(stopped()) };
        // The place in the queue first: what is in the index must also reach the writer.
        let place = jobs.reserve().await.map_err(|_| stopped())?;
        let (answer, frames, remove) = {
            let mut index = self.reader.index.lock();
            let mut frames = index.begin();
            let (answer, remove) = change(&mut index, &mut frames)?;
            (answer, frames, remove)
        };
        place.send(Job { frames, remove, done });
        Ok(answer)
    }

    /// Likewise, and waits until it is on disk.
    async fn submit_durably(&mut self, change: impl FnOnce(&mut Index, &mut Frames) -> Vec<u64>) -> io::Result<()> {
        let (reply, written) = oneshot::channel();
        self.submit(Done::Reply(reply), |index, frames| Ok(((), change(index, frames)))).await?;
        written.await.map_err(|_| stopped())?
    }
}

impl Drop for Log {
    /// Waits until all that was queued is written, so that whoever opens the folder next sees it.
    fn drop(&mut self) {
        if let Some(jobs) = self.jobs.take()
            && self.reader.index.lock().is_unwritten()
        {
            let frames = self.reader.index.lock().begin();
            // The queue is full only if the disk is slow; then the next start knows a little less.
            drop(jobs.try_send(Job { frames, remove: Vec::new(), done: Done::Nobody }));
        }
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log's writer panicked");
        }
        self.simulated_writer.detach_all();
    }
}

impl LogReader {
    /// The size of the files, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.index.lock().bytes()
    }

    /// The newest entry.
    pub(super) fn last_index(&self) -> u64 {
        self.index.lock().last().map_or(0, |last| last.index)
    }

    /// The entries of a range that are not purged, up to about `limit` bytes but at least one.
    pub(super) async fn read(&self, range: Range<u64>, limit: usize) -> io::Result<Vec<Entry>> {
        loop {
            let (stored, cached) = self.index.lock().find(range.clone(), limit);
            let Some(first) = stored.first().copied() else { return Ok(cached) };
            let (disk, folder) = (self.disk.clone(), self.folder.clone());
            match wait_for(&*self.disk, move || read_stored(&*disk, &folder, &stored)).await? {
                Ok(mut entries) => {
                    entries.extend(cached);
                    return Ok(entries);
                }
                // Purged in the meantime: look again for what is left.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_purged(first.id) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_purged(&self, id: LogId) -> bool {
        self.index.lock().purged.is_some_and(|purged| id.index <= purged.index)
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        self.read(indexes(&range), usize::MAX).await
    }

    /// In pieces: a replica that catches up applies far more than should be in memory at once.
    async fn entries_stream<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend {
        let reader = self.clone();
        let pieces = stream::try_unfold(indexes(&range), move |range| {
            let reader = reader.clone();
            async move {
                let entries = reader.read(range.clone(), BYTES_PER_READ).await?;
                let next = entries.last().map(|last| last.log_id.index + 1..range.end);
                Ok::<_, io::Error>(next.map(|next| (stream::iter(entries.into_iter().map(Ok)), next)))
            }
        });
        pieces.try_flatten()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, BYTES_PER_READ).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.index.lock().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let index = self.reader.index.lock();
        Ok(LogState { last_purged_log_id: index.purged, last_log_id: index.last() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.submit_durably(|index, frames| {
            index.vote(vote, frames);
            Vec::new()
        })
        .await
    }

    /// Not synced, nor written at once: it only saves a restarted replica from showing an older state than before, until
    /// it hears from its group.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.reader.index.lock().commit(committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.reader.index.lock().committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.submit(Done::Flushed(callback), |index, frames| {
            entries.into_iter().try_for_each(|entry| index.append(entry, frames))?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.submit_durably(|index, frames| {
            index.truncate(last, frames);
            Vec::new()
        })
        .await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.submit_durably(|index, frames| index.purge(upto, frames)).await
    }
}

/// Takes in all segments; answers with the last one's file, to be written on.
fn replay(disk: &dyn Disk, folder: &Path, index: &mut Index) -> Result<Option<Tail>, OpenError> {
    let io = |source| OpenError::Io { path: folder.to_owned(), source };
    let mut sequences = segment::list(disk, folder).map_err(io)?;
    let newest = sequences.last().copied();
    for sequence in sequences.clone() {
        let path = segment::path(folder, sequence);
        let mut begun = false;
        let end = segment::scan(disk, &path, Some(sequence) == newest, |frame| {
            begun = true;
            let offset = frame.offset;
            index.replay(&frame, sequence).map_err(|why| segment::damaged(&path, offset, &why))
        })?;
        if let End::Torn(at) = end {
            tracing::warn!(file = %path.display(), byte = at, "the log ended in the middle of a write; cut off");
            segment::cut(disk, &path, at).map_err(io)?;
        }
        if !begun && Some(sequence) == newest {
            // The crash came before its first frame; what is before it is whole.
            segment::remove(disk, folder, &[sequence]).map_err(io)?;
            sequences.pop();
        }
    }
    if let Some(first) = sequences.first().filter(|_| index.is_missing_files()) {
        return Err(segment::damaged(&segment::path(folder, *first), 0, "the files before it are missing"));
    }
    let Some(last) = sequences.last() else { return Ok(None) };
    let file = disk.open(&segment::path(folder, *last), OpenMode::Existing).map_err(io)?;
    let end = file.length().map_err(io)?;
    // What a crashed process wrote and did not sync is taken for written, so it has to be on disk.
    file.sync().map_err(io)?;
    let place = Place { segment: *last, offset: u32::try_from(end).unwrap_or(u32::MAX) };
    index.written(place);
    index.durable(place);
    Ok(Some(Tail { file, end }))
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn read_stored(disk: &dyn Disk, folder: &Path, slots: &[Slot]) -> io::Result<Vec<Entry>> {
    let mut open: Option<(u64, Box<dyn DiskFile>)> = None;
    let mut entries = Vec::with_capacity(slots.len());
    for slot in slots {
        let file = match &open {
            Some((sequence, file)) if *sequence == slot.place.segment => file,
            _ => {
                let path = segment::path(folder, slot.place.segment);
                &open.insert((slot.place.segment, disk.open(&path, OpenMode::Existing)?)).1
            }
        };
        let mut payload = vec![0; slot.length as usize];
        file.read_exact_at(&mut payload, slot.place.offset.into())?;
        let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("entry {}: {why}", slot.id));
        let record: EntryRecord = decode(&payload).map_err(|error| damaged(error.to_string()))?;
        entries.push(record.entry().map_err(damaged)?);
    }
    Ok(entries)
}

fn stopped() -> io::Error {
    io::Error::other("the log has stopped")
}

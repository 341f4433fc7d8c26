//! The one thread that writes the log's files; over a simulated disk, a task.
//!
//! Whatever is queued while it waits for the disk is written and synced together next. On a full disk it waits for room
//! and writes in the same place again. After any other failed write or sync the state of
//! the file is not known, so nothing is tried again: every later job fails, and the replica stops.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::config::Types;
use super::index::{Frames, Index};
use super::segment;
use crate::disk::{Disk, DiskFile};

/// Jobs that may wait: openraft queues few, each of up to a full write.
pub(super) const QUEUE: usize = 64;

/// A buffer that grew larger than this for one group is given back.
const BUFFER_BYTES: usize = 1024 * 1024;

/// How often a full disk is tried again: those who wait are told to come back after five seconds.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);

/// Something to write.
pub(super) struct Job {
    pub(super) frames: Frames,
    /// Segments to delete when the frames are on disk.
    pub(super) remove: Vec<u64>,
    pub(super) done: Done,
}

/// Who waits for it.
pub(super) enum Done {
    /// Nobody, and it need not be synced either: a later job's sync covers it.
    Nobody,
    /// The core, for appended entries.
    Flushed(IOFlushed<Types>),
    /// A caller.
    Reply(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn needs_sync(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    fn settle(self, result: &Result<(), (io::ErrorKind, String)>) {
        let result = result.clone().map_err(|(kind, message)| io::Error::new(kind, message));
        match self {
            Self::Nobody => {}
            Self::Flushed(callback) => callback.io_completed(result),
            // Whoever does not wait any more does not want to know.
            Self::Reply(reply) => drop(reply.send(result)),
        }
    }
}

/// A file that is written at its end.
pub(super) struct Tail {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) end: u64,
}

/// The thread's own.
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    /// The last segment.
    pub(super) tail: Option<Tail>,
    pub(super) index: Arc<Mutex<Index>>,
    pub(super) jobs: mpsc::Receiver<Job>,
    buffer: Vec<u8>,
    result: Result<(), (io::ErrorKind, String)>,
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        tail: Option<Tail>,
        index: Arc<Mutex<Index>>,
        jobs: mpsc::Receiver<Job>,
    ) -> Self {
        Self { disk, folder, tail, index, jobs, buffer: Vec::new(), result: Ok(()) }
    }

    /// Works until the log is dropped.
    pub(super) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            self.work(first);
        }
    }

    /// Likewise, over a disk that is simulated.
    pub(super) async fn run_simulated(mut self) {
        while let Some(first) = self.jobs.recv().await {
            let latency = self.disk.simulated_latency().unwrap_or_default();
            sleep_until(Instant::now() + latency).await;
            self.work(first);
        }
    }

    /// Does a job, with all that are queued behind it.
    fn work(&mut self, first: Job) {
        let mut group = vec![first];
        while group.len() < QUEUE
            && let Ok(job) = self.jobs.try_recv()
        {
            group.push(job);
        }
        if self.result.is_ok() {
            let mut buffer = std::mem::take(&mut self.buffer);
            self.result = self.write(&group, &mut buffer).map_err(|error| (error.kind(), error.to_string()));
            if let Err((_, error)) = &self.result {
                tracing::error!(error, folder = %self.folder.display(), "the log cannot be written; the replica stops");
            }
            buffer.clear();
            buffer.shrink_to(BUFFER_BYTES);
            self.buffer = buffer;
        }
        for job in group {
            job.done.settle(&self.result);
        }
    }

    fn write(&mut self, group: &[Job], buffer: &mut Vec<u8>) -> io::Result<()> {
        for Job { frames, .. } in group {
            if let Some(sequence) = frames.begins {
                // A segment is whole on disk before the next one is begun.
                self.append(buffer)?;
                self.sync()?;
                buffer.clear();
                let file =
                    self.when_there_is_room(|writer| segment::create(&*writer.disk, &writer.folder, sequence))?;
                self.tail = Some(Tail { file, end: 0 });
            }
            buffer.extend_from_slice(&frames.bytes);
        }
        self.append(buffer)?;
        let Some(end) = group.last().map(|job| job.frames.end) else { return Ok(()) };
        self.index.lock().written(end);
        if group.iter().any(|job| job.done.needs_sync()) {
            self.sync()?;
            self.index.lock().durable(end);
        }
        let removed: Vec<_> = group.iter().flat_map(|job| &job.remove).copied().collect();
        segment::remove(&*self.disk, &self.folder, &removed)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.when_there_is_room(|writer| {
            // What an attempt before has written there is written over, or cut off by whoever opens the file.
            writer.tail.as_mut().map_or(Ok(()), |tail| tail.file.write_all_at(bytes, tail.end))
        })?;
        if let Some(tail) = &mut self.tail {
            tail.end += bytes.len() as u64;
        }
        Ok(())
    }

    /// Tries again while the disk is full, and until the log is dropped.
    fn when_there_is_room<R>(&mut self, mut attempt: impl FnMut(&mut Self) -> io::Result<R>) -> io::Result<R> {
        let mut told = false;
        loop {
            match attempt(self) {
                Err(error) if is_full(&error) && !self.jobs.is_closed() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, folder = %self.folder.display(), "the log waits for room on the disk");
                    }
                    // A file system tells nobody when it has room again.
                    std::thread::park_timeout(LOOK_FOR_ROOM);
                }
                other => return other,
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.tail.as_ref().map_or(Ok(()), |tail| tail.file.sync())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

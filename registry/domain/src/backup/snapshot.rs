//! Snapshots: all facts of one moment, streamed to the store.
//!
//! ```text
//! blocking thread: rows --> pieces of a part --> channel of one --> put_part, one at a time
//! ```
//!
//! So at most three parts are in memory, whatever the size of the facts; one that fits into a part is a plain object.

use std::io::{self, Write};
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use roadstead_blobs::{BlobError, BlobStore};
use roadstead_metadata::Snapshot;
use roadstead_oci::{MultipartId, ObjectKey, Part};
use tokio::join;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info;

use super::Place;
use super::format::SnapshotHeader;
use super::inventory::{Inventory, KnownSnapshot};
use super::restore::blocking;
use super::ship::ShipError;
use crate::fault::Fault;
use crate::limits::{LEAST_RETENTION_SNAPSHOT, SNAPSHOT_BYTES, SNAPSHOT_PART, SNAPSHOT_SEGMENTS};
use crate::registry::Registry;

/// A snapshot that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotTaken {
    /// Where it is.
    pub key: ObjectKey,
    /// In bytes.
    pub size: u64,
    /// How many entries of the log are in it, from the first on.
    pub entries: u64,
    /// Where the facts stood.
    pub place: Place,
}

impl Registry {
    /// Whether something was shipped since the last snapshot, and that is so long ago, or it is so much, that another one is
    /// due.
    pub async fn snapshot_is_due(&self) -> Result<bool, Fault> {
        let Some(history) = self.owned_history() else { return Ok(false) };
        let known = self.backup.inventory.lock().clone();
        let Some(mut inventory) = known else { return Ok(false) };
        // Another replica may have written the newest one: when, its header says.
        let (since, size) = match inventory.newest() {
            Some((entries, snapshot)) => {
                (self.snapshot_place(history.id, &mut inventory, entries).await?.time, snapshot.size)
            }
            None => (history.begun, 0),
        };
        if inventory.segments == 0 {
            return Ok(false);
        }
        let age = self.options.backup_interval.min(self.options.backup_retention.max(LEAST_RETENTION_SNAPSHOT));
        Ok(inventory.bytes >= size.max(SNAPSHOT_BYTES)
            || inventory.segments >= SNAPSHOT_SEGMENTS
            || since < self.ports.before(&self.metadata, age))
    }

    /// The newest snapshot, if it is known when it was taken: by the replica that writes the backup, a moment after it has
    /// come to lead.
    pub fn newest_snapshot(&self) -> Option<SnapshotTaken> {
        let history = self.owned_history()?.id;
        let (entries, KnownSnapshot { size, place }) = self.backup.inventory.lock().as_ref()?.newest()?;
        let key = ObjectKey::snapshot(history, entries.saturating_sub(1));
        Some(SnapshotTaken { key, size, entries, place: place? })
    }

    /// Whether the last snapshot that was to be written was not.
    pub fn snapshot_failed(&self) -> bool {
        self.backup.snapshot_failed.load(Ordering::Relaxed)
    }

    /// Writes all facts as they are now to the store.
    pub async fn take_snapshot(&self) -> Result<SnapshotTaken, ShipError> {
        let taken = self.write_snapshot().await;
        self.backup.snapshot_failed.store(taken.is_err(), Ordering::Relaxed);
        taken
    }

    async fn write_snapshot(&self) -> Result<SnapshotTaken, ShipError> {
        let _turn = self.backup.snapshotting.lock().await;
        let history = self.owned_history().ok_or(ShipError::NotOwner)?.id;
        self.inventory(history).await?;
        let began = Instant::now();
        let metadata = self.metadata.clone();
        let snapshot = blocking(move || metadata.snapshot()).await?.map_err(Fault::from)?;
        let entries = snapshot.entries();
        let place = Place { position: snapshot.position(), time: snapshot.time() };
        let header = SnapshotHeader { history, entries, term: snapshot.term(), place };
        let key = ObjectKey::snapshot(history, entries.saturating_sub(1));
        let size = upload(&*self.blobs, &key, header, snapshot).await?;
        if let Some(inventory) = self.backup.inventory.lock().as_mut() {
            inventory.add_snapshot(entries, KnownSnapshot { size, place: Some(place) });
        }
        info!(
            key = %key, bytes = size, sequence = place.position.sequence, took_ms = began.elapsed().as_millis(),
            "wrote a snapshot of the facts to the blob store"
        );
        let behind = self.backup.inventory.lock().as_ref().map_or(0, Inventory::covered);
        if behind == entries {
            self.shipped_up_to(entries, Some(place), None, began);
        }
        Ok(SnapshotTaken { key, size, entries, place })
    }
}

/// Streams a snapshot to its object; answers with its size.
async fn upload(
    store: &dyn BlobStore,
    key: &ObjectKey,
    header: SnapshotHeader,
    snapshot: Snapshot,
) -> Result<u64, Fault> {
    let part_size = SNAPSHOT_PART.max(store.min_part_size());
    let (sender, mut parts) = mpsc::channel(1);
    let writing = blocking(move || {
        let mut out = Parts { sender, part: BytesMut::new(), size: usize::try_from(part_size).unwrap_or(usize::MAX) };
        out.write_all(&header.encode()).map_err(|error| Fault::Inconsistent(error.to_string()))?;
        snapshot.write_to(&mut out)?;
        out.finish().map_err(|error| Fault::Inconsistent(error.to_string()))
    });
    let sending = async move {
        // When this ends, a thread that has more to send finds nobody to take it, and ends.
        send(store, key, part_size, &mut parts).await
    };
    let (sent, written) = join!(sending, writing);
    let written = written?;
    // Why the store did not take it is the better reason.
    let size = sent?;
    written?;
    Ok(size)
}

async fn send(
    store: &dyn BlobStore,
    key: &ObjectKey,
    part_size: u64,
    parts: &mut mpsc::Receiver<Piece>,
) -> Result<u64, Fault> {
    let Some(first) = parts.recv().await else { return Err(cut_off()) };
    if first.last {
        let size = first.bytes.len() as u64;
        store.put(key, first.bytes).await?;
        return Ok(size);
    }
    let id = store.create_multipart(key).await?;
    let sent = send_parts(store, key, &id, part_size, first, parts).await;
    if sent.is_err() {
        // What cannot be aborted now is found by the hourly sweep.
        let _ = store.abort(key, &id).await;
    }
    sent
}

async fn send_parts(
    store: &dyn BlobStore,
    key: &ObjectKey,
    id: &MultipartId,
    part_size: u64,
    first: Piece,
    parts: &mut mpsc::Receiver<Piece>,
) -> Result<u64, Fault> {
    let mut written: Vec<Part> = Vec::new();
    let (mut size, mut piece) = (0, first);
    for number in 1..=Part::MAX_NUMBER {
        size += piece.bytes.len() as u64;
        written.push(store.put_part(key, id, number, part_size, piece.bytes).await?);
        if piece.last {
            store.persist(key, id, &written).await?;
            return match store.complete(key, id, &written).await {
                // An earlier attempt of the same call may have had its effect.
                Err(BlobError::MultipartUnknown)
                    if store.head(key).await?.is_some_and(|object| object.size == size) =>
                {
                    Ok(size)
                }
                completed => Ok(completed.map(|()| size)?),
            };
        }
        piece = parts.recv().await.ok_or_else(cut_off)?;
    }
    Err(Fault::Inconsistent(format!("the facts are larger than {} parts", Part::MAX_NUMBER)))
}

fn cut_off() -> Fault {
    Fault::Inconsistent("the facts could not be read to their end".to_owned())
}

/// A part of a snapshot.
struct Piece {
    bytes: Bytes,
    last: bool,
}

/// Cuts what is written into parts.
struct Parts {
    sender: mpsc::Sender<Piece>,
    part: BytesMut,
    size: usize,
}

impl Parts {
    fn hand_over(&mut self, last: bool) -> io::Result<()> {
        let piece = Piece { bytes: self.part.split().freeze(), last };
        self.sender.blocking_send(piece).map_err(|_| io::Error::other("the upload of a snapshot ended early"))
    }

    fn finish(mut self) -> io::Result<()> {
        self.hand_over(true)
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full part waits until there is more: the last one says that it is.
        if self.part.len() == self.size {
            self.hand_over(false)?;
        }
        let taken = bytes.len().min(self.size - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Shipping: what is applied goes to the store, in order and without gaps.
//!
//! ```text
//! look at what is there -> entries after it, up to a segment's size -> put -> the same again
//!                              '-- purged already -> snapshot
//! ```
//!
//! A crash between any two steps leaves the store as it was, or with one more segment, which the next look finds. A put
//! whose answer is lost may be repeated with more entries: segments may overlap, and a restore passes over what it has.

use roadstead_metadata::{EntriesError, LogTime};
use roadstead_oci::ObjectKey;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Place;
use super::format::Segment;
use super::inventory::Inventory;
use crate::fault::Fault;
use crate::limits::SEGMENT_BYTES;
use crate::registry::Registry;

/// How far the backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// How many entries of the log are in the store, from the first on.
    pub entries: u64,
    /// Where the facts stood when all of them were; every earlier change is in the store.
    pub place: Option<Place>,
    /// Whether there is more to ship at once.
    pub more: bool,
    /// The bytes of the segment that was written, if one was.
    pub written: Option<u64>,
}

/// Why nothing could be shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The store was not found to be this registry's (any more).
    #[error("the blob store is not known to be this registry's")]
    NotOwner,
    /// The store has entries that this registry does not: its data folder was set back to an earlier state.
    #[error(
        "the backup of this history has {shipped} entries of its log, and the data folder {applied}: the folder has been \
         set back to an earlier state"
    )]
    SetBack {
        /// How many entries are in the store.
        shipped: u64,
        /// How many there are here.
        applied: u64,
    },
    /// The log, the facts or the store failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Registry {
    /// Ships what is applied, at most a segment of it.
    pub async fn ship(&self) -> Result<Shipped, ShipError> {
        let history = self.owned_history().ok_or(ShipError::NotOwner)?.id;
        if self.shipped().is_none_or(|shipped| shipped.entries < *self.metadata.subscribe_applied().borrow()) {
            self.await_store();
        }
        let inventory = self.inventory(history).await?;
        let looked = Instant::now();
        let (applied, place) = self.place()?;
        if inventory.covered() > applied {
            let shipped = inventory.covered();
            *self.backup.set_back.lock() = Some((shipped, applied));
            return Err(ShipError::SetBack { shipped, applied });
        }
        let next = inventory.next;
        if next == applied {
            return Ok(self.shipped_up_to(applied, Some(place), None, looked));
        }
        let entries = match self.metadata.entries(next, applied, SEGMENT_BYTES).await {
            Ok(entries) => entries,
            Err(EntriesError::Purged(_)) => return self.close_gap(next).await,
            Err(EntriesError::Io(error)) => return Err(Fault::Inconsistent(format!("the log: {error}")).into()),
        };
        let Some(last) = entries.last().map(|entry| entry.index) else {
            return Ok(self.shipped_up_to(next, None, None, looked));
        };
        let reached = Some(place).filter(|_| last + 1 == applied);
        let segment = Segment { history, entries, reached };
        let bytes = segment.encode();
        let size = bytes.len() as u64;
        self.blobs.put(&ObjectKey::log_segment(history, next, last), bytes).await.map_err(Fault::from)?;
        if let Some(inventory) = self.backup.inventory.lock().as_mut() {
            inventory.add_segment(last, size);
        }
        debug!(first = next, last, bytes = size, "shipped entries of the log");
        Ok(self.shipped_up_to(last + 1, reached, Some(size), looked))
    }

    /// What the store has; looked at once, and then kept.
    pub(super) async fn inventory(&self, history: uuid::Uuid) -> Result<Inventory, Fault> {
        let known = self.backup.inventory.lock().clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let taken = Inventory::take(&*self.blobs, history).await?;
        Ok(self.backup.inventory.lock().get_or_insert(taken).clone())
    }

    /// How many entries are applied, and where the facts stand after them.
    pub(super) fn place(&self) -> Result<(u64, Place), Fault> {
        let query = self.metadata.query()?;
        Ok((query.entries_applied()?, Place { position: query.position()?, time: query.time()? }))
    }

    /// The entries that come next are gone: goes on behind a snapshot.
    async fn close_gap(&self, next: u64) -> Result<Shipped, ShipError> {
        let known = self.backup.inventory.lock().as_ref().map_or(0, Inventory::covered);
        if known <= next {
            warn!(next, "the log was purged before it was shipped, or never was: a snapshot takes its place");
            self.take_snapshot().await?;
        }
        let looked = Instant::now();
        let mut inventory = self.backup.inventory.lock();
        let covered = inventory.as_mut().map_or(next, |inventory| {
            inventory.next = inventory.covered();
            inventory.next
        });
        drop(inventory);
        Ok(self.shipped_up_to(covered, None, None, looked))
    }

    /// Notes and tells how far the backup is. Whatever was applied before `looked` and is not in the store has been
    /// waiting since then at most.
    pub(super) fn shipped_up_to(
        &self,
        entries: u64,
        place: Option<Place>,
        written: Option<u64>,
        looked: Instant,
    ) -> Shipped {
        let applied = *self.metadata.subscribe_applied().borrow();
        let more = entries < applied;
        let mut waiting = self.backup.waiting.lock();
        *waiting = match (more, place) {
            (false, _) => None,
            (true, Some(_)) => Some(looked),
            // It has not caught up since.
            (true, None) => Some(waiting.unwrap_or(looked)),
        };
        drop(waiting);
        let mut told = None;
        self.backup.shipped.send_modify(|shipped| {
            let known = shipped.unwrap_or(Shipped { entries: 0, place: None, more, written: None });
            let entries = known.entries.max(entries);
            let place = place.or(known.place);
            let now = Shipped { entries, place, more, written };
            (*shipped, told) = (Some(now), Some(now));
        });
        told.unwrap_or(Shipped { entries, place, more, written })
    }

    /// Everything that nothing has named since before then may be deleted: it has been shipped that nothing does, and
    /// no place that a restore can go to is older. `None`: nothing may.
    pub(crate) fn deletion_horizon(&self) -> Result<Option<LogTime>, Fault> {
        let query = self.metadata.query()?;
        let now = self.ports.now(&self.metadata);
        let through = match self.shipped() {
            _ if !self.options.backup => now,
            // All that this view shows.
            Some(shipped) if shipped.entries >= query.entries_applied()? => now,
            Some(Shipped { place: Some(place), .. }) => place.time,
            Some(Shipped { place: None, .. }) | None => return Ok(None),
        };
        if query.history()?.is_some_and(|history| now < self.deletions_wait_until(&history)) {
            return Ok(None);
        }
        let retention = u64::try_from(self.options.backup_retention.as_millis()).unwrap_or(u64::MAX);
        Ok(Some(LogTime(through.0.saturating_sub(retention))))
    }
}

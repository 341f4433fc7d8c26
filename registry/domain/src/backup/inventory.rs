//! What a store has of a history's backup.

use std::collections::BTreeMap;

use roadstead_blobs::{BlobError, BlobStore};
use roadstead_oci::{ObjectKey, ObjectKind};
use uuid::Uuid;

use super::Place;

/// A snapshot in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownSnapshot {
    /// In bytes.
    pub size: u64,
    /// Of what moment, if its header was read.
    pub place: Option<Place>,
}

/// What a store has of a history's backup, as far as shipping has to know.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Inventory {
    /// By the number of entries that are in them.
    pub snapshots: BTreeMap<u64, KnownSnapshot>,
    /// The entry with which the next segment begins.
    pub next: u64,
    /// Segments that follow the newest snapshot, and their bytes.
    pub segments: u64,
    pub bytes: u64,
}

impl Inventory {
    /// Looks at everything that the store has of a history.
    pub(super) async fn take(store: &dyn BlobStore, history: Uuid) -> Result<Self, BlobError> {
        let mut snapshots = BTreeMap::new();
        let mut segments = Vec::new();
        let mut next = None;
        loop {
            let page = store.list(&folder(history), next.as_deref()).await?;
            for object in page.items {
                match object.key.kind() {
                    ObjectKind::Snapshot { index, .. } => {
                        snapshots.insert(index + 1, KnownSnapshot { size: object.size, place: None });
                    }
                    ObjectKind::LogSegment { last, .. } => segments.push((last, object.size)),
                    _ => {}
                }
            }
            match page.next {
                Some(token) => next = Some(token),
                None => break,
            }
        }
        let newest = snapshots.keys().next_back().copied().unwrap_or_default();
        let end = segments.iter().map(|(last, _)| last + 1).max();
        let mut inventory = Self { snapshots, next: end.unwrap_or(newest), ..Self::default() };
        for (_, size) in segments.into_iter().filter(|(last, _)| *last >= newest) {
            inventory.segments += 1;
            inventory.bytes += size;
        }
        Ok(inventory)
    }

    /// The newest snapshot and how many entries are in it.
    pub(super) fn newest(&self) -> Option<(u64, KnownSnapshot)> {
        self.snapshots.last_key_value().map(|(entries, snapshot)| (*entries, *snapshot))
    }

    /// How many entries a restore can bring back, from the first on.
    pub(super) fn covered(&self) -> u64 {
        self.next.max(self.newest().map_or(0, |(entries, _)| entries))
    }

    pub(super) fn add_segment(&mut self, last: u64, bytes: u64) {
        self.next = self.next.max(last + 1);
        self.segments += 1;
        self.bytes += bytes;
    }

    pub(super) fn add_snapshot(&mut self, entries: u64, snapshot: KnownSnapshot) {
        self.snapshots.insert(entries, snapshot);
        // What is shipped meanwhile is few, and counts for the next one as well as not.
        (self.segments, self.bytes) = (0, 0);
    }
}

/// What the keys of a history begin with.
pub(super) fn folder(history: Uuid) -> String {
    let key = ObjectKey::snapshot(history, 0).to_string();
    key.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

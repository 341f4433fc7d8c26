//! What of a backup is not needed any more: whatever is older than a restore can go back.

use roadstead_blobs::{BlobStore, MAX_DELETE, ObjectInfo};
use roadstead_metadata::History;
use roadstead_oci::{ObjectKey, ObjectKind};
use tracing::info;
use uuid::Uuid;

use super::format::{SNAPSHOT_HEADER, SnapshotHeader};
use super::inventory::{Inventory, folder};
use super::{Place, marker};
use crate::fault::Fault;
use crate::registry::Registry;

impl Registry {
    /// Deletes what lies before the newest snapshot that is older than the retention, and what is left of the histories
    /// before a restore when that is older; answers with the number of objects. To be called after each snapshot.
    pub async fn prune_backup(&self) -> Result<usize, Fault> {
        let Some(history) = self.owned_history() else { return Ok(0) };
        let before = self.ports.before(&self.metadata, self.options.backup_retention);
        let mut inventory = self.inventory(history.id).await?;
        let mut objects = 0;
        let mut base = None;
        let known: Vec<_> = inventory.snapshots.keys().copied().collect();
        for entries in known.into_iter().rev() {
            if self.snapshot_place(history.id, &mut inventory, entries).await?.time <= before {
                base = Some(entries);
                break;
            }
        }
        if let Some(base) = base {
            objects += self.prune_before(&history, &inventory, base).await?;
        }
        if history.parent.is_some() && history.begun <= before && !inventory.snapshots.is_empty() {
            objects += self.prune_others(history.id).await?;
        }
        if objects > 0 {
            info!(objects, "deleted what the backup does not need any more");
        }
        Ok(objects)
    }

    /// When a snapshot was taken, from its header unless that is known.
    pub(super) async fn snapshot_place(
        &self,
        history: Uuid,
        inventory: &mut Inventory,
        entries: u64,
    ) -> Result<Place, Fault> {
        if let Some(place) = inventory.snapshots.get(&entries).and_then(|snapshot| snapshot.place) {
            return Ok(place);
        }
        let place = header(&*self.blobs, &ObjectKey::snapshot(history, entries.saturating_sub(1))).await?.place;
        let note = |inventory: &mut Inventory| {
            if let Some(snapshot) = inventory.snapshots.get_mut(&entries) {
                snapshot.place = Some(place);
            }
        };
        note(inventory);
        self.backup.inventory.lock().as_mut().map(note);
        Ok(place)
    }

    async fn prune_before(&self, history: &History, inventory: &Inventory, base: u64) -> Result<usize, Fault> {
        let old: Vec<_> = inventory.snapshots.range(..base).map(|(entries, _)| *entries).collect();
        let snapshots = old.iter().map(|entries| ObjectKey::snapshot(history.id, entries.saturating_sub(1))).collect();
        let mut deleted = self.delete_all(snapshots).await?;
        if let Some(inventory) = self.backup.inventory.lock().as_mut() {
            inventory.snapshots.retain(|entries, _| *entries >= base);
        }
        let prefix = format!("{}log-", folder(history.id));
        deleted += self
            .delete_listed(
                &prefix,
                |object| matches!(object.key.kind(), ObjectKind::LogSegment { last, .. } if last < base),
            )
            .await?;
        Ok(deleted)
    }

    /// Of the histories before a restore, nothing can be wanted any more.
    async fn prune_others(&self, ours: Uuid) -> Result<usize, Fault> {
        self.delete_listed("meta/", |object| match object.key.kind() {
            ObjectKind::Snapshot { history, .. } | ObjectKind::LogSegment { history, .. } => history != ours,
            _ => false,
        })
        .await
    }

    /// Deletes those objects below a prefix that are not wanted.
    async fn delete_listed(&self, prefix: &str, unwanted: impl Fn(&ObjectInfo) -> bool) -> Result<usize, Fault> {
        let mut deleted = 0;
        let mut next = None;
        loop {
            let page = self.blobs.list(prefix, next.as_deref()).await?;
            let keys = page.items.into_iter().filter(&unwanted).map(|object| object.key).collect();
            deleted += self.delete_all(keys).await?;
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(deleted),
            }
        }
    }

    async fn delete_all(&self, keys: Vec<ObjectKey>) -> Result<usize, Fault> {
        for batch in keys.chunks(MAX_DELETE) {
            self.blobs.delete(batch).await?;
        }
        Ok(keys.len())
    }
}

/// The header of a snapshot in the store.
pub(super) async fn header(store: &dyn BlobStore, key: &ObjectKey) -> Result<SnapshotHeader, Fault> {
    let bytes = marker::read(store, key, SNAPSHOT_HEADER as u64).await?;
    SnapshotHeader::decode(bytes).map_err(|why| Fault::Inconsistent(format!("the snapshot {key}: {why}")))
}

//! What is in the store and in no fact.

use std::time::SystemTime;

use roadstead_blobs::{BlobError, ObjectInfo};
use roadstead_metadata::{CondemnKeys, KeyState};
use roadstead_oci::ObjectKey;
use tracing::warn;

use super::{Finding, Pass, persist};
use crate::fault::Fault;
use crate::limits::SCRUB_LISTED_COST;

impl Pass<'_> {
    /// Every object is written under a key that is reserved before, and forgotten after the object is deleted: one whose
    /// key no fact knows is an orphan, unless it has gone by now.
    pub(super) async fn orphans(&mut self) -> Result<(), Fault> {
        let mut next = None;
        loop {
            let store = &self.registry.blobs;
            let page = persist(|| async { Ok(store.list("", next.as_deref()).await?) }).await?;
            self.pace(SCRUB_LISTED_COST * page.items.len() as u64).await;
            let mut orphans = Vec::new();
            for object in self.unknown(page.items).await? {
                // Deleted and forgotten since the page was made?
                if persist(|| self.is_stored(&object.key)).await? {
                    self.watch.count(|tally| tally.orphan_bytes += object.size);
                    self.watch.find(Finding::of_orphan(object.key.clone(), object.size)).await;
                    orphans.push(object.key);
                }
            }
            if self.options.delete_orphans && !orphans.is_empty() {
                let condemn = CondemnKeys { keys: orphans };
                let Ok(condemned) = persist(|| self.registry.propose(condemn.clone())).await?;
                self.watch.count(|tally| tally.condemned += u64::from(condemned));
            }
            next = page.next;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    async fn is_stored(&self, key: &ObjectKey) -> Result<bool, Fault> {
        match self.registry.blobs.head(key).await {
            Ok(object) => Ok(object.is_some()),
            // One that is damaged is there all the same, and must not end the pass.
            Err(BlobError::Broken(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The old ones of these objects whose keys no fact knows.
    async fn unknown(&self, objects: Vec<ObjectInfo>) -> Result<Vec<ObjectInfo>, Fault> {
        // A reservation that was acknowledged elsewhere before the page was made is seen here then.
        persist(|| async { Ok(self.registry.metadata.linearize().await?) }).await?;
        let query = self.registry.metadata.query()?;
        let mut unknown = Vec::new();
        for object in objects {
            // The backup is not content, and knows itself what it does not need any more.
            let is_content = !object.key.kind().is_backup();
            if is_content && self.is_old(object.modified) && query.key_state(&object.key)?.is_none() {
                unknown.push(object);
            }
        }
        Ok(unknown)
    }

    /// Counts old multipart uploads of no session. The janitor aborts them.
    pub(super) async fn abandoned_multiparts(&mut self) -> Result<(), Fault> {
        let mut next = None;
        loop {
            let page = match self.registry.blobs.list_multiparts(next.as_deref()).await {
                Ok(page) => page,
                // Some stores do not let us list, which is no damage.
                Err(error) => {
                    warn!(reason = %error, "multipart uploads that no fact names were not looked for: {error}");
                    return Ok(());
                }
            };
            let query = self.registry.metadata.query()?;
            for upload in page.items {
                if self.is_old(upload.created) && query.key_state(&upload.key)? != Some(KeyState::Held) {
                    self.watch.count(|tally| tally.multiparts += 1);
                }
            }
            next = page.next;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    fn is_old(&self, made: SystemTime) -> bool {
        let age = self.registry.ports.clock.now().duration_since(made).unwrap_or_default();
        age >= self.options.orphan_age
    }
}

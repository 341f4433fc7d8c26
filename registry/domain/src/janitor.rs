//! Cleaning up behind pushes: sessions that nobody touches, blobs that nothing names, objects that no fact names.
//!
//! The fact dies before the bytes: a key is condemned by an entry of the log, then its object is deleted, then the key
//! is forgotten. A crash between any two leaves work for the next sweep and nothing else.

use std::time::UNIX_EPOCH;

use roadstead_blobs::BlobError;
use roadstead_metadata::{
    CollectBlobs, Collected, CondemnKeys, Condemned, ExpireUploads, ForgetKeys, KeyState, LogTime,
};
use roadstead_oci::ObjectKey;

use crate::fault::Fault;
use crate::limits::{ORPHAN_MULTIPART_AGE, READERS_LEAVE, RESERVATION_EXPIRY, SWEEP_BATCH};
use crate::registry::Registry;

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Repositories that let a blob go which nothing named.
    pub unlinked: u32,
    /// Blobs whose objects were condemned since no repository held them.
    pub condemned: u32,
    /// Objects deleted, or found to be gone.
    pub objects: usize,
    /// Multipart uploads of no session aborted.
    pub multiparts: usize,
    /// Whether a batch was full, so that there may be more to do at once.
    pub more: bool,
}

impl Registry {
    /// Ends what has expired and deletes what is condemned, at most one batch of each. To be called every few seconds,
    /// so that the bytes of a failed push are gone within a minute.
    pub async fn sweep(&self) -> Result<Swept, Fault> {
        // Each step is tried, so that a store that refuses one of them does not keep the others from their work.
        let (expired, unused) = (self.expire_uploads().await, self.condemn_unused_keys().await);
        let (collected, deleted) = (self.collect_garbage().await, self.delete_condemned().await);
        expired.and(unused)?;
        let (Collected { unlinked, condemned }, objects) = (collected?, deleted?);
        let most = u32::try_from(SWEEP_BATCH).unwrap_or(u32::MAX);
        let more = unlinked == most || condemned == most || objects == SWEEP_BATCH;
        Ok(Swept { unlinked, condemned, objects, multiparts: 0, more })
    }

    async fn expire_uploads(&self) -> Result<(), Fault> {
        let before = self.ports.before(&self.metadata, self.options.upload_expiry);
        if self.metadata.query()?.uploads_untouched_since(before, 1)?.is_empty() {
            return Ok(());
        }
        let limit = u32::try_from(SWEEP_BATCH).unwrap_or(u32::MAX);
        let Ok(_expired) = self.propose(ExpireUploads { before, limit }).await?;
        Ok(())
    }

    async fn condemn_unused_keys(&self) -> Result<(), Fault> {
        let keys = self
            .metadata
            .query()?
            .reserved_before(self.ports.before(&self.metadata, RESERVATION_EXPIRY), SWEEP_BATCH)?;
        if !keys.is_empty() {
            let Ok(_condemned) = self.propose(CondemnKeys { keys }).await?;
        }
        Ok(())
    }

    /// Lets go of what nothing has named for a grace. Pushes go on meanwhile: what they name, mount or ask for first
    /// stays, and what comes too late is pushed again.
    async fn collect_garbage(&self) -> Result<Collected, Fault> {
        let before = self.ports.before(&self.metadata, self.options.gc_grace);
        if !self.metadata.query()?.is_garbage_before(before)? {
            return Ok(Collected::default());
        }
        let limit = u32::try_from(SWEEP_BATCH).unwrap_or(u32::MAX);
        let Ok(collected) = self.propose(CollectBlobs { before, limit }).await?;
        Ok(collected)
    }

    async fn delete_condemned(&self) -> Result<usize, Fault> {
        // What no restore can bring back to life, and nobody can still be reading.
        let Some(horizon) = self.deletion_horizon()? else { return Ok(0) };
        let query = self.metadata.query()?;
        let readers_left = self.ports.before(&self.metadata, READERS_LEAVE);
        let mut keys = query.retired(horizon.min(readers_left), SWEEP_BATCH)?;
        let condemned = query.condemned(self.ports.now(&self.metadata), SWEEP_BATCH - keys.len())?;
        drop(query);
        let mut failed = None;
        for Condemned { key, multipart, .. } in condemned {
            let aborted = match multipart {
                Some(id) => self.blobs.abort(&key, &id).await,
                None => Ok(()),
            };
            match aborted {
                Ok(()) => keys.push(key),
                Err(error) => failed = Some(error),
            }
        }
        let gone = self.delete_objects(keys, &mut failed).await;
        let count = gone.len();
        if !gone.is_empty() {
            let Ok(_forgotten) = self.propose(ForgetKeys { keys: gone }).await?;
        }
        failed.map_or(Ok(count), |error| Err(error.into()))
    }

    /// The keys whose objects are gone. Where the store refuses a batch, one object of it may be the reason: the
    /// others go one by one.
    async fn delete_objects(&self, keys: Vec<ObjectKey>, failed: &mut Option<BlobError>) -> Vec<ObjectKey> {
        match self.blobs.delete(&keys).await {
            Ok(()) => return keys,
            Err(error) if error.is_transient() => {
                *failed = Some(error);
                return Vec::new();
            }
            Err(_) => {}
        }
        let mut gone = Vec::new();
        for key in keys {
            match self.blobs.delete(std::slice::from_ref(&key)).await {
                Ok(()) => gone.push(key),
                Err(error) => *failed = Some(error),
            }
        }
        gone
    }

    /// Aborts old multipart uploads that no fact names: a replica that crashed right after creating one left it. To be
    /// called about once an hour.
    pub async fn sweep_multiparts(&self) -> Result<Swept, Fault> {
        let oldest = self.ports.before(&self.metadata, ORPHAN_MULTIPART_AGE);
        let mut swept = Swept::default();
        let mut next = None;
        loop {
            let page = self.blobs.list_multiparts(next.as_deref()).await?;
            for upload in page.items {
                let created = upload.created.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let is_old = LogTime(u64::try_from(created).unwrap_or(u64::MAX)) < oldest;
                let is_held = self.metadata.query()?.key_state(&upload.key)? == Some(KeyState::Held);
                if is_old && !is_held {
                    self.blobs.abort(&upload.key, &upload.id).await?;
                    swept.multiparts += 1;
                }
            }
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(swept),
            }
        }
    }
}

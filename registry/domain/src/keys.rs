//! Keys for objects that are about to be written, reserved in batches.
//!
//! Only a reserved key can be linked, and whatever is reserved and never linked is condemned and deleted. So no object
//! can be left behind unknown, and no sweep can remove one that is about to be named.

use std::collections::VecDeque;

use parking_lot::Mutex;
use roadstead_metadata::{LogTime, Metadata, ReserveKeys};
use roadstead_oci::{Digest, ObjectKey};
use uuid::Uuid;

use crate::fault::Fault;
use crate::limits::{KEYS_PER_RESERVATION, RESERVED_KEY_MAX_AGE};
use crate::ports::Ports;

/// Reserved keys that nothing has used yet.
pub(crate) struct KeyPool {
    blobs: Batch,
    tails: Batch,
}

struct Batch {
    name: fn(Uuid) -> ObjectKey,
    free: Mutex<VecDeque<(LogTime, ObjectKey)>>,
    /// Held while a batch is being reserved, so that a burst of pushes reserves once.
    refill: tokio::sync::Mutex<()>,
}

impl KeyPool {
    pub(crate) fn new() -> Self {
        Self { blobs: Batch::new(ObjectKey::blob), tails: Batch::new(ObjectKey::tail) }
    }

    /// A key for a blob.
    pub(crate) async fn blob(&self, metadata: &Metadata, ports: &Ports) -> Result<ObjectKey, Fault> {
        self.blobs.take(metadata, ports).await
    }

    /// A key for the tail of an upload.
    pub(crate) async fn tail(&self, metadata: &Metadata, ports: &Ports) -> Result<ObjectKey, Fault> {
        self.tails.take(metadata, ports).await
    }

    /// A key for a manifest. It has the manifest's digest in it, so it cannot be reserved before it is wanted.
    pub(crate) async fn manifest(
        &self,
        metadata: &Metadata,
        ports: &Ports,
        digest: Digest,
    ) -> Result<ObjectKey, Fault> {
        let key = ObjectKey::manifest(digest, ports.uuid());
        reserve(metadata, ports, vec![key.clone()]).await?;
        Ok(key)
    }
}

impl Batch {
    fn new(name: fn(Uuid) -> ObjectKey) -> Self {
        Self { name, free: Mutex::default(), refill: tokio::sync::Mutex::default() }
    }

    async fn take(&self, metadata: &Metadata, ports: &Ports) -> Result<ObjectKey, Fault> {
        if let Some(key) = self.pop(ports.now(metadata)) {
            return Ok(key);
        }
        let _turn = self.refill.lock().await;
        if let Some(key) = self.pop(ports.now(metadata)) {
            return Ok(key); // reserved by somebody else while we waited
        }
        let mut keys: Vec<_> = (0..KEYS_PER_RESERVATION).map(|_| (self.name)(ports.uuid())).collect();
        let reserved_at = reserve(metadata, ports, keys.clone()).await?;
        let first = keys.swap_remove(0);
        self.free.lock().extend(keys.into_iter().map(|key| (reserved_at, key)));
        Ok(first)
    }

    /// The oldest key that is still fresh; those that are not are dropped and left to the janitor.
    fn pop(&self, now: LogTime) -> Option<ObjectKey> {
        let mut free = self.free.lock();
        while let Some((reserved_at, key)) = free.pop_front() {
            if u128::from(now.0.saturating_sub(reserved_at.0)) < RESERVED_KEY_MAX_AGE.as_millis() {
                return Some(key);
            }
        }
        None
    }
}

async fn reserve(metadata: &Metadata, ports: &Ports, keys: Vec<ObjectKey>) -> Result<LogTime, Fault> {
    #[cfg(test)]
    let _busy = crate::race::step().await;
    let now = ports.now(metadata);
    match metadata.propose(ports.command_id(), now, ReserveKeys { keys }).await? {
        Ok(()) => Ok(now),
        Err(refused) => Err(Fault::Inconsistent(format!("fresh keys were refused: {refused}"))),
    }
}

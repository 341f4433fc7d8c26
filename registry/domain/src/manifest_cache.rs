//! Manifests in memory.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use roadstead_oci::Digest;

use crate::limits::MANIFEST_CACHE_BYTES;

/// The bytes of manifests that are kept as objects, at most [`MANIFEST_CACHE_BYTES`]; the oldest go first. Content
/// never changes under its digest, and whether a repository has it is asked of the facts each time.
#[derive(Default)]
pub(crate) struct ManifestCache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    bytes: HashMap<Digest, Bytes>,
    order: VecDeque<Digest>,
    total: usize,
}

impl ManifestCache {
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.0.lock().bytes.get(digest).cloned()
    }

    pub(crate) fn insert(&self, digest: Digest, bytes: Bytes) {
        let mut cached = self.0.lock();
        cached.total += bytes.len();
        match cached.bytes.insert(digest, bytes) {
            Some(former) => cached.total -= former.len(),
            None => cached.order.push_back(digest),
        }
        while cached.total > MANIFEST_CACHE_BYTES
            && let Some(oldest) = cached.order.pop_front()
        {
            let removed = cached.bytes.remove(&oldest).map_or(0, |bytes| bytes.len());
            cached.total -= removed;
        }
    }
}

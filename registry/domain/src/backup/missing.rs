//! Whether the objects that facts name are in the store.

use std::collections::VecDeque;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use roadstead_blobs::{BlobError, BlobStore};
use roadstead_metadata::Query;
use roadstead_oci::ObjectKey;

use crate::fault::Fault;
use crate::limits::CHECKS_AT_ONCE;

/// Keys looked at in one step.
const STEP: usize = 1_000;

/// Of more missing objects than this only the number is kept.
const NAMED: usize = 1_000;

/// Objects that facts name and the store does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// How many objects the facts name.
    pub named: u64,
    /// How many of them are missing.
    pub missing: u64,
    /// The first thousand of those.
    pub keys: Vec<ObjectKey>,
}

/// Looks for every object that the facts name: in a listing of the store, which has the same order, and once more by
/// itself if it is not there. So ten million objects cost ten thousand requests.
pub(super) async fn missing(
    store: &dyn BlobStore,
    query: &Query,
    progress: &(impl Fn(u64) + Sync),
) -> Result<Missing, Fault> {
    let mut listing = Listed { store, keys: VecDeque::new(), next: None, more: true };
    let mut found = Missing::default();
    let mut after: Option<ObjectKey> = None;
    loop {
        let linked = query.linked_keys(after.as_ref(), STEP)?;
        let Some(last) = linked.last().cloned() else { return Ok(found) };
        found.named += linked.len() as u64;
        let mut unlisted = Vec::new();
        for key in linked {
            if !listing.has(&key).await? {
                unlisted.push(key);
            }
        }
        let looks = stream::iter(unlisted.into_iter().map(|key| async move {
            let there = store.head(&key).await?.is_some();
            Ok::<_, BlobError>((key, there))
        }));
        let looked: Vec<_> = looks.buffered(CHECKS_AT_ONCE).try_collect().await?;
        for (key, _) in looked.into_iter().filter(|(_, there)| !there) {
            found.missing += 1;
            if found.keys.len() < NAMED {
                found.keys.push(key);
            }
        }
        progress(found.named);
        after = Some(last);
    }
}

/// The keys of a store in order, as far as they were asked for.
struct Listed<'a> {
    store: &'a dyn BlobStore,
    keys: VecDeque<ObjectKey>,
    /// Where the next page begins.
    next: Option<String>,
    /// Whether there is a next page.
    more: bool,
}

impl Listed<'_> {
    /// Whether a key is listed. Keys have to be asked for in order.
    async fn has(&mut self, key: &ObjectKey) -> Result<bool, BlobError> {
        loop {
            while let Some(first) = self.keys.front() {
                if first >= key {
                    return Ok(first == key);
                }
                self.keys.pop_front();
            }
            if !self.more {
                return Ok(false);
            }
            let page = self.store.list("", self.next.as_deref()).await?;
            self.keys.extend(page.items.into_iter().map(|object| object.key));
            self.more = page.next.is_some();
            self.next = page.next;
        }
    }
}

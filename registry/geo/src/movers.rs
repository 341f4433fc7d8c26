//! Moving what is wanted, on the replica that leads: small blobs first, large ones in the order of their announcement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use roadstead_domain::Fault;
use roadstead_metadata::Wanted;
use roadstead_oci::{Digest, RepositoryName};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::fetch::FetchError;
use crate::home::HomeError;
use crate::limits::{LARGE_MOVERS, LOOK, MAX_WANTED_LOOKED_AT, RETRY_PAUSE, SMALL_BYTES, SMALL_MOVERS};
use crate::mirror::Mirror;

/// What is being moved, and what has failed lately.
#[derive(Default)]
struct Moving {
    small: BTreeSet<Digest>,
    large: BTreeSet<Digest>,
    failed: BTreeMap<Digest, Instant>,
}

/// A blob and one of the repositories that want it.
type Order = (Digest, RepositoryName, u64);

impl Mirror {
    /// Moves what is wanted until `stop`, while this replica leads.
    pub async fn move_blobs(self: Arc<Self>, stop: CancellationToken) {
        let mut applied = self.registry.metadata().subscribe_applied();
        let mut moving = Moving::default();
        let mut under_way = FuturesUnordered::new();
        while !stop.is_cancelled() {
            applied.borrow_and_update();
            if self.leads() && self.contact.is_there() {
                match self.orders(&moving) {
                    Ok(orders) => {
                        for (digest, repository, size) in orders {
                            moving.begin(digest, size);
                            let mirror = Arc::clone(&self);
                            under_way.push(async move {
                                let moved = mirror.move_one(&repository, digest, size).await;
                                (digest, repository, moved)
                            });
                        }
                    }
                    Err(fault) => debug!(reason = %fault, "what is wanted could not be read: {fault}"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Some((digest, repository, moved)) = under_way.next() => self.moved(&mut moving, digest, &repository, moved).await,
                // Something else may be wanted.
                _ = timeout(LOOK, applied.changed()) => {}
            }
        }
    }

    /// What is to be moved next.
    fn orders(&self, moving: &Moving) -> Result<Vec<Order>, Fault> {
        let free = |busy: &BTreeSet<Digest>, most: usize| most.saturating_sub(busy.len());
        let (small_free, large_free) = (free(&moving.small, SMALL_MOVERS), free(&moving.large, LARGE_MOVERS));
        if small_free == 0 && large_free == 0 {
            return Ok(Vec::new());
        }
        let query = self.registry.metadata().query()?;
        let mut wanted = query.wanted(None, MAX_WANTED_LOOKED_AT)?;
        // What a scrub has found damaged here is had from home once more.
        wanted.extend(query.wanted_again(MAX_WANTED_LOOKED_AT)?);
        drop(query);
        let now = Instant::now();
        let is_due = |wanted: &Wanted| {
            let failed = moving.failed.get(&wanted.digest).is_some_and(|until| *until > now);
            !failed && !moving.small.contains(&wanted.digest) && !moving.large.contains(&wanted.digest)
        };
        let (mut small, mut large): (Vec<Wanted>, Vec<Wanted>) =
            wanted.into_iter().filter(is_due).partition(|wanted| wanted.size <= SMALL_BYTES);
        small.sort_by_key(|wanted| (wanted.size, wanted.arrival));
        large.sort_by_key(|wanted| wanted.arrival);
        let mut taken = BTreeSet::new();
        let mut take = |from: Vec<Wanted>, free: usize| -> Vec<Order> {
            let fresh = from.into_iter().filter(|wanted| taken.insert(wanted.digest)).take(free);
            fresh.map(|wanted| (wanted.digest, wanted.repository, wanted.size)).collect()
        };
        let mut orders = take(small, small_free);
        orders.extend(take(large, large_free));
        Ok(orders)
    }

    async fn move_one(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
    ) -> Result<(), FetchError> {
        let fetch = self.fetch(repository, digest, Some(size)).await?;
        fetch.kept().await
    }

    async fn moved(
        &self,
        moving: &mut Moving,
        digest: Digest,
        repository: &RepositoryName,
        moved: Result<(), FetchError>,
    ) {
        moving.end(&digest);
        let error = match moved {
            Ok(()) => return,
            Err(error) => error,
        };
        moving.failed.insert(digest, Instant::now() + RETRY_PAUSE);
        match error {
            FetchError::Home(HomeError::Unknown { newest }) => {
                // What deleted it comes in the feed before this place; until then nothing can be said of it.
                let received = self.registry.metadata().query().and_then(|query| query.following());
                let is_received = matches!(received, Ok(Some(following)) if following.position >= newest);
                if is_received && let Err(fault) = self.registry.forsake_blob(repository, digest).await {
                    debug!(%digest, reason = %fault, "a blob that is gone at home is waited for still: {fault}");
                }
            }
            error => debug!(%digest, reason = %error, "a blob did not come and is tried again: {error}"),
        }
    }
}

impl Moving {
    fn begin(&mut self, digest: Digest, size: u64) {
        let now = Instant::now();
        self.failed.retain(|_, until| *until > now);
        if size <= SMALL_BYTES {
            self.small.insert(digest)
        } else {
            self.large.insert(digest)
        };
    }

    fn end(&mut self, digest: &Digest) {
        self.small.remove(digest);
        self.large.remove(digest);
    }
}

//! Moving what is wanted, on the replica that leads: small blobs first, large ones in the order of their announcement, each
//! of those that are looked at in one turn. What fails is tried again after growing pauses, and behind what has not failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use roadstead_domain::Fault;
use roadstead_metadata::Wanted;
use roadstead_oci::{Digest, RepositoryName};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::fetch::FetchError;
use crate::home::HomeError;
use crate::limits::{
    LARGE_MOVERS, LONGEST_RETRY_PAUSE, LOOK, MAX_WANTED_LOOKED_AT, MAX_WANTED_TURNS, RETRY_PAUSE, SMALL_BYTES,
    SMALL_MOVERS, STUCK_AFTER,
};
use crate::mirror::Mirror;

/// What is being moved, and what has failed lately.
#[derive(Default)]
struct Moving {
    small: BTreeSet<Digest>,
    large: BTreeSet<Digest>,
    failing: BTreeMap<Digest, Failing>,
}

/// A blob that did not come whenever it was tried.
#[derive(Clone, Copy)]
struct Failing {
    since: Instant,
    /// It is not tried before.
    until: Instant,
    pause: Duration,
}

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
                        for wanted in orders {
                            moving.begin(wanted.digest, wanted.size);
                            let mirror = Arc::clone(&self);
                            under_way.push(async move {
                                let moved = mirror.move_one(&wanted).await;
                                (wanted, moved)
                            });
                        }
                    }
                    Err(fault) => debug!(reason = %fault, "what is wanted could not be read: {fault}"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Some((wanted, moved)) = under_way.next() => self.moved(&mut moving, &wanted, moved).await,
                // Something else may be wanted.
                _ = timeout(LOOK, applied.changed()) => {}
            }
        }
    }

    /// What is to be moved next.
    fn orders(&self, moving: &Moving) -> Result<Vec<Wanted>, Fault> {
        let free = |busy: &BTreeSet<Digest>, most: usize| most.saturating_sub(busy.len());
        let large_movers = if self.copies_ahead() { LARGE_MOVERS } else { 0 };
        let (small_free, large_free) = (free(&moving.small, SMALL_MOVERS), free(&moving.large, large_movers));
        if small_free == 0 && large_free == 0 {
            return Ok(Vec::new());
        }
        let query = self.registry.metadata().query()?;
        // What a scrub has found damaged here is had from home once more.
        let mut wanted = query.wanted_again(MAX_WANTED_LOOKED_AT)?;
        wanted.retain(|wanted| moving.is_due(&wanted.digest));
        let mut last: Option<(Digest, RepositoryName)> = None;
        for _ in 0..MAX_WANTED_TURNS {
            let after = last.as_ref().map(|(digest, repository)| (digest, repository));
            let page = query.wanted(after, MAX_WANTED_LOOKED_AT)?;
            last = page.last().map(|wanted| (wanted.digest, wanted.repository.clone()));
            let is_last = page.len() < MAX_WANTED_LOOKED_AT;
            wanted.extend(page.into_iter().filter(|wanted| moving.is_due(&wanted.digest)));
            // Those that fail must not hide the others.
            let fresh = wanted.iter().filter(|wanted| !moving.failing.contains_key(&wanted.digest)).count();
            if is_last || fresh >= SMALL_MOVERS + LARGE_MOVERS {
                break;
            }
        }
        drop(query);
        let (mut small, mut large): (Vec<Wanted>, Vec<Wanted>) =
            wanted.into_iter().partition(|wanted| wanted.size <= SMALL_BYTES);
        let has_failed = |wanted: &Wanted| moving.failing.contains_key(&wanted.digest);
        small.sort_by_key(|wanted| (has_failed(wanted), wanted.size, wanted.arrival));
        large.sort_by_key(|wanted| (has_failed(wanted), wanted.arrival));
        let mut taken = BTreeSet::new();
        let mut take = |from: Vec<Wanted>, free: usize| -> Vec<Wanted> {
            from.into_iter().filter(|wanted| taken.insert(wanted.digest)).take(free).collect()
        };
        let mut orders = take(small, small_free);
        orders.extend(take(large, large_free));
        Ok(orders)
    }

    async fn move_one(self: &Arc<Self>, wanted: &Wanted) -> Result<(), FetchError> {
        let fetch = self.fetch(&wanted.repository, wanted.digest, Some(wanted.size)).await?;
        match fetch.kept().await {
            // One that was begun for another repository says nothing of what home holds in this one.
            Err(FetchError::Home(HomeError::Unknown { .. })) if *fetch.repository() != wanted.repository => {
                Err(HomeError::Away("home does not hold it in another repository".to_owned()).into())
            }
            kept => kept,
        }
    }

    async fn moved(&self, moving: &mut Moving, wanted: &Wanted, moved: Result<(), FetchError>) {
        let Wanted { digest, ref repository, arrival, .. } = *wanted;
        moving.end(&digest);
        let error = match moved {
            Ok(()) => {
                moving.failing.remove(&digest);
                return;
            }
            Err(FetchError::PutOff) => return,
            Err(error) => error,
        };
        let since = moving.failed(digest);
        match error {
            FetchError::Home(HomeError::Unknown { newest }) => {
                // What deleted it comes in the feed before this place; until then nothing can be said of it.
                let received = self.registry.metadata().query().and_then(|query| query.following());
                let is_received = matches!(
                    received,
                    Ok(Some(following)) if following.position >= newest && !following.comparing
                );
                if !is_received {
                    self.note_stuck(&format!("{repository} waits for {digest}, which home has deleted"));
                } else if let Err(fault) = self.registry.forsake_blob(repository, digest, arrival).await {
                    debug!(%digest, reason = %fault, "a blob that is gone at home is waited for still: {fault}");
                }
            }
            error => {
                debug!(%digest, reason = %error, "a blob did not come and is tried again: {error}");
                if since.elapsed() > STUCK_AFTER && self.contact.is_there() {
                    self.note_stuck(&format!("{repository} waits for {digest}: {error}"));
                }
            }
        }
    }
}

impl Moving {
    fn begin(&mut self, digest: Digest, size: u64) {
        if size <= SMALL_BYTES {
            self.small.insert(digest)
        } else {
            self.large.insert(digest)
        };
    }

    /// It did not come; since when it does not.
    fn failed(&mut self, digest: Digest) -> Instant {
        let now = Instant::now();
        if self.failing.len() >= MAX_WANTED_LOOKED_AT {
            // Those that fail still are noted again.
            self.failing.clear();
        }
        let former = self.failing.get(&digest);
        let (since, pause) =
            former.map_or((now, RETRY_PAUSE), |former| (former.since, (former.pause * 2).min(LONGEST_RETRY_PAUSE)));
        self.failing.insert(digest, Failing { since, until: now + pause, pause });
        since
    }

    /// Whether it may be tried now.
    fn is_due(&self, digest: &Digest) -> bool {
        let is_put_off = self.failing.get(digest).is_some_and(|failing| failing.until > Instant::now());
        !is_put_off && !self.small.contains(digest) && !self.large.contains(digest)
    }

    fn end(&mut self, digest: &Digest) {
        self.small.remove(digest);
        self.large.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::sha256;

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_after_growing_pauses() {
        let (mut moving, digest, began) = (Moving::default(), sha256(b"blob"), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(moving.is_due(&digest));
            assert_eq!(moving.failed(digest), began);
            let failed = Instant::now();
            while !moving.is_due(&digest) {
                tokio::time::advance(Duration::from_millis(500)).await;
            }
            pauses.push(failed.elapsed());
        }
        assert_eq!((pauses[0], pauses[7]), (RETRY_PAUSE, LONGEST_RETRY_PAUSE));
        assert!(pauses.is_sorted());
        moving.begin(digest, 5);
        assert!(!moving.is_due(&digest), "it is on its way");
    }
}

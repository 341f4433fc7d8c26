//! What waits in the inbox for somebody to do something: manifests that home has to be asked for, and changes whose turn
//! has come while nobody looked.
//!
//! Each repository waits for itself: one whose manifest home does not give, or gives damaged, holds up no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use roadstead_domain::{Fault, HomesManifest};
use roadstead_metadata::{Arrival, HeldManifest, Unresolved};
use roadstead_oci::{Digest, Reference, RepositoryName, Tag};
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::follow::{FollowError, in_time};
use crate::home::HomeError;
use crate::limits::{
    FIRST_PAUSE, LONGEST_RESOLVE_PAUSE, LOOK, MAX_LOOKED_AT, RESOLVED_AT_ONCE, RETRY_PAUSE, STUCK_AFTER,
};
use crate::mirror::Mirror;

/// What was found out about the manifests for which repositories wait, each the first in its inbox.
#[derive(Default)]
struct Asked(Mutex<BTreeMap<RepositoryName, Answer>>);

struct Answer {
    arrival: Arrival,
    /// Whether the repository is there in the pass that is being made.
    is_current: bool,
    told: Told,
}

enum Told {
    /// It is there, and names these blobs, of which some were wanted still.
    Names(Vec<Digest>),
    /// It was not to be had.
    Failed { since: Instant, until: Instant, pause: Duration },
}

impl Mirror {
    /// Resolves what waits, until `stop`, while this replica leads.
    pub async fn resolve(self: Arc<Self>, stop: CancellationToken) {
        let asked = Asked::default();
        let mut mend_due = Instant::now();
        while !stop.is_cancelled() {
            if mend_due <= Instant::now() && self.leads() && self.contact.is_there() {
                if let Err(error) = self.mend_manifests(&stop).await {
                    debug!(reason = %error, "manifests that are damaged here are asked for again: {error}");
                }
                mend_due = Instant::now() + RETRY_PAUSE;
            }
            let resolved = if self.leads() { self.resolve_all(&asked).await } else { Ok(false) };
            match resolved {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    debug!(reason = %error, "what waits in the inbox is looked at again: {error}");
                }
            }
            // Either way it is time to look again.
            let _ = timeout(LOOK, stop.cancelled()).await;
        }
    }

    /// Has manifests from home once more that a scrub has found damaged here.
    async fn mend_manifests(&self, stop: &CancellationToken) -> Result<(), FollowError> {
        let query = self.registry.metadata().query().map_err(Fault::from)?;
        let damaged = query.manifests(true, None, MAX_LOOKED_AT).map_err(Fault::from)?;
        drop(query);
        for HeldManifest { repository, digest, .. } in damaged {
            if stop.is_cancelled() || !self.leads() {
                return Ok(());
            }
            match in_time(self.home.manifest(&repository, &Reference::Digest(digest))).await {
                Ok(manifest) => match HomesManifest::verify(digest, &manifest.media_type, manifest.bytes) {
                    Ok(manifest) => {
                        self.registry.mend_manifest(&repository, manifest).await?;
                    }
                    Err(error) => debug!(%repository, reason = %error, "a manifest stays damaged here: {error}"),
                },
                // It goes here too when the feed says so, or is damaged there.
                Err(error) => debug!(%repository, %digest, reason = %error, "a manifest stays damaged here: {error}"),
            }
        }
        Ok(())
    }

    /// Looks at each repository once; whether something was done.
    async fn resolve_all(&self, asked: &Asked) -> Result<bool, Fault> {
        let (mut after, mut done) = (None, false);
        asked.begin_pass();
        loop {
            let query = self.registry.metadata().query()?;
            let (found, last) = query.unresolved(after.as_ref(), MAX_LOOKED_AT)?;
            drop(query);
            let resolved = stream::iter(found).map(|unresolved| self.resolve_one(asked, unresolved));
            let mut resolved = resolved.buffer_unordered(RESOLVED_AT_ONCE);
            while let Some(resolved) = resolved.next().await {
                done |= resolved;
            }
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        asked.end_pass();
        Ok(done)
    }

    /// Whether something was done.
    async fn resolve_one(&self, asked: &Asked, unresolved: Unresolved) -> bool {
        match unresolved {
            Unresolved::Ready(repository) => match self.registry.advance_inbox(&repository).await {
                Ok(advanced) => advanced.published > 0,
                Err(error) => {
                    debug!(%repository, reason = %error, "what has its turn is published later: {error}");
                    false
                }
            },
            Unresolved::Manifest { repository, arrival, digest, tags } => {
                match self.ask_for(asked, &repository, arrival, digest, tags).await {
                    Ok(done) => done,
                    Err(error) => {
                        self.note_failed(asked, &repository, arrival, digest, &error);
                        false
                    }
                }
            }
        }
    }

    async fn ask_for(
        &self,
        asked: &Asked,
        repository: &RepositoryName,
        arrival: Arrival,
        digest: Digest,
        tags: Vec<Tag>,
    ) -> Result<bool, FollowError> {
        if !asked.is_due(repository, arrival, |blobs| self.wants_any(repository, blobs))? {
            return Ok(false);
        }
        let manifest = match in_time(self.home.manifest(repository, &Reference::Digest(digest))).await {
            Ok(manifest) => manifest,
            Err(HomeError::Unknown { .. }) => {
                debug!(%repository, %digest, "home has deleted a manifest before it could be received");
                return Ok(self.registry.resolve_manifest(repository, arrival, None).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let manifest = HomesManifest::verify(digest, &manifest.media_type, manifest.bytes)?;
        let blobs = manifest.blobs();
        // A large one is an object: it is stored when it can be published, and once.
        if self.wants_any(repository, &blobs)? {
            asked.note(repository, arrival, Told::Names(blobs));
            return Ok(false);
        }
        let put = self.registry.store_received(repository, manifest, tags).await?;
        Ok(self.registry.resolve_manifest(repository, arrival, Some(put)).await?)
    }

    fn wants_any(&self, repository: &RepositoryName, blobs: &[Digest]) -> Result<bool, Fault> {
        let query = self.registry.metadata().query()?;
        for blob in blobs {
            if query.is_wanted(repository, blob)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn note_failed(
        &self,
        asked: &Asked,
        repository: &RepositoryName,
        arrival: Arrival,
        digest: Digest,
        error: &FollowError,
    ) {
        let (is_first, since) = asked.note_failed(repository, arrival);
        let is_home_away = matches!(error, FollowError::Home(HomeError::Away(_))) && !self.contact.is_there();
        if is_first && !is_home_away {
            warn!(%repository, %digest, reason = %error, "a repository waits for a manifest that is not to be had: {error}");
        } else {
            debug!(%repository, %digest, reason = %error, "a manifest is asked for again: {error}");
        }
        if !is_home_away && since.elapsed() > STUCK_AFTER {
            self.note_stuck(&format!("{repository} waits for the manifest {digest}: {error}"));
        }
    }
}

impl Asked {
    fn begin_pass(&self) {
        for answer in self.0.lock().values_mut() {
            answer.is_current = false;
        }
    }

    /// Forgets those who wait for nothing any more.
    fn end_pass(&self) {
        self.0.lock().retain(|_, answer| answer.is_current);
    }

    /// Whether home is to be asked: not again for a manifest whose blobs are on their way, nor soon after it failed.
    fn is_due(
        &self,
        repository: &RepositoryName,
        arrival: Arrival,
        wants_any: impl Fn(&[Digest]) -> Result<bool, Fault>,
    ) -> Result<bool, Fault> {
        let mut answers = self.0.lock();
        let Some(answer) = answers.get_mut(repository).filter(|answer| answer.arrival == arrival) else {
            return Ok(true);
        };
        answer.is_current = true;
        match &answer.told {
            Told::Names(blobs) => Ok(!wants_any(blobs)?),
            Told::Failed { until, .. } => Ok(*until <= Instant::now()),
        }
    }

    fn note(&self, repository: &RepositoryName, arrival: Arrival, told: Told) {
        let mut answers = self.0.lock();
        // One that is not noted is asked for again: that costs a request.
        if answers.len() < MAX_LOOKED_AT || answers.contains_key(repository) {
            answers.insert(repository.clone(), Answer { arrival, is_current: true, told });
        }
    }

    /// Whether it had not failed before, and since when it fails.
    fn note_failed(&self, repository: &RepositoryName, arrival: Arrival) -> (bool, Instant) {
        let now = Instant::now();
        let former = self.0.lock().get(repository).and_then(|answer| match answer.told {
            Told::Failed { since, pause, .. } if answer.arrival == arrival => Some((since, pause)),
            Told::Failed { .. } | Told::Names(_) => None,
        });
        let (since, pause) =
            former.map_or((now, FIRST_PAUSE), |(since, pause)| (since, (pause * 2).min(LONGEST_RESOLVE_PAUSE)));
        self.note(repository, arrival, Told::Failed { since, until: now + pause, pause });
        (former.is_none(), since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> RepositoryName {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_asked_for_again_after_growing_pauses_and_holds_up_nothing_else() {
        let (asked, one, two) = (Asked::default(), repository("one"), repository("two"));
        let is_due = |name: &RepositoryName, arrival| asked.is_due(name, Arrival(arrival), |_| Ok(false)).unwrap();
        let (mut waited, began) = (Vec::new(), Instant::now());
        for round in 0..12 {
            assert!(is_due(&one, 7));
            let (is_first, since) = asked.note_failed(&one, Arrival(7));
            assert_eq!((is_first, since), (round == 0, began));
            assert!(!is_due(&one, 7) && is_due(&two, 7) && is_due(&one, 8));
            let failed = Instant::now();
            while !is_due(&one, 7) {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            waited.push(failed.elapsed());
        }
        assert_eq!(waited[0], FIRST_PAUSE);
        assert_eq!(waited[11], LONGEST_RESOLVE_PAUSE);
        assert!(waited.is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_manifest_whose_blobs_are_on_their_way_is_not_asked_for_again() {
        let (asked, name) = (Asked::default(), repository("one"));
        let blob: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        asked.note(&name, Arrival(7), Told::Names(vec![blob]));
        assert!(!asked.is_due(&name, Arrival(7), |_| Ok(true)).unwrap());
        assert!(asked.is_due(&name, Arrival(7), |blobs| Ok(blobs != [blob])).unwrap());
        // Whoever waits for nothing any more is forgotten.
        asked.begin_pass();
        assert!(!asked.is_due(&name, Arrival(7), |_| Ok(true)).unwrap());
        asked.end_pass();
        assert!(!asked.is_due(&name, Arrival(7), |_| Ok(true)).unwrap());
        asked.begin_pass();
        asked.end_pass();
        assert!(asked.is_due(&name, Arrival(7), |_| Ok(true)).unwrap());
    }
}

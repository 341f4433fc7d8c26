//! Scrub: looks at everything the registry has, whether it still is what it was.
//!
//! ```text
//!  facts, a page at a time --> read and hash each object, at a set rate --> as it should be: nothing
//!                                          |                                (and let out of quarantine)
//!                                          '- not: look at the facts again, read once more --> SetQuarantine
//!  store, a page at a time --> no fact knows the key? look again --> an orphan (and condemned, if so asked)
//! ```
//!
//! * Nothing is deleted but orphans, and those only if somebody says so, in the way of everything that is deleted: by a
//!   key that is condemned in the log.
//! * What is damaged or missing is answered as if it were not there, so that the next push of it mends it.
//! * What goes meanwhile is no damage: each finding is held against the facts again, at last inside `apply`.
//! * An object that the store fails to read may be sound. It is told of, and stays as it is.

mod content;
mod finding;
mod orphans;
#[cfg(test)]
mod tests;
mod throttle;

use std::time::Duration;

pub use finding::{Finding, FindingKind, ScrubWatch, Tally};
use roadstead_metadata::{Examined, HeldManifest, HeldObject, ManifestContent};
use roadstead_oci::Digest;
use tokio::time::{Instant, sleep_until};

use self::content::Bytes;
use self::throttle::Throttle;
use crate::fault::Fault;
use crate::limits::{SCRUB_MANIFESTS_PAGE, SCRUB_MAX_RECOUNTED, SCRUB_OBJECTS_PAGE, SCRUB_RETRIES, SCRUB_RETRY_PAUSE};
use crate::registry::Registry;

/// How a pass goes about it.
#[derive(Clone, Copy, Debug)]
pub struct ScrubOptions {
    /// Bytes a second that are read; 0 for as many as come.
    pub rate: u64,
    /// An object that no fact knows is an orphan when it is this old.
    pub orphan_age: Duration,
    /// Whether orphans are condemned, and so deleted.
    pub delete_orphans: bool,
}

/// One pass under way.
struct Pass<'a> {
    registry: &'a Registry,
    options: &'a ScrubOptions,
    watch: &'a ScrubWatch,
    began: Instant,
    throttle: Throttle,
    unreadable_in_a_row: u32,
}

impl Registry {
    /// Examines everything once, telling `watch` how far it is and what it finds. May be dropped at any time: what it
    /// found until then is done.
    pub async fn scrub(&self, options: &ScrubOptions, watch: &ScrubWatch) -> Result<Tally, Fault> {
        let (began, throttle) = (Instant::now(), Throttle::new(options.rate));
        let mut pass = Pass { registry: self, options, watch, began, throttle, unreadable_in_a_row: 0 };
        // What this pass sets aside is not to be looked at by it again.
        for quarantined in [true, false] {
            pass.blobs(quarantined).await?;
            pass.manifests(quarantined).await?;
        }
        pass.orphans().await?;
        pass.abandoned_multiparts().await?;
        watch.count(|tally| tally.percent = 100);
        Ok(watch.tally())
    }
}

/// Tries again what may succeed later: a pass of days must outlive an election, or a store that starts again.
async fn persist<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    for _ in 0..SCRUB_RETRIES {
        match attempt().await {
            Err(fault) if fault.is_transient() => sleep_until(Instant::now() + SCRUB_RETRY_PAUSE).await,
            ended => return ended,
        }
    }
    attempt().await
}

impl Pass<'_> {
    async fn blobs(&mut self, quarantined: bool) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let page = self.blobs_page(quarantined, after).await?;
            let Some(HeldObject { digest: last, .. }) = page.last() else { return Ok(()) };
            after = Some(*last);
            for HeldObject { digest, size, key, .. } in page {
                if !quarantined {
                    // Hashes are spread evenly, so this is how many of them were looked at.
                    let first = digest.hash().first().copied().unwrap_or_default();
                    self.watch.count(|tally| tally.percent = u8::try_from(u32::from(first) * 100 / 256).unwrap_or(100));
                }
                let bytes = Bytes::Object(key.clone());
                self.examine(Examined::Blob { digest, key }, size, bytes, quarantined).await?;
            }
        }
    }

    /// Objects, whose count of holders is compared with the holders that there are.
    async fn blobs_page(&self, quarantined: bool, after: Option<Digest>) -> Result<Vec<HeldObject>, Fault> {
        let mut miscounted = Vec::new();
        let page = {
            let query = self.registry.metadata.query()?;
            let page = query.objects(quarantined, after.as_ref(), SCRUB_OBJECTS_PAGE)?;
            for object in page.iter().filter(|object| object.memberships <= SCRUB_MAX_RECOUNTED as u64) {
                let holders = query.holders(&object.digest, None, SCRUB_MAX_RECOUNTED + 1)?.len() as u64;
                if holders != object.memberships {
                    let reason =
                        format!("{} repositories are counted that hold it, and {holders} do", object.memberships);
                    miscounted.push(Finding::of_blob(FindingKind::Miscounted, object.digest, &object.key, reason));
                }
            }
            page
        };
        for finding in miscounted {
            self.watch.find(finding).await;
        }
        Ok(page)
    }

    async fn manifests(&mut self, quarantined: bool) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let place = after.as_ref().map(|(repository, digest)| (repository, digest));
            let page = self.registry.metadata.query()?.manifests(quarantined, place, SCRUB_MANIFESTS_PAGE)?;
            let Some(HeldManifest { repository, digest, .. }) = page.last() else { return Ok(()) };
            after = Some((repository.clone(), *digest));
            for HeldManifest { repository, digest, size, content } in page {
                let bytes = match &content {
                    ManifestContent::Inline(bytes) => Bytes::Here(bytes.clone()),
                    ManifestContent::Object(key) => Bytes::Object(key.clone()),
                };
                self.examine(Examined::Manifest { repository, digest, content }, size, bytes, quarantined).await?;
            }
        }
    }

    /// Waits until so many more bytes may be read.
    async fn pace(&mut self, bytes: u64) {
        let wait = self.throttle.take(bytes, self.began.elapsed());
        if !wait.is_zero() {
            sleep_until(Instant::now() + wait).await;
        }
    }
}

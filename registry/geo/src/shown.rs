//! Home's side of uploads in progress: what one mirror is told of them, in the lines of its feed.

use roadstead_domain::{Fault, Registry};
use roadstead_metadata::{Position, Query};
use roadstead_oci::UploadId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::limits::{MAX_SHOWN_UPLOADS, SHOWN_LOOK, UPLOADS_LOOKED_AT};
use crate::wire::WireUpload;

/// What a mirror was told of uploads, over one connection.
#[derive(Default)]
pub struct Shown {
    /// Nothing before the first line.
    told: Option<Vec<WireUpload>>,
}

impl Shown {
    /// Of a mirror that was told nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What there is to tell, if it is other than what was told last; it counts as told. That there is nothing is told
    /// first, since the mirror may know of some from an earlier connection.
    pub(crate) fn news(&mut self, registry: &Registry, query: &Query) -> Result<Option<Vec<WireUpload>>, Fault> {
        let shown = self.look(registry, query)?;
        let is_news = self.told.as_ref() != Some(&shown);
        self.told = Some(shown.clone());
        Ok(is_news.then_some(shown))
    }

    /// Returns when the feed has changed, or there is something else to tell of uploads.
    pub async fn until_news(
        &self,
        registry: &Registry,
        newest: &mut watch::Receiver<Position>,
        applied: &mut watch::Receiver<u64>,
    ) {
        loop {
            tokio::select! {
                _ = newest.changed() => return,
                more = applied.changed() => if more.is_err() { return },
            }
            if self.has_news(registry) {
                return;
            }
            tokio::select! {
                _ = newest.changed() => return,
                () = sleep_until(Instant::now() + SHOWN_LOOK) => {}
            }
        }
    }

    fn has_news(&self, registry: &Registry) -> bool {
        let query = registry.metadata().query().map_err(Fault::from);
        let shown = query.and_then(|query| self.look(registry, &query));
        // A fault is told by the line.
        shown.map_or(true, |shown| self.told.as_ref() != Some(&shown))
    }

    /// Those in progress first, of which none gives way to another; then those that have become blobs, the newest first.
    fn look(&self, registry: &Registry, query: &Query) -> Result<Vec<WireUpload>, Fault> {
        if !registry.shows_uploads() {
            return Ok(Vec::new());
        }
        let told = self.told.as_deref().unwrap_or_default();
        let known: Vec<UploadId> = told.iter().filter(|told| told.digest.is_none()).map(|told| told.upload).collect();
        if self.told.is_some() && known.is_empty() && query.uploads_open()? == 0 {
            return Ok(told.to_vec());
        }
        let newest = query.uploads_touched_last(UPLOADS_LOOKED_AT)?;
        let others = newest.into_iter().filter(|upload| !known.contains(upload));
        let (mut going_on, mut whole) = (Vec::new(), Vec::new());
        for upload in known.iter().copied().chain(others) {
            let Some(outline) = registry.shown_upload(query, &upload)? else { continue };
            let shown =
                WireUpload { upload, repository: outline.repository, offset: outline.whole, digest: outline.digest };
            if shown.digest.is_none() { going_on.push(shown) } else { whole.push(shown) }
        }
        going_on.extend(whole);
        going_on.truncate(MAX_SHOWN_UPLOADS);
        Ok(going_on)
    }
}

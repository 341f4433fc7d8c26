//! Home's side of uploads in progress: what one mirror is told of them, in the lines of its feed.

use roadstead_domain::{Fault, Registry};
use roadstead_metadata::{Position, Query, UploadOutline};
use roadstead_oci::UploadId;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

use crate::limits::{MAX_SHOWN_UPLOADS, SHOWN_IDLE, SHOWN_LOOK, UPLOADS_LOOKED_AT};
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

    /// What there is to tell, of those that are told already and of those that were changed last.
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
        let (mut looked, now) = (Vec::new(), query.time()?);
        for upload in known.iter().copied().chain(others) {
            let Some(outline) = registry.shown_upload(query, &upload)? else { continue };
            let is_idle = Duration::from_millis(now.0.saturating_sub(outline.touched.0)) > SHOWN_IDLE;
            let UploadOutline { repository, whole: offset, digest, .. } = outline;
            looked.push((WireUpload { upload, repository, offset, digest }, is_idle));
        }
        Ok(in_order(looked))
    }
}

/// Those in progress first, of which none gives way to a later one as long as its client goes on with it; then those that have
/// become blobs. Each with whether nobody has gone on with it for long.
fn in_order(looked: Vec<(WireUpload, bool)>) -> Vec<WireUpload> {
    let (going_on, whole): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(upload, _)| upload.digest.is_none());
    let (idle, busy): (Vec<_>, Vec<_>) = going_on.into_iter().partition(|(_, is_idle)| *is_idle);
    let all = busy.into_iter().chain(idle).chain(whole);
    all.map(|(upload, _)| upload).take(MAX_SHOWN_UPLOADS).collect()
}

#[cfg(test)]
mod tests {
    use roadstead_oci::{Algorithm, Hasher};

    use super::*;

    #[test]
    fn an_upload_that_nobody_goes_on_with_gives_way_to_a_later_one_and_no_other_does() {
        let id = |number: usize| -> UploadId { format!("67e55044-10b1-426f-9247-{number:012x}").parse().unwrap() };
        let upload = |number: usize, is_whole: bool| WireUpload {
            upload: id(number),
            repository: "app".parse().unwrap(),
            offset: 300,
            digest: is_whole.then(|| *Hasher::digest(Algorithm::Sha256, b"blob").get()),
        };
        let ids = |uploads: Vec<WireUpload>| uploads.into_iter().map(|upload| upload.upload).collect::<Vec<_>>();
        let few = vec![(upload(1, true), false), (upload(2, false), true), (upload(3, false), false)];
        assert_eq!(ids(in_order(few)), [3, 2, 1].map(id));
        let many = (0..=MAX_SHOWN_UPLOADS).map(|number| (upload(number, false), number == 2)).collect();
        let expected: Vec<_> = (0..=MAX_SHOWN_UPLOADS).filter(|number| *number != 2).map(id).collect();
        assert_eq!(ids(in_order(many)), expected);
    }
}

//! Home's side of the feed: what a mirror is told.

use roadstead_domain::{Acknowledge, Fault, Registry};
use roadstead_metadata::{ChangeKind, ChangesError, ManifestContent, Position, Query};

use crate::limits::{MAX_PAGE_BYTES, MAX_PAGE_CHANGES};
use crate::region::in_line;
use crate::relay::Terms;
use crate::shown::Shown;
use crate::wire::{FeedLine, HomeId, WireChange, WireManifest, line};

/// Why a feed does not go on.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The mirror has to compare itself with home anew.
    #[error("the feed does not go on from there: {0}")]
    Resynchronise(String),
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<ChangesError> for FeedError {
    fn from(error: ChangesError) -> Self {
        match error {
            ChangesError::Trimmed { .. } | ChangesError::Foreign { .. } => Self::Resynchronise(error.to_string()),
            ChangesError::Query(error) => Self::Fault(error.into()),
        }
    }
}

/// The line that follows `after`, and the place behind it. `shown` is what the mirror that is told was told of uploads.
pub fn feed_line(
    registry: &Registry,
    after: Position,
    terms: Terms,
    shown: &mut Shown,
) -> Result<(Vec<u8>, Position), FeedError> {
    let metadata = registry.metadata();
    let changes = metadata.changes(after, MAX_PAGE_CHANGES)?;
    let query = metadata.query().map_err(Fault::from)?;
    let (mut sent, mut bytes, mut last) = (Vec::new(), 0, after);
    for change in changes {
        let manifest = manifest(&query, &change.kind)?;
        bytes += manifest.as_ref().map_or(0, |manifest| manifest.text.len());
        last = change.position;
        sent.push(WireChange::of(change, manifest));
        if bytes >= MAX_PAGE_BYTES {
            break;
        }
    }
    // A blob that is among the changes was closed before `query` was taken: so it is told here which upload it was.
    let uploads = shown.news(registry, &query)?;
    let feed = FeedLine { changes: sent, uploads, ..watermark_of(registry, &query, terms)? };
    Ok((line(&feed)?, last))
}

/// A line that says only how far home is.
pub fn watermark(registry: &Registry, terms: Terms) -> Result<Vec<u8>, FeedError> {
    let metadata = registry.metadata();
    let query = metadata.query().map_err(Fault::from)?;
    Ok(line(&watermark_of(registry, &query, terms)?)?)
}

fn watermark_of(registry: &Registry, query: &Query, terms: Terms) -> Result<FeedLine, Fault> {
    let own = registry.metadata().identity().cluster;
    let region = in_line(&query.region(own)?);
    let newest = query.position()?;
    Ok(FeedLine {
        home: HomeId(own),
        newest,
        time: registry.log_time(),
        changes: Vec::new(),
        writes: terms.writes,
        region,
        reports: registry.acknowledges() != Acknowledge::Local,
        partial: terms.partial,
        uploads: None,
    })
}

/// The manifest that a change put, if it is in the facts and still there.
fn manifest(query: &Query, kind: &ChangeKind) -> Result<Option<WireManifest>, Fault> {
    let ChangeKind::ManifestPut { repository, digest, .. } = kind else { return Ok(None) };
    let Some(stored) = query.manifest(repository, digest)? else { return Ok(None) };
    let ManifestContent::Inline(bytes) = stored.content else { return Ok(None) };
    // Manifests are JSON; whatever is not is fetched as it is.
    let text = String::from_utf8(bytes.into()).ok();
    Ok(text.map(|text| WireManifest { media_type: stored.media_type, text }))
}

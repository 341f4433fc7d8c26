//! Questions about uploads in progress, for whoever is told of them while they go on.

use roadstead_oci::{Digest, RepositoryName, UploadId};

use super::{Query, QueryError};
use crate::Tail;
use crate::state::keyspace::{UPLOADS, UPLOADS_BY_AGE};
use crate::state::rows::{Phase, UploadRow};

/// An upload session without its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadOutline {
    /// Where it pushes to.
    pub repository: RepositoryName,
    /// Bytes in full parts, which are durable; of one that is being completed or is a blob, all bytes.
    pub whole: u64,
    /// What the bytes were verified to be, once all of them were.
    pub digest: Option<Digest>,
}

impl Query {
    /// The sessions that were changed last, finished ones included, the newest first.
    pub fn uploads_touched_last(&self, limit: usize) -> Result<Vec<UploadId>, QueryError> {
        let newest = self.rows.scan(UPLOADS_BY_AGE, UPLOADS_BY_AGE.all())?.rev();
        newest.take(limit).map(|row| row.map(|((_, upload), ())| upload)).collect()
    }

    /// How far a session is. Takes no longer the more parts it has.
    pub fn upload_outline(&self, upload: &UploadId) -> Result<Option<UploadOutline>, QueryError> {
        let Some(UploadRow { repository, phase, .. }) = self.rows.get(UPLOADS, upload)? else { return Ok(None) };
        let (whole, digest) = match phase {
            Phase::Receiving(receiving) => {
                let tail = match &receiving.tail {
                    Some(Tail::Object { size, .. }) => *size,
                    Some(Tail::FinalPart(part)) => part.size,
                    None => 0,
                };
                (receiving.offset.saturating_sub(tail), None)
            }
            Phase::Completing { digest, size, .. } | Phase::Finished { digest, size, .. } => (size, Some(digest)),
        };
        Ok(Some(UploadOutline { repository, whole, digest }))
    }
}

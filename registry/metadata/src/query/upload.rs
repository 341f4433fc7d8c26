//! Questions about uploads in progress, for whoever is told of them while they go on.

use roadstead_oci::{Digest, Part, RepositoryName, UploadId};

use super::{Query, QueryError};
use crate::state::keyspace::{SHOWN_PARTS, UPLOADS, UPLOADS_BY_AGE};
use crate::state::rows::{PartRow, Phase, UploadRow};
use crate::{LogTime, Tail};

/// An upload session without its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadOutline {
    /// Where it pushes to.
    pub repository: RepositoryName,
    /// Bytes in full parts, which are durable, those that a closing request has written included; of one that is being
    /// completed or is a blob, all bytes.
    pub whole: u64,
    /// What the bytes were verified to be, once all of them were.
    pub digest: Option<Digest>,
    /// Its last change.
    pub touched: LogTime,
}

impl Query {
    /// The sessions that were changed last, finished ones included, the newest first.
    pub fn uploads_touched_last(&self, limit: usize) -> Result<Vec<UploadId>, QueryError> {
        let newest = self.rows.scan(UPLOADS_BY_AGE, UPLOADS_BY_AGE.all())?.rev();
        newest.take(limit).map(|row| row.map(|((_, upload), ())| upload)).collect()
    }

    /// How far a session is. Takes no longer the more parts it has.
    pub fn upload_outline(&self, upload: &UploadId) -> Result<Option<UploadOutline>, QueryError> {
        let Some(UploadRow { repository, phase, touched, .. }) = self.rows.get(UPLOADS, upload)? else {
            return Ok(None);
        };
        let (whole, digest) = match phase {
            Phase::Receiving(receiving) => {
                let tail = match &receiving.tail {
                    Some(Tail::Object { size, .. }) => *size,
                    Some(Tail::FinalPart(part)) => part.size,
                    None => 0,
                };
                (receiving.offset.saturating_sub(tail).max(self.shown_end(upload)?), None)
            }
            Phase::Completing { digest, size, .. } | Phase::Finished { digest, size, .. } => (size, Some(digest)),
        };
        Ok(Some(UploadOutline { repository, whole, digest, touched }))
    }

    /// The full parts behind number `after` that a closing request has written, as far as they follow each other.
    pub fn shown_parts(&self, upload: &UploadId, after: u32) -> Result<Vec<Part>, QueryError> {
        let span = SHOWN_PARTS.within::<UploadId>(upload).after(SHOWN_PARTS.key((upload, &after)));
        let rows = self.rows.scan(SHOWN_PARTS, span)?;
        let parts = rows.map(|row| row.map(|((_, number), PartRow { size, etag })| Part { number, size, etag }));
        let in_order =
            |(part, next): &(Result<Part, QueryError>, u32)| part.as_ref().map_or(true, |part| part.number == *next);
        parts.zip(after + 1..).take_while(in_order).map(|(part, _)| part).collect()
    }

    /// Where the last of them ends: all have the size of those before.
    fn shown_end(&self, upload: &UploadId) -> Result<u64, QueryError> {
        let last = self.rows.scan(SHOWN_PARTS, SHOWN_PARTS.within::<UploadId>(upload))?.next_back().transpose()?;
        Ok(last.map_or(0, |((_, number), part)| u64::from(number) * part.size))
    }
}

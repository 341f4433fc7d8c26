//! Reading a range of an object: exactly its bytes, or an error.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use roadstead_oci::ObjectKey;
use tokio::time::timeout;

use super::failure::{broken, causes, failed};
use super::{S3Store, size_of};
use crate::error::BlobError;
use crate::store::ByteStream;

/// How long the server may send nothing while the reader waits for it. Longer than TCP takes to mend a lost packet
/// several times over; the time in which the reader itself is slow does not count.
const READ_STALL: Duration = Duration::from_secs(30);

const OPERATION: &str = "GetObject";

/// A body under way.
struct Reading {
    body: Body,
    /// Bytes that are still to come.
    left: u64,
}

impl S3Store {
    pub(super) async fn stream(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.name(key));
        let request = request.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let object = request.send().await.map_err(failed(OPERATION))?;
        let left = range.end - range.start;
        let size = size_of(OPERATION, object.content_length)?;
        if size != left {
            return Err(broken(OPERATION, &format!("{left} bytes of {key} asked for, {size} promised")));
        }
        let reading = Reading { body: object.body, left };
        Ok(stream::try_unfold(reading, Reading::next).boxed())
    }
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BlobError> {
        let unavailable = |what: String| BlobError::Unavailable(format!("{OPERATION}: {what}"));
        let next = timeout(READ_STALL, self.body.next())
            .await
            .map_err(|_| unavailable(format!("nothing came for {} s", READ_STALL.as_secs())))?;
        match next {
            Some(Ok(bytes)) => {
                self.left = (self.left.checked_sub(bytes.len() as u64))
                    .ok_or_else(|| broken(OPERATION, &"more bytes than were asked for"))?;
                Ok(Some((bytes, self)))
            }
            Some(Err(error)) => Err(unavailable(causes(&error))),
            None if self.left > 0 => Err(unavailable(format!("the object ended {} bytes early", self.left))),
            None => Ok(None),
        }
    }
}

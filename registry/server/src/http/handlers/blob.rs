//! Blobs.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use roadstead_domain::{BlobSource, FoundBlob, Registry};
use roadstead_oci::{Digest, ErrorCode, RangeRequest, RepositoryName};

use crate::http::error::ApiError;
use crate::http::limits::MIN_SENT_FROM_FILE;
use crate::http::respond::{Answer, DOCKER_CONTENT_DIGEST, etag, is_known, not_modified, single};
use crate::http::sendfile::Outbox;

pub(crate) async fn head(
    registry: &Registry,
    headers: &HeaderMap,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Response, ApiError> {
    let blob = registry.promise_blob(repository, digest).await?;
    if is_known(headers, digest) {
        return not_modified(digest);
    }
    described(StatusCode::OK, digest).header(header::CONTENT_LENGTH, blob.size()).body(Body::empty())
}

/// Through the outbox, if there is one, bytes go straight from their file to the socket.
pub(crate) async fn get(
    registry: &Registry,
    headers: &HeaderMap,
    repository: &RepositoryName,
    digest: &Digest,
    outbox: Option<Outbox>,
) -> Result<Response, ApiError> {
    let blob = registry.find_blob(repository, digest).await?;
    if is_known(headers, digest) {
        return not_modified(digest);
    }
    let request = requested_range(headers, digest, &blob)?;
    let (status, range) = match &request {
        RangeRequest::Whole => (StatusCode::OK, 0..blob.size()),
        RangeRequest::Part(range) => (StatusCode::PARTIAL_CONTENT, range.clone()),
        RangeRequest::Unsatisfiable => {
            return Err(ApiError::with_message(ErrorCode::RangeInvalid, "the blob has no bytes in this range")
                .header(header::CONTENT_RANGE, format!("bytes */{}", blob.size())));
        }
    };
    let length = range.end - range.start;
    let answer = described(status, digest)
        .optional(header::CONTENT_RANGE, request.content_range(blob.size()))
        .header(header::CONTENT_LENGTH, length);
    if let Some(outbox) = outbox.filter(|_| length >= MIN_SENT_FROM_FILE)
        && let Some(files) = registry.open_blob_files(&blob, range.clone()).await?
    {
        return answer.body(Body::from_stream(outbox.body(files)));
    }
    match registry.open_blob(&blob, range).await? {
        BlobSource::Stream(bytes) => answer.body(Body::from_stream(bytes)),
        BlobSource::Redirect(url) => Answer::new(StatusCode::TEMPORARY_REDIRECT)
            .header(header::LOCATION, url)
            .header(DOCKER_CONTENT_DIGEST, digest)
            .empty(),
    }
}

pub(crate) async fn delete(
    registry: &Registry,
    repository: &RepositoryName,
    digest: Digest,
) -> Result<Response, ApiError> {
    registry.delete_blob(repository, digest).await?;
    Answer::new(StatusCode::ACCEPTED).header(DOCKER_CONTENT_DIGEST, digest).empty()
}

fn described(status: StatusCode, digest: &Digest) -> Answer {
    Answer::new(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, etag(digest))
        .header(DOCKER_CONTENT_DIGEST, digest)
}

/// A range that goes with other content than this (`If-Range`, RFC 9110, section 13.1.5) is none.
fn requested_range(headers: &HeaderMap, digest: &Digest, blob: &FoundBlob) -> Result<RangeRequest, ApiError> {
    let range = single(headers, &header::RANGE, ErrorCode::RangeInvalid)?;
    let condition = single(headers, &header::IF_RANGE, ErrorCode::RangeInvalid)?;
    Ok(match (range, condition) {
        (None, _) => RangeRequest::Whole,
        (Some(_), Some(condition)) if condition != etag(digest) => RangeRequest::Whole,
        (Some(range), _) => RangeRequest::parse(range, blob.size()),
    })
}

//! Blobs.

use std::ops::Range;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use roadstead_domain::{BlobSource, FoundBlob, Registry};
use roadstead_geo::{PullError, PulledBlob};
use roadstead_oci::{Digest, ErrorCode, RangeRequest, RepositoryName};

use crate::http::dispatch::Api;
use crate::http::error::ApiError;
use crate::http::limits::MIN_SENT_FROM_FILE;
use crate::http::respond::{Answer, DOCKER_CONTENT_DIGEST, etag, is_known, not_modified, single};
use crate::http::sendfile::Outbox;

pub(crate) async fn head(
    api: &Api,
    headers: &HeaderMap,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Response, ApiError> {
    let size = match api.mirror() {
        // Whoever relies on its being there, to push what names it, does so at home.
        Some(mirror) => mirror.blob_size(repository, digest).await.map_err(unpulled)?,
        None => api.registry.promise_blob(repository, digest).await?.size(),
    };
    if is_known(headers, digest) {
        return not_modified(digest);
    }
    described(StatusCode::OK, digest).header(header::CONTENT_LENGTH, size).body(Body::empty())
}

/// Through the outbox, if there is one, bytes go straight from their file to the socket.
pub(crate) async fn get(
    api: &Api,
    headers: &HeaderMap,
    repository: &RepositoryName,
    digest: &Digest,
    outbox: Option<Outbox>,
) -> Result<Response, ApiError> {
    let blob = match api.mirror() {
        Some(mirror) => mirror.find_blob(repository, digest).await.map_err(unpulled)?,
        None => PulledBlob::Here(api.registry.find_blob(repository, digest).await?),
    };
    if is_known(headers, digest) {
        return not_modified(digest);
    }
    let size = blob.size();
    let request = requested_range(headers, digest, size)?;
    let (status, range) = match &request {
        RangeRequest::Whole => (StatusCode::OK, 0..size),
        RangeRequest::Part(range) => (StatusCode::PARTIAL_CONTENT, range.clone()),
        RangeRequest::Unsatisfiable => {
            return Err(ApiError::with_message(ErrorCode::RangeInvalid, "the blob has no bytes in this range")
                .header(header::CONTENT_RANGE, format!("bytes */{size}")));
        }
    };
    let length = range.end - range.start;
    let answer = described(status, digest)
        .optional(header::CONTENT_RANGE, request.content_range(size))
        .header(header::CONTENT_LENGTH, length);
    match blob {
        PulledBlob::Coming(coming) => {
            let bytes = coming.stream(range).await.map_err(unpulled)?;
            answer.body(Body::from_stream(bytes))
        }
        PulledBlob::Here(blob) => send(&api.registry, &blob, range, answer, digest, outbox).await,
    }
}

async fn send(
    registry: &Registry,
    blob: &FoundBlob,
    range: Range<u64>,
    answer: Answer,
    digest: &Digest,
    outbox: Option<Outbox>,
) -> Result<Response, ApiError> {
    if let Some(outbox) = outbox.filter(|_| range.end - range.start >= MIN_SENT_FROM_FILE)
        && let Some(files) = registry.open_blob_files(blob, range.clone()).await?
    {
        return answer.body(Body::from_stream(outbox.body(files)));
    }
    match registry.open_blob(blob, range).await? {
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

fn unpulled(error: PullError) -> ApiError {
    ApiError::pull(error, ErrorCode::BlobUnknown)
}

fn described(status: StatusCode, digest: &Digest) -> Answer {
    Answer::new(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, etag(digest))
        .header(DOCKER_CONTENT_DIGEST, digest)
}

/// A range that goes with other content than this (`If-Range`, RFC 9110, section 13.1.5) is none.
fn requested_range(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<RangeRequest, ApiError> {
    let range = single(headers, &header::RANGE, ErrorCode::RangeInvalid)?;
    let condition = single(headers, &header::IF_RANGE, ErrorCode::RangeInvalid)?;
    Ok(match (range, condition) {
        (None, _) => RangeRequest::Whole,
        (Some(_), Some(condition)) if condition != etag(digest) => RangeRequest::Whole,
        (Some(range), _) => RangeRequest::parse(range, size),
    })
}

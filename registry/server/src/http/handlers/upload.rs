//! Upload sessions.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use roadstead_domain::{Content, Identity, Registry, UploadError};
use roadstead_oci::{Algorithm, ContentRange, Digest, ErrorCode, RepositoryName, Route, UploadId, UploadKind};

use crate::http::body::pieces;
use crate::http::dispatch::Api;
use crate::http::error::ApiError;
use crate::http::respond::{Answer, DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, OCI_CHUNK_MIN_LENGTH, single};

pub(crate) async fn start(
    api: &Api,
    identity: &Identity,
    headers: &HeaderMap,
    body: Body,
    repository: RepositoryName,
    kind: UploadKind,
) -> Result<Response, ApiError> {
    let registry = &api.registry;
    let sha512 = match kind {
        UploadKind::Session { algorithm } => algorithm == Some(Algorithm::Sha512),
        UploadKind::Monolithic { digest } => {
            registry.upload_blob(&repository, digest, content(headers, body)?).await?;
            land(api, &repository, digest).await?;
            return created(repository, digest);
        }
        UploadKind::Mount { digest, from } => {
            let mounted = match api.mirror() {
                Some(mirror) => mirror.mount(identity, &repository, digest, from.as_ref()).await?,
                None => registry.mount_blob(identity, &repository, digest, from.as_ref()).await?,
            };
            if mounted {
                return created(repository, digest);
            }
            digest.algorithm() == Algorithm::Sha512
        }
    };
    let upload = registry.start_upload(&repository, sha512).await?;
    standing(registry, StatusCode::ACCEPTED, repository, upload, 0).empty()
}

pub(crate) async fn status(
    registry: &Registry,
    repository: RepositoryName,
    upload: UploadId,
) -> Result<Response, ApiError> {
    let status = registry.upload_status(&repository, upload).await?;
    standing(registry, StatusCode::NO_CONTENT, repository, upload, status.offset).body(Body::empty())
}

pub(crate) async fn append(
    registry: &Arc<Registry>,
    headers: &HeaderMap,
    body: Body,
    repository: RepositoryName,
    upload: UploadId,
) -> Result<Response, ApiError> {
    let content = content(headers, body)?;
    match registry.append_upload(&repository, upload, content).await {
        Ok(status) => standing(registry, StatusCode::ACCEPTED, repository, upload, status.offset).empty(),
        Err(error) => Err(refused(error, repository, upload)),
    }
}

/// Shows a blob that was pushed to a mirror, where home does not hold it yet.
async fn land(api: &Api, repository: &RepositoryName, digest: Digest) -> Result<(), ApiError> {
    let Some(mirror) = api.mirror() else { return Ok(()) };
    // Its bytes were there before, and are deleted just now: the client sends them again.
    if mirror.land(repository, digest).await? { Ok(()) } else { Err(ApiError::unavailable()) }
}

pub(crate) async fn close(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
    repository: RepositoryName,
    upload: UploadId,
    digest: Digest,
) -> Result<Response, ApiError> {
    let content = content(headers, body)?;
    match api.registry.close_upload(&repository, upload, digest, content).await {
        Ok(()) => {
            land(api, &repository, digest).await?;
            created(repository, digest)
        }
        Err(error) => Err(refused(error, repository, upload)),
    }
}

pub(crate) async fn cancel(
    registry: &Registry,
    repository: &RepositoryName,
    upload: UploadId,
) -> Result<Response, ApiError> {
    registry.cancel_upload(repository, upload).await?;
    Answer::new(StatusCode::NO_CONTENT).body(Body::empty())
}

fn content(headers: &HeaderMap, body: Body) -> Result<Content, ApiError> {
    let range = single(headers, &header::CONTENT_RANGE, ErrorCode::BlobUploadInvalid)?;
    let range = range
        .map(str::parse::<ContentRange>)
        .transpose()
        .map_err(|error| ApiError::with_message(ErrorCode::BlobUploadInvalid, error.to_string()))?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Content { range, length, body: pieces(body) })
}

fn created(repository: RepositoryName, digest: Digest) -> Result<Response, ApiError> {
    Answer::new(StatusCode::CREATED)
        .header(header::LOCATION, Route::BlobGet { repository, digest })
        .header(DOCKER_CONTENT_DIGEST, digest)
        .empty()
}

/// Where a session is and how far it has come.
fn standing(
    registry: &Registry,
    status: StatusCode,
    repository: RepositoryName,
    upload: UploadId,
    offset: u64,
) -> Answer {
    Answer::new(status)
        .header(header::LOCATION, Route::UploadStatus { repository, upload })
        .header(header::RANGE, received(offset))
        .header(DOCKER_UPLOAD_UUID, upload)
        .header(OCI_CHUNK_MIN_LENGTH, registry.part_size())
}

/// `Range: 0-<last byte>`; nothing received is `0-0`, since the form has no other word for it.
fn received(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// A refused chunk: where the session stands goes with it, so that the client can go on from there.
fn refused(error: UploadError, repository: RepositoryName, upload: UploadId) -> ApiError {
    match error {
        UploadError::OutOfOrder { offset } | UploadError::Superseded { offset } => ApiError::from(error)
            .header(header::RANGE, received(offset))
            .header(header::LOCATION, Route::UploadStatus { repository, upload }.to_string())
            .header(DOCKER_UPLOAD_UUID, upload.to_string()),
        error => error.into(),
    }
}

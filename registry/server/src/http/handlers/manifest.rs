//! Manifests and tags.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use roadstead_domain::{ManifestFound, ManifestStored, Precondition, PushedManifest};
use roadstead_geo::{Mirror, WrittenManifest};
use roadstead_oci::{ErrorCode, Manifest, ManifestError, MediaType, Reference, RepositoryName, Route, Tag};

use crate::http::body::pieces;
use crate::http::dispatch::Api;
use crate::http::error::ApiError;
use crate::http::respond::{Answer, DOCKER_CONTENT_DIGEST, OCI_SUBJECT, OCI_TAG, etag, is_known, not_modified, single};

pub(crate) async fn head(
    api: &Api,
    headers: &HeaderMap,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response, ApiError> {
    let found = find(api, repository, reference).await?;
    if is_known(headers, &found.digest) {
        return not_modified(&found.digest);
    }
    described(&found).body(Body::empty())
}

pub(crate) async fn get(
    api: &Api,
    headers: &HeaderMap,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response, ApiError> {
    let found = find(api, repository, reference).await?;
    if is_known(headers, &found.digest) {
        return not_modified(&found.digest);
    }
    described(&found).body(api.registry.read_manifest(&found).await?)
}

async fn find(api: &Api, repository: &RepositoryName, reference: &Reference) -> Result<ManifestFound, ApiError> {
    match api.mirror() {
        Some(mirror) => {
            let found = mirror.find_manifest(repository, reference).await;
            found.map_err(|error| ApiError::pull(error, ErrorCode::ManifestUnknown))
        }
        None => Ok(api.registry.find_manifest(repository, reference).await?),
    }
}

/// As it was pushed, whatever the client says it accepts: one that cannot read it says so best itself.
fn described(found: &ManifestFound) -> Answer {
    Answer::new(StatusCode::OK)
        .header(header::CONTENT_TYPE, &found.media_type)
        .header(header::CONTENT_LENGTH, found.size)
        .header(header::ETAG, etag(&found.digest))
        .header(DOCKER_CONTENT_DIGEST, found.digest)
        .stale(found.stale)
}

pub(crate) async fn put(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
    repository: RepositoryName,
    reference: &Reference,
    tags: &[Tag],
) -> Result<Response, ApiError> {
    let registry = &api.registry;
    let declared = declared_type(headers)?;
    let precondition = precondition(headers)?;
    let mut memory = registry.collect(pieces(body), longest(headers)?).await?;
    let pushed = PushedManifest { declared, bytes: memory.freeze() };
    let stored = match api.mirror() {
        Some(mirror) => put_at_home(mirror, &repository, reference, tags, precondition, pushed).await?,
        None => registry.put_manifest(&repository, reference, tags, precondition, pushed).await?,
    };
    let location = Route::ManifestGet { repository, reference: Reference::Digest(stored.digest) };
    let mut answer = Answer::new(StatusCode::CREATED)
        .header(header::LOCATION, location)
        .header(DOCKER_CONTENT_DIGEST, stored.digest)
        .optional(OCI_SUBJECT, stored.subject);
    for tag in tags {
        answer = answer.header(OCI_TAG, tag);
    }
    answer.empty()
}

/// What is no manifest is refused here; everything else, home decides.
async fn put_at_home(
    mirror: &Arc<Mirror>,
    repository: &RepositoryName,
    reference: &Reference,
    tags: &[Tag],
    precondition: Precondition,
    pushed: PushedManifest,
) -> Result<ManifestStored, ApiError> {
    let PushedManifest { declared, bytes } = pushed;
    let blobs = Manifest::parse(declared.as_ref(), bytes.clone())?.blobs();
    let (repository, reference, tags) = (repository.clone(), reference.clone(), tags.to_vec());
    let written = WrittenManifest { repository, reference, tags, precondition, declared, bytes };
    mirror.put_manifest(written, &blobs).await.map_err(|error| ApiError::write(error, mirror.home()))
}

pub(crate) async fn delete(
    api: &Api,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response, ApiError> {
    match api.mirror() {
        Some(mirror) => {
            let deleted = mirror.delete_manifest(repository, reference).await;
            deleted.map_err(|error| ApiError::write(error, mirror.home()))?;
        }
        None => api.registry.delete_manifest(repository, reference).await?,
    }
    Answer::new(StatusCode::ACCEPTED).empty()
}

/// How many bytes the body can have; it is refused at once if it says that they are too many.
pub(crate) fn longest(headers: &HeaderMap) -> Result<u64, ManifestError> {
    let most = Manifest::MAX_SIZE as u64;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(ManifestError::TooLarge);
    }
    Ok(announced.unwrap_or(most))
}

pub(crate) fn declared_type(headers: &HeaderMap) -> Result<Option<MediaType>, ApiError> {
    let declared = single(headers, &header::CONTENT_TYPE, ErrorCode::ManifestInvalid)?;
    declared
        .map(MediaType::from_content_type)
        .transpose()
        .map_err(|error| ApiError::with_message(ErrorCode::ManifestInvalid, error.to_string()))
}

/// `If-Match: "<digest>"`, `If-Match: *` and `If-None-Match: *` (RFC 9110, section 13.1); others do not go with a write
/// here.
pub(crate) fn precondition(headers: &HeaderMap) -> Result<Precondition, ApiError> {
    let refused = |message: &str| ApiError::bad_header(ErrorCode::Unsupported, message);
    let absent = single(headers, &header::IF_NONE_MATCH, ErrorCode::Unsupported)?;
    let expected = single(headers, &header::IF_MATCH, ErrorCode::Unsupported)?;
    match (absent, expected) {
        (None, None) => Ok(Precondition::None),
        (Some("*"), None) => Ok(Precondition::Absent),
        (Some(_), None) => Err(refused("If-None-Match on a push must be *")),
        (Some(_), Some(_)) => Err(refused("If-Match and If-None-Match exclude each other")),
        (None, Some("*")) => Ok(Precondition::Exists),
        (None, Some(tags)) => tags
            .split(',')
            .map(|tag| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok())
            .collect::<Option<Vec<_>>>()
            .map(Precondition::Match)
            .ok_or_else(|| refused("If-Match on a push must be * or a list of quoted digests")),
    }
}

//! What home takes from its mirrors: blobs that it lacks, and what their clients put and delete.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Uri};
use roadstead_domain::{Fault, UploadError};
use roadstead_geo::{
    Claim, Lacking, MAX_CLAIMED, Standing, WrittenManifest, delete_manifest as delete_at_home, take_blob, take_manifest,
};
use roadstead_oci::{Reference, RepositoryName, Tag};
use serde::Serialize;
use tracing::debug;

use super::endpoint::{Caller, Homeland, Refusal, parameter};
use super::paths;
use crate::http::{declared_type, longest_manifest, pieces, precondition};

/// The longest claim that is read: so many digests of SHA-512 as JSON.
const MAX_CLAIM_BYTES: usize = MAX_CLAIMED * 160;

pub(super) fn routes() -> Router<Arc<Homeland>> {
    Router::new().route(paths::CLAIM, post(claim)).route(paths::UPLOAD, get(standing).put(upload))
}

/// Only with a token that was minted for writing.
fn require(caller: &Caller) -> Result<(), Refusal> {
    if caller.writes { Ok(()) } else { Err(Refusal::ReadOnly) }
}

async fn claim(
    State(home): State<Arc<Homeland>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    body: Body,
) -> Result<Response, Refusal> {
    require(&caller)?;
    let repository: RepositoryName = parameter(&uri, "repository")?;
    let read = to_bytes(body, MAX_CLAIM_BYTES).await;
    let claim = read.ok().and_then(|read| serde_json::from_slice::<Claim>(&read).ok());
    let claim = claim.filter(|claim| claim.digests.len() <= MAX_CLAIMED);
    let Claim { digests } = claim.ok_or(Refusal::Malformed("the body is no list of digests"))?;
    let lacking = home.registry.claim_blobs(&repository, digests).await.map_err(Refusal::Failed)?;
    json(&Lacking { digests: lacking })
}

async fn standing(
    State(home): State<Arc<Homeland>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    require(&caller)?;
    let repository: RepositoryName = parameter(&uri, "repository")?;
    let standing = home.registry.sent_so_far(&repository, parameter(&uri, "digest")?, parameter(&uri, "size")?).await;
    let standing = standing.map_err(|error| match error {
        UploadError::Fault(fault) => Refusal::Failed(fault),
        error => Refusal::Failed(Fault::Inconsistent(error.to_string())),
    })?;
    json(&Standing { offset: standing.offset })
}

async fn upload(
    State(home): State<Arc<Homeland>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    body: Body,
) -> Result<Response, Refusal> {
    require(&caller)?;
    let repository: RepositoryName = parameter(&uri, "repository")?;
    let (digest, size, offset) = (parameter(&uri, "digest")?, parameter(&uri, "size")?, parameter(&uri, "offset")?);
    if offset > size {
        return Err(Refusal::Malformed("the blob has no such bytes"));
    }
    let answer = take_blob(&home.registry, &repository, digest, size, offset, pieces(body)).await;
    json(&answer.map_err(Refusal::Failed)?)
}

pub(super) async fn put_manifest(
    State(home): State<Arc<Homeland>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Response, Refusal> {
    require(&caller)?;
    let (repository, reference) = (parameter::<RepositoryName>(&uri, "repository")?, parameter(&uri, "reference")?);
    let tags = tags(&uri)?;
    let (Ok(declared), Ok(precondition)) = (declared_type(&headers), precondition(&headers)) else {
        return Err(Refusal::Malformed("its headers cannot be understood"));
    };
    let most = longest_manifest(&headers).map_err(|_too_long| Refusal::Malformed("the manifest is too long"))?;
    let collected = home.registry.collect(pieces(body), most).await;
    let mut memory = collected.map_err(|error| {
        debug!(reason = %error, "a manifest of a mirror was not read: {error}");
        Refusal::Failed(Fault::Leaderless)
    })?;
    let bytes = memory.freeze();
    let manifest = WrittenManifest { repository, reference, tags, precondition, declared, bytes };
    let answer = take_manifest(&home.registry, manifest).await.map_err(Refusal::Failed)?;
    json(&answer)
}

pub(super) async fn delete_manifest(
    State(home): State<Arc<Homeland>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    require(&caller)?;
    let (repository, reference) =
        (parameter::<RepositoryName>(&uri, "repository")?, parameter::<Reference>(&uri, "reference")?);
    let answer = delete_at_home(&home.registry, &repository, &reference).await.map_err(Refusal::Failed)?;
    json(&answer)
}

/// Every `tag=` of the query.
fn tags(uri: &Uri) -> Result<Vec<Tag>, Refusal> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("tag="));
    let tags: Result<Vec<Tag>, _> = pairs.map(str::parse).collect();
    tags.map_err(|_| Refusal::Malformed("the query is not what a mirror asks"))
}

fn json(answer: &impl Serialize) -> Result<Response, Refusal> {
    let text = serde_json::to_vec(answer).map_err(|error| Refusal::Failed(Fault::Inconsistent(error.to_string())))?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

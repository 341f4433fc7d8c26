//! What the replicas of a mirror share: one of them brings a blob from home, and the others have it from that one.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::StreamExt as _;
use http::header::CONTENT_RANGE;
use http::{StatusCode, Uri};
use http_body_util::BodyExt as _;
use roadstead_domain::Registry;
use roadstead_geo::{HomeBlob, HomeError, Mirror, PulledBlob, Siblings};
use roadstead_metadata::Metadata;
use roadstead_oci::{Digest, RepositoryName, UploadId};
use tokio::time::timeout;

use super::endpoint::{Refusal, parameter};
use crate::cluster::Transport;

const PATH: &str = "/arriving/v1/blob";
const UPLOAD_PATH: &str = "/arriving/v1/upload";

/// How long another replica may take to say whether it has a part.
const PART_PATIENCE: Duration = Duration::from_secs(2);

/// The replica that leads, as another one sees it.
pub(super) struct Leader {
    pub(super) metadata: Metadata,
    pub(super) transport: Arc<Transport>,
}

#[async_trait]
impl Siblings for Leader {
    async fn blob(&self, repository: &RepositoryName, digest: &Digest, range: Range<u64>) -> Option<HomeBlob> {
        let leader = self.metadata.status().leader.filter(|leader| *leader != self.metadata.identity().node)?;
        let member = self.metadata.members().into_iter().find(|member| member.node == leader)?;
        let Range { start, end } = range;
        let target = format!("http://leader{PATH}?repository={repository}&digest={digest}&start={start}&end={end}");
        let response = self.transport.get(&member.address, &target).await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let size = response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?.parse().ok()?;
        let pieces = response.into_body().into_data_stream();
        let bytes = pieces.map(|piece| piece.map_err(|error| HomeError::Away(error.to_string()))).boxed();
        Some(HomeBlob { size, bytes })
    }
}

/// The other replicas of a home: what one of them has written of an upload in progress, a bucket shows to nobody else.
pub(super) struct Others {
    pub(super) metadata: Metadata,
    pub(super) transport: Arc<Transport>,
}

impl Others {
    /// A stretch of an upload from whichever has it.
    pub(super) async fn upload(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        range: &Range<u64>,
    ) -> Option<Body> {
        let Range { start, end } = range;
        let target =
            format!("http://other{UPLOAD_PATH}?repository={repository}&upload={upload}&start={start}&end={end}");
        let own = self.metadata.identity().node;
        for member in self.metadata.members().into_iter().filter(|member| member.node != own) {
            let asked = timeout(PART_PATIENCE, self.transport.get(&member.address, &target)).await;
            if let Ok(Ok(response)) = asked
                && response.status() == StatusCode::OK
            {
                return Some(Body::new(response.into_body()));
            }
        }
        None
    }
}

/// Lets other replicas have what this one has of uploads in progress.
pub(crate) fn leaving(registry: Arc<Registry>) -> Router {
    Router::new().route(UPLOAD_PATH, get(upload)).with_state(registry)
}

async fn upload(State(registry): State<Arc<Registry>>, uri: Uri) -> Response {
    let Ok((repository, upload, range)) = asked_of_upload(&uri) else { return StatusCode::BAD_REQUEST.into_response() };
    match registry.read_upload(&repository, &upload, range).await {
        Ok(bytes) => Body::from_stream(bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Which stretch of which upload.
pub(super) fn asked_of_upload(uri: &Uri) -> Result<(RepositoryName, UploadId, Range<u64>), Refusal> {
    let range: Range<u64> = parameter(uri, "start")?..parameter(uri, "end")?;
    if range.is_empty() {
        return Err(Refusal::Malformed("an upload has no such bytes"));
    }
    Ok((parameter(uri, "repository")?, parameter(uri, "upload")?, range))
}

/// Lets other replicas have what this one has or brings.
pub(crate) fn arriving(mirror: Arc<Mirror>, registry: Arc<Registry>) -> Router {
    Router::new().route(PATH, get(blob)).with_state((mirror, registry))
}

async fn blob(State((mirror, registry)): State<(Arc<Mirror>, Arc<Registry>)>, uri: Uri) -> Response {
    let Some((repository, digest, range)) = asked(&uri) else { return StatusCode::BAD_REQUEST.into_response() };
    // Two replicas that take each other for the leader must not wait for each other.
    if !mirror.leads() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let Ok(found) = mirror.find_blob(&repository, &digest).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let size = found.size();
    if range.start >= range.end || range.end > size {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let body = match found {
        PulledBlob::Coming(coming) => match coming.stream(range).await {
            Ok(bytes) => Body::from_stream(bytes),
            Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
        PulledBlob::Here(blob) => match registry.stream_blob(&blob, range).await {
            Ok(bytes) => Body::from_stream(bytes),
            Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
    };
    (StatusCode::OK, [(CONTENT_RANGE, format!("bytes */{size}"))], body).into_response()
}

fn asked(uri: &Uri) -> Option<(RepositoryName, Digest, Range<u64>)> {
    fn value<T: FromStr>(uri: &Uri, name: &str) -> Option<T> {
        parameter(uri, name).ok()
    }
    Some((value(uri, "repository")?, value(uri, "digest")?, value(uri, "start")?..value(uri, "end")?))
}

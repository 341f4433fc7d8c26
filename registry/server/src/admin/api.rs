//! What the admin API answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};
use roadstead_domain::{Fault, Registry, ScrubOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::error;

use super::scrub::{Line, Request as ScrubRequest};
use super::{backup, status};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::scrub;
use crate::tasks::Supervisor;

/// The longest body of a request. Those that exist have a few fields.
const MAX_REQUEST_BYTES: usize = 64 << 10;

/// What every answer is made of.
pub(crate) struct Admin {
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub supervisor: Supervisor,
    /// Bytes a second.
    pub scrub_rate: u64,
    /// One pass at a time beside that of the background.
    pub scrubs: Arc<Semaphore>,
    pub scheme: &'static str,
    pub address: SocketAddr,
}

/// What an answer other than 200 says, to be shown to a person.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Problem {
    pub error: String,
}

/// Every path of the API. A path keeps its meaning for as long as its version is served.
pub(crate) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/admin/v1/status", get(get_status))
        .route("/admin/v1/scrub", post(post_scrub))
        .route("/admin/v1/backup", post(post_backup))
        .fallback(unknown)
        .with_state(admin)
}

async fn get_status(State(admin): State<Arc<Admin>>) -> Response {
    match status::of(&admin) {
        Ok(status) => json(StatusCode::OK, &status),
        Err(fault) => failed(&fault),
    }
}

/// The pass ends with its answer: whoever goes away ends it.
async fn post_scrub(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    let request = match to_bytes(body, MAX_REQUEST_BYTES).await {
        Ok(body) => serde_json::from_slice::<ScrubRequest>(&body).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let ScrubRequest { rate, orphan_age_seconds, delete_orphans } = match request {
        Ok(request) => request,
        Err(error) => return json(StatusCode::BAD_REQUEST, &Problem { error }),
    };
    let Ok(place) = Arc::clone(&admin.scrubs).try_acquire_owned() else {
        return json(StatusCode::CONFLICT, &Problem { error: "a scrub that was asked for is under way".to_owned() });
    };
    let rate = rate.unwrap_or(admin.scrub_rate);
    let options = ScrubOptions { rate, orphan_age: Duration::from_secs(orphan_age_seconds), delete_orphans };
    let supervisor = admin.supervisor.clone();
    let stopping = Box::pin(async move { supervisor.stopping().await });
    let lines = scrub::pass(&admin.registry, &admin.metrics, options).take_until(stopping).map(move |event| {
        let _place = &place;
        let mut line = serde_json::to_vec(&Line::from(event)).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, Infallible>(line)
    });
    ([(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], Body::from_stream(lines)).into_response()
}

async fn post_backup(State(admin): State<Arc<Admin>>) -> Response {
    match backup::take(&admin.registry).await {
        Ok(taken) => json(StatusCode::OK, &taken),
        Err(error) => {
            error!(reason = %error, "no snapshot could be written for the admin API: {error}");
            json(StatusCode::SERVICE_UNAVAILABLE, &Problem { error: error.to_string() })
        }
    }
}

async fn unknown(uri: Uri) -> Response {
    let error = format!("this registry is roadstead {} and has no {}", env!("CARGO_PKG_VERSION"), uri.path());
    json(StatusCode::NOT_FOUND, &Problem { error })
}

/// Unlike clients of the registry, whoever is here is told all of it.
fn failed(fault: &Fault) -> Response {
    error!(reason = %fault, "the admin API could not answer: {fault}");
    json(StatusCode::SERVICE_UNAVAILABLE, &Problem { error: fault.to_string() })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(reason) => {
            error!(reason = %reason, "an answer of the admin API could not be written: {reason}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

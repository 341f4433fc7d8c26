//! What surrounds every request: its id, the limits of its head, its log line and metrics, and the routes that are not
//! the API's.
//!
//! ```text
//!  request --> id --> limits --> guarded body --> /livez /readyz /metrics | everything else: the API
//!  answer  <-- X-Request-Id, Docker-Distribution-Api-Version <-- followed body: logged after its last byte
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::FutureExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use roadstead_domain::Entropy;
use roadstead_oci::ErrorCode;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, error, info_span};

use super::body_idle::guard;
use super::exchange::Exchange;
use super::limits;
use super::refusal::refuse;
use super::request_id::{RequestId, X_REQUEST_ID};
use crate::health::{Health, Readiness};
use crate::metrics::{Gauges, Metrics};

/// What Docker's clients recognise a registry by, on every answer.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// See the module.
pub(crate) struct Edge {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    pub entropy: Arc<dyn Entropy>,
    pub body_idle_timeout: Duration,
    /// Writes the present figures into the gauges.
    pub sample: Box<dyn Fn(&Gauges) + Send + Sync>,
    /// Bodies that nobody wanted, on their way to nowhere.
    pub lingering: TaskTracker,
}

impl Edge {
    /// `api` answers every request but those for health and metrics.
    pub(crate) fn around(self, api: Router) -> Router {
        let edge = Arc::new(self);
        let own = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(&edge));
        own.fallback_service(api).layer(from_fn_with_state(edge, surround))
    }
}

async fn surround(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers(), &*edge.entropy);
    let exchange = Exchange::begin(id.clone(), &request, &edge.metrics);
    let is_api = request.uri().path().starts_with("/v2");
    let mut response = if let Some(refusal) = limits::check(request.uri(), request.headers()) {
        refusal
    } else {
        let request = guard(request, edge.body_idle_timeout, exchange.counts(), &edge.lingering);
        let span = info_span!("request", id = %id);
        answer(next.run(request), &id).instrument(span).await
    };
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, id.header_value());
    if is_api {
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    exchange.answer(response)
}

/// The answer, or a 500 if its making panics.
async fn answer(making: impl Future<Output = Response>, id: &RequestId) -> Response {
    AssertUnwindSafe(making).catch_unwind().await.unwrap_or_else(|panic| {
        let reason = crate::tasks::panic_text(&*panic);
        error!(reason, "a request panicked: {reason}");
        let message = format!("the registry failed; its log has the reason under the request id {id}");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown, message)
    })
}

/// The process is alive: never tied to the bucket or the quorum, which a restart does not mend.
async fn livez() -> &'static str {
    "alive\n"
}

async fn readyz(State(edge): State<Arc<Edge>>) -> (StatusCode, &'static str) {
    match edge.health.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n"),
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics(State(edge): State<Arc<Edge>>) -> Response {
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    (edge.sample)(&edge.metrics.gauges);
    match edge.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, plain)], text).into_response(),
        Err(reason) => {
            error!(reason = %reason, "the metrics cannot be written: {reason}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

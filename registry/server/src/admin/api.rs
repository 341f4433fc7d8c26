//! What the admin API answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode, Uri};
use roadstead_domain::{Registry, ScrubOptions};
use roadstead_geo::Mirror;
use roadstead_metadata::{Beginning, MemberChange, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tracing::error;

use super::mirrors::Mint;
use super::problem::{Code, Problem};
use super::scrub::{Line, Request as ScrubRequest};
use super::{aside, backup, beginning, demotion, drain, leadership, members, mirrors, region, snapshot, status};
use crate::health::Health;
use crate::metered_store::StoreContact;
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
    pub beginning: Beginning,
    pub store_contact: StoreContact,
    /// What follows another registry, if this is a mirror.
    pub mirror: Option<Arc<Mirror>>,
}

/// Every request that is understood. A path keeps its meaning for as long as its version is served.
pub(super) fn routes() -> [(Method, &'static str, MethodRouter<Arc<Admin>>); 23] {
    [
        (Method::GET, "/admin/v1/status", get(get_status)),
        (Method::GET, beginning::VOLUME, get(get_volume)),
        (Method::POST, beginning::BEGIN, post(post_begin)),
        (Method::GET, "/admin/v1/members", get(get_members)),
        (Method::POST, "/admin/v1/members/{node}/promote", post(promote)),
        (Method::POST, "/admin/v1/members/{node}/remove", post(remove)),
        (Method::POST, "/admin/v1/members/{node}/replace", post(replace)),
        (Method::POST, "/admin/v1/leadership/transfer", post(transfer_leadership)),
        (Method::POST, "/admin/v1/drain", post(post_drain)),
        (Method::POST, "/admin/v1/snapshot", post(post_snapshot)),
        (Method::POST, "/admin/v1/backup", post(post_backup)),
        (Method::POST, "/admin/v1/scrub", post(post_scrub)),
        (Method::GET, "/admin/v1/mirrors", get(get_mirrors)),
        (Method::POST, "/admin/v1/mirrors/{name}/token", post(mint_token)),
        (Method::POST, "/admin/v1/mirrors/{name}/dismiss", post(dismiss_mirror)),
        (Method::GET, "/admin/v1/region", get(get_region)),
        (Method::GET, "/admin/v1/promotion", get(get_promotion)),
        (Method::POST, "/admin/v1/promotion", post(post_promotion)),
        (Method::POST, "/admin/v1/demotion", post(post_demotion)),
        (Method::GET, "/admin/v1/aside", get(get_aside)),
        (Method::POST, "/admin/v1/aside/dismiss", post(dismiss_aside)),
        (Method::POST, "/admin/v1/aside/push", post(push_aside)),
        (Method::POST, "/admin/v1/demotion/cancel", post(cancel_handover)),
    ]
}

/// Answers all of them.
pub(crate) fn router(admin: Arc<Admin>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (_, path, route)| router.route(path, route));
    router.fallback(unknown).method_not_allowed_fallback(unknown).with_state(admin)
}

async fn get_status(State(admin): State<Arc<Admin>>) -> Response {
    answer(status::of(&admin).map_err(Problem::from))
}

async fn get_volume(State(admin): State<Arc<Admin>>) -> Response {
    answer(beginning::of(&admin.beginning))
}

async fn post_begin(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    beginning::post_begin(&admin.beginning, body).await
}

async fn get_members(State(admin): State<Arc<Admin>>) -> Response {
    answer(Ok(members::of(admin.registry.metadata()).await))
}

async fn promote(admin: State<Arc<Admin>>, node: Path<String>) -> Response {
    change_member(admin, node, |node| MemberChange::Promote { node }).await
}

async fn remove(admin: State<Arc<Admin>>, node: Path<String>) -> Response {
    change_member(admin, node, |node| MemberChange::Remove { node }).await
}

async fn replace(admin: State<Arc<Admin>>, node: Path<String>, body: Body) -> Response {
    match read::<members::Replace>(body).await {
        Ok(Some(members::Replace { by })) => {
            change_member(admin, node, |lost| MemberChange::Replace { lost, by }).await
        }
        Ok(None) => Problem::new(Code::BadRequest, "the body says by whom, and there is none").into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn change_member(
    State(admin): State<Arc<Admin>>,
    Path(node): Path<String>,
    change: impl FnOnce(u64) -> MemberChange,
) -> Response {
    let Ok(node) = node.parse() else {
        return Problem::new(Code::BadRequest, format!("{node:?} is no node id: those are numbers")).into_response();
    };
    let metadata = admin.registry.metadata();
    match metadata.change_members(change(node)).await {
        Ok(()) => answer(Ok(members::of(metadata).await)),
        Err(refusal) => Problem::from(refusal).into_response(),
    }
}

async fn transfer_leadership(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    match read(body).await {
        Ok(request) => answer(leadership::transfer(admin.registry.metadata(), request.unwrap_or_default()).await),
        Err(problem) => problem.into_response(),
    }
}

async fn post_drain(State(admin): State<Arc<Admin>>) -> Response {
    answer(drain::drain(&admin).await)
}

async fn post_snapshot(State(admin): State<Arc<Admin>>) -> Response {
    answer(snapshot::take(admin.registry.metadata()).await)
}

/// The pass ends with its answer: whoever goes away ends it.
async fn post_scrub(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    let request = match read::<ScrubRequest>(body).await {
        Ok(Some(request)) => request,
        Ok(None) => {
            return Problem::new(Code::BadRequest, "the body says how to scrub, and there is none").into_response();
        }
        Err(problem) => return problem.into_response(),
    };
    let ScrubRequest { rate, orphan_age_seconds, delete_orphans } = request;
    let Ok(place) = Arc::clone(&admin.scrubs).try_acquire_owned() else {
        return Problem::new(Code::Busy, "a scrub that was asked for is under way").into_response();
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
    answer(backup::take(&admin.registry).await.map_err(|error| {
        error!(reason = %error, "no snapshot could be written for the admin API: {error}");
        Problem::new(Code::Unavailable, error)
    }))
}

async fn get_mirrors(State(admin): State<Arc<Admin>>) -> Response {
    answer(mirrors::list(&admin.registry).map_err(Problem::from))
}

async fn mint_token(State(admin): State<Arc<Admin>>, Path(name): Path<String>, body: Body) -> Response {
    let writes = match read::<Mint>(body).await {
        Ok(mint) => mint.is_some_and(|mint| mint.writes),
        Err(problem) => return problem.into_response(),
    };
    answer(mirrors::mint(&admin.registry, name, writes).await)
}

async fn dismiss_mirror(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    answer(mirrors::dismiss(&admin.registry, name).await)
}

async fn get_region(State(admin): State<Arc<Admin>>) -> Response {
    answer(region::of(&admin.registry).map_err(Problem::from))
}

async fn get_promotion(State(admin): State<Arc<Admin>>) -> Response {
    answer(region::outlook(&admin))
}

async fn post_promotion(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    match read(body).await {
        Ok(request) => answer(region::promote(&admin, request.unwrap_or_default()).await),
        Err(problem) => problem.into_response(),
    }
}

async fn post_demotion(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    match read(body).await {
        Ok(Some(request)) => answer(demotion::demote(&admin.registry, request).await),
        Ok(None) => Problem::new(Code::BadRequest, "the body says who is home, and there is none").into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn cancel_handover(State(admin): State<Arc<Admin>>) -> Response {
    answer(demotion::cancel(&admin.registry).await)
}

async fn get_aside(State(admin): State<Arc<Admin>>, uri: Uri) -> Response {
    let number = |name: &str| {
        let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok())
    };
    let after = number("epoch").zip(number("after")).map(|(epoch, sequence)| Position { epoch, sequence });
    answer(aside::list(&admin.registry, after))
}

async fn push_aside(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    match read(body).await {
        Ok(Some(request)) => answer(aside::push(&admin, request).await),
        Ok(None) => Problem::new(Code::BadRequest, "the body says which change, and there is none").into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn dismiss_aside(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    match read(body).await {
        Ok(request) => answer(aside::dismiss(&admin.registry, request.unwrap_or_default()).await),
        Err(problem) => problem.into_response(),
    }
}

async fn unknown(method: Method, uri: Uri) -> Response {
    let release = env!("CARGO_PKG_VERSION");
    let why = format!("this registry is roadstead {release} and has no {method} {}", uri.path());
    Problem::new(Code::UnknownPath, why).into_response()
}

/// The body of a request, if it has one.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<Option<T>, Problem> {
    let bad = |error: &dyn std::fmt::Display| Problem::new(Code::BadRequest, error);
    let body = to_bytes(body, MAX_REQUEST_BYTES).await.map_err(|error| bad(&error))?;
    if body.is_empty() { Ok(None) } else { serde_json::from_slice(&body).map(Some).map_err(|error| bad(&error)) }
}

pub(super) fn answer(answer: Result<impl Serialize, Problem>) -> Response {
    match answer {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(problem) => problem.into_response(),
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(reason) => {
            error!(reason = %reason, "an answer of the admin API could not be written: {reason}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

//! One request and its answer, from the head to the last byte: what the log and the metrics say of it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use roadstead_domain::Identity;
use tokio::time::Instant;
use tracing::{debug, info};

use super::connection::{Busy, Connection};
use super::limits::MAX_LOGGED_PATH;
use super::request_id::RequestId;
use crate::metrics::Metrics;

/// Which route a request took; handed on in the answer's extensions for whoever counts and logs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteName(pub(crate) &'static str);

/// The route of a request that was given up, or refused, before anybody looked.
const NO_ROUTE: &str = "none";

/// Bytes of the bodies so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counts {
    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Says what became of a request when it is dropped: after the last byte of the answer, or when the client is gone.
pub(super) struct Exchange {
    id: RequestId,
    method: Method,
    path: Box<str>,
    remote: Option<SocketAddr>,
    began: Instant,
    counts: Arc<Counts>,
    status: Option<StatusCode>,
    route: &'static str,
    /// Asked every few seconds by machines: not worth a line.
    is_probe: bool,
    user: Option<Box<str>>,
    /// Whether the whole answer was handed to the connection.
    whole: bool,
    metrics: Arc<Metrics>,
    _busy: Option<Busy>,
}

impl Exchange {
    /// The head of a request is there.
    pub(super) fn begin(id: RequestId, request: &Request<Body>, metrics: &Arc<Metrics>) -> Self {
        let connection = request.extensions().get::<Connection>();
        let probe = probe(request.uri().path());
        metrics.requests_in_flight.inc();
        Self {
            id,
            method: request.method().clone(),
            path: bounded(request.uri().path()),
            remote: connection.map(Connection::remote),
            began: Instant::now(),
            counts: Arc::default(),
            status: None,
            route: probe.unwrap_or(NO_ROUTE),
            is_probe: probe.is_some(),
            user: None,
            whole: false,
            metrics: Arc::clone(metrics),
            _busy: connection.map(Connection::busy),
        }
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// The answer's head is there: follows its body to the end.
    pub(super) fn answer(mut self, response: Response) -> Response {
        self.status = Some(response.status());
        self.route = response.extensions().get().map_or(self.route, |RouteName(name)| name);
        if let Some(Identity::User(name)) = response.extensions().get() {
            self.user = Some(name.clone());
        }
        let declared = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let (parts, body) = response.into_parts();
        let expected = if self.method == Method::HEAD { Some(0) } else { declared.or(body.size_hint().exact()) };
        self.whole = expected == Some(0);
        Response::from_parts(parts, Body::new(Followed { body, expected, exchange: self }))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let elapsed = self.began.elapsed();
        let (received, sent) = (self.counts.bytes_received(), self.counts.sent.load(Ordering::Relaxed));
        self.metrics.requests_in_flight.dec();
        self.metrics.request(self.route, &self.method, self.status, elapsed);
        self.metrics.received_bytes.inc_by(received);
        self.metrics.sent_bytes.inc_by(sent);

        let status = self.status.map_or(0, |status| status.as_u16());
        let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let outcome = match self.status {
            None => "was given up by its client before an answer".to_owned(),
            Some(_) if !self.whole => format!("was answered {status}, but the answer broke off"),
            Some(_) => format!("was answered {status}"),
        };
        macro_rules! tell {
            ($level:ident) => {
                $level!(
                    request_id = %self.id,
                    method = %self.method,
                    path = %self.path,
                    route = self.route,
                    status,
                    duration_ms,
                    received_bytes = received,
                    sent_bytes = sent,
                    remote = self.remote.map(tracing::field::display),
                    user = self.user.as_deref(),
                    "{} {} {outcome} after {duration_ms} ms", self.method, self.path
                )
            };
        }
        if self.is_probe { tell!(debug) } else { tell!(info) }
    }
}

/// The name of a route that is the edge's own.
fn probe(path: &str) -> Option<&'static str> {
    match path {
        "/livez" => Some("livez"),
        "/readyz" => Some("readyz"),
        "/metrics" => Some("metrics"),
        _ => None,
    }
}

/// The start of a path; the rest only fills the log.
fn bounded(path: &str) -> Box<str> {
    path.get(..MAX_LOGGED_PATH).unwrap_or(path).into()
}

/// The body of an answer on its way.
struct Followed {
    body: Body,
    /// How many bytes there will be, if that is known.
    expected: Option<u64>,
    exchange: Exchange,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                let sent = self.exchange.counts.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
                // hyper stops at the declared length, or when the body says that it has ended, without asking again.
                self.exchange.whole = self.expected == Some(sent) || self.body.is_end_stream();
            }
            Poll::Ready(None) => self.exchange.whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

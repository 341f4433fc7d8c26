//! `/livez`, `/readyz` and `/metrics`, over plain HTTP: nothing there is secret, and nothing can be changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::metrics::Metrics;

/// Connections at once: probes and a few Prometheus.
const MAX_CONNECTIONS: usize = 64;

/// From a connection to the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the operator can act or wait for its turn.
#[derive(Debug, Default)]
pub(crate) struct Health {
    is_ready: AtomicBool,
}

impl Health {
    pub(crate) fn ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }
}

/// Answers on `socket`, for ever.
pub(crate) async fn serve(
    socket: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> std::io::Result<Infallible> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = socket.accept().await?;
        while connections.len() >= MAX_CONNECTIONS || connections.try_join_next().is_some() {
            if connections.len() >= MAX_CONNECTIONS {
                let _ended = connections.join_next().await;
            }
        }
        let (health, metrics) = (Arc::clone(&health), Arc::clone(&metrics));
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &health, &metrics);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A probe that goes away is nobody's concern.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/livez" => (StatusCode::OK, Bytes::from_static(b"ok\n")),
        "/readyz" if health.is_ready.load(Ordering::Relaxed) => (StatusCode::OK, Bytes::from_static(b"ok\n")),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"the API server does not answer yet\n")),
        "/metrics" => (StatusCode::OK, metrics.text().into()),
        _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"/livez, /readyz and /metrics are here\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

//! Where the other replicas reach this one, and, under `/admin/v1/`, whoever else has a certificate of the cluster.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use roadstead_metadata::Metadata;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::MAX_MESSAGE_BYTES;
use super::credentials::Credentials;
use crate::tasks::TaskResult;

/// Where messages are posted.
pub(super) const PATH: &str = "/peer/v1";

/// What the paths of the admin API begin with.
const ADMIN: &str = "/admin/";

/// What the paths begin with by which replicas of a mirror share what arrives.
const ARRIVING: &str = "/arriving/";

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages of one replica that are answered at once; more wait.
const MAX_STREAMS: u32 = 256;

/// A connection that is silent so long is asked whether it still stands, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Bytes of messages in flight on one connection: a snapshot's piece and what goes beside it.
const WINDOW_BYTES: u32 = 4 << 20;

/// Pause after a failed `accept`: out of files or memory, which only others can release.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket on which the metadata is asked.
pub(crate) struct PeerListener {
    socket: TcpListener,
    credentials: Credentials,
    answering: Answering,
    connections: TaskTracker,
}

/// What is answered from, once it is open. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Answering {
    metadata: Arc<OnceLock<Metadata>>,
    beginning: Arc<OnceLock<Router>>,
    admin: Arc<OnceLock<Router>>,
    arriving: Arc<OnceLock<Router>>,
}

impl Answering {
    /// Lets messages of replicas be answered.
    pub(crate) fn open(&self, metadata: &Metadata) {
        let _known = self.metadata.set(metadata.clone());
    }

    /// Lets those requests to the admin API be answered that come before the replica is in a cluster.
    pub(crate) fn serve_beginning(&self, beginning: Router) {
        let _known = self.beginning.set(beginning);
    }

    /// Lets requests to the admin API be answered.
    pub(crate) fn serve_admin(&self, admin: Router) {
        let _known = self.admin.set(admin);
    }

    /// Lets other replicas have what arrives from home, and what is on its way into the bucket.
    pub(crate) fn serve_arriving(&self, arriving: Router) {
        let _known = self.arriving.set(arriving);
    }
}

impl PeerListener {
    /// Answers from what is open; as long as that is nothing, others are told to come back.
    pub(crate) fn new(socket: TcpListener, credentials: Credentials, answering: Answering) -> Self {
        Self { socket, credentials, answering, connections: TaskTracker::new() }
    }

    /// Accepts until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) -> TaskResult {
        let cut = CancellationToken::new();
        let _cut_on_return = cut.clone().drop_guard();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((socket, remote)) => {
                    let (listener, cut) = (Arc::clone(&self), cut.clone());
                    self.connections.spawn(async move {
                        tokio::select! {
                            served = listener.serve(socket) => if let Err(error) = served {
                                debug!(%remote, reason = %error, "a connection of another replica ended: {error}");
                            },
                            () = cut.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    warn!(reason = %error, "a connection of another replica could not be accepted: {error}");
                    if timeout(ACCEPT_PAUSE, stop.cancelled()).await.is_ok() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn serve(&self, socket: TcpStream) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        socket.set_nodelay(true)?;
        let acceptor = TlsAcceptor::from(self.credentials.server()?);
        let stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await??;
        let answering = self.answering.clone();
        let service = service_fn(move |request| {
            let answering = answering.clone();
            async move { Ok::<_, Infallible>(answer(&answering, request).await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .serve_connection(TokioIo::new(stream), service);
        Ok(connection.await?)
    }
}

async fn answer(answering: &Answering, request: Request<Incoming>) -> Response<Body> {
    let respond = |status: StatusCode, body: Bytes| {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response
    };
    let unavailable = || respond(StatusCode::SERVICE_UNAVAILABLE, Bytes::new());
    let path = request.uri().path();
    // Before it is in a cluster, a replica can be asked who it is, and be ordered to begin one.
    let admin = answering.admin.get().or_else(|| answering.beginning.get());
    for (prefix, app) in [(ADMIN, admin), (ARRIVING, answering.arriving.get())] {
        if path.starts_with(prefix) {
            let Some(app) = app else { return unavailable() };
            let answered = TowerToHyperService::new(app.clone()).call(request.map(Body::new)).await;
            return answered.unwrap_or_else(|never: Infallible| match never {});
        }
    }
    if request.method() != Method::POST || request.uri().path() != PATH {
        return respond(StatusCode::NOT_FOUND, Bytes::new());
    }
    let Some(metadata) = answering.metadata.get() else { return unavailable() };
    match Limited::new(request.into_body(), MAX_MESSAGE_BYTES).collect().await {
        Ok(message) => respond(StatusCode::OK, metadata.answer(&message.to_bytes()).await),
        Err(_) => respond(StatusCode::PAYLOAD_TOO_LARGE, Bytes::new()),
    }
}

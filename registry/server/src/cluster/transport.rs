//! Carries messages to other replicas: one HTTP/2 connection to each, made when it is needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use roadstead_metadata::{PeerError, PeerTransport};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;

use super::MAX_MESSAGE_BYTES;
use super::credentials::Credentials;
use super::listener::PATH;
use crate::tls::Certificate;

/// How long a connection may take: a dead replica must not cost a vote its turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is silent so long is asked whether it still stands, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Addresses that are remembered: far more than a cluster has, over all its life.
const MAX_ADDRESSES: usize = 64;

/// The connections of one replica to the others.
pub(crate) struct Transport {
    credentials: Credentials,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
    tasks: TaskTracker,
}

/// The connection to an address. Whoever finds none makes one, while the others wait for it.
#[derive(Default)]
struct Peer(tokio::sync::Mutex<Option<Connection>>);

struct Connection {
    requests: SendRequest<Body>,
    /// Moves the bytes.
    _driver: AbortOnDropHandle<()>,
}

impl Transport {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, peers: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// The certificate that replicas are shown.
    pub(crate) fn certificate(&self) -> Arc<ArcSwap<Certificate>> {
        self.credentials.certificate()
    }

    fn peer(&self, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        if peers.len() >= MAX_ADDRESSES && !peers.contains_key(address) {
            peers.clear(); // those in use are made again
        }
        Arc::clone(peers.entry(address.to_owned()).or_default())
    }

    /// A connection that stands, as far as it knows.
    async fn connection(&self, address: &str) -> Result<SendRequest<Body>, String> {
        let peer = self.peer(address);
        let mut slot = peer.0.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.requests.is_closed()) {
            return Ok(connection.requests.clone());
        }
        *slot = None;
        let connection = self.connect(address).await?;
        let requests = connection.requests.clone();
        *slot = Some(connection);
        Ok(requests)
    }

    async fn connect(&self, address: &str) -> Result<Connection, String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _port)| host);
        let name = self.credentials.name(host.trim_matches(['[', ']'])).map_err(|error| error.to_string())?;
        let config = self.credentials.client().map_err(|error| error.to_string())?;
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(config).connect(name, socket).await.map_err(|error| error.to_string())?;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driver = self.tasks.spawn(async move {
            // How it ended, the requests in flight are told.
            let _ = connection.await;
        });
        Ok(Connection { requests, _driver: AbortOnDropHandle::new(driver) })
    }

    async fn send(&self, address: &str, message: Bytes, patience: Duration) -> Result<Bytes, PeerError> {
        let deadline = Instant::now() + patience;
        let connected = timeout_at(deadline.min(Instant::now() + CONNECT_TIMEOUT), self.connection(address)).await;
        let mut requests = match connected {
            Ok(Ok(requests)) => requests,
            Ok(Err(why)) => return Err(PeerError::NotSent(format!("no connection: {why}"))),
            Err(_elapsed) => return Err(PeerError::NotSent("no connection in time".to_owned())),
        };
        let request = Request::builder().method(Method::POST).uri(PATH).body(Body::from(message));
        let request = request.map_err(|error| PeerError::NotSent(error.to_string()))?;
        let answer = async {
            let response = requests.send_request(request).await.map_err(|error| error.to_string())?;
            if response.status() != StatusCode::OK {
                return Err(format!("it answered with {}", response.status()));
            }
            let body = Limited::new(response.into_body(), MAX_MESSAGE_BYTES).collect().await;
            Ok(body.map_err(|error| error.to_string())?.to_bytes())
        };
        match timeout_at(deadline, answer).await {
            Ok(answer) => answer.map_err(PeerError::Unknown),
            Err(_elapsed) => Err(PeerError::Unknown("no answer in time".to_owned())),
        }
    }
}

impl Transport {
    /// The answer of whoever listens at `address` to a GET, if its head comes in time.
    pub(crate) async fn get(&self, address: &str, target: &str) -> Result<Response<Incoming>, String> {
        let connected = timeout(CONNECT_TIMEOUT, self.connection(address)).await;
        let mut requests = connected.map_err(|_elapsed| "no connection in time".to_owned())??;
        let request = Request::builder().method(Method::GET).uri(target).body(Body::empty());
        let request = request.map_err(|error| error.to_string())?;
        requests.send_request(request).await.map_err(|error| error.to_string())
    }
}

impl PeerTransport for Transport {
    fn call<'a>(
        &'a self,
        address: &'a str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        self.send(address, message, patience).boxed()
    }
}

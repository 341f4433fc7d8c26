//! Accepts connections, and drains them when the process stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::connection::Protocol;
use super::limits::ACCEPT_PAUSE;
use crate::metrics::Metrics;
use crate::tasks::TaskResult;

/// A bound socket and what is served on it.
pub(crate) struct Listener {
    /// `None` once it is closed.
    socket: ArcSwapOption<TcpListener>,
    protocol: Arc<Protocol>,
    /// Connections, and the streams of those that are HTTP/2.
    connections: TaskTracker,
    places: Arc<Semaphore>,
    grace: Duration,
    metrics: Arc<Metrics>,
}

/// How a [`Listener`] behaves.
pub(crate) struct ListenerOptions {
    pub tls: Option<TlsAcceptor>,
    /// Connections at once; further ones wait in the system's queue.
    pub max_connections: usize,
    /// How long a client may take nothing of an answer.
    pub write_stall: Duration,
    /// How long requests in flight may go on when the process stops.
    pub grace: Duration,
}

impl Listener {
    /// Serves `app` on a bound socket once it runs.
    pub(crate) fn new(socket: TcpListener, app: Router, options: ListenerOptions, metrics: Arc<Metrics>) -> Self {
        let ListenerOptions { tls, max_connections, write_stall, grace } = options;
        let connections = TaskTracker::new();
        let protocol = Arc::new(Protocol::new(app, tls, &connections, write_stall));
        let socket = ArcSwapOption::from_pointee(socket);
        Self { socket, protocol, connections, places: Arc::new(Semaphore::new(max_connections)), grace, metrics }
    }

    /// Accepts until `stop`; then waits until requests in flight have ended, for at most the grace. What goes on after
    /// that is cut off.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) -> TaskResult {
        let cut = CancellationToken::new();
        let _cut_on_return = cut.clone().drop_guard();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept_all(&stop, &cut) => {}
        }
        // Whoever comes now is refused at once, rather than waiting in the system's queue for the process to end.
        self.socket.store(None);
        self.connections.close();
        info!(connections = self.connections.len(), "stopped accepting; requests in flight may end");
        if timeout(self.grace, self.connections.wait()).await.is_err() {
            let (left, seconds) = (self.connections.len(), self.grace.as_secs());
            warn!(
                connections = left,
                waited_seconds = seconds,
                "{left} connections did not end within {seconds} s and are cut off"
            );
        }
        Ok(())
    }

    async fn accept_all(&self, stop: &CancellationToken, cut: &CancellationToken) {
        let Some(socket) = self.socket.load_full() else { return };
        loop {
            // The place comes first: without one, clients wait in the system's queue rather than here.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match socket.accept().await {
                Ok((socket, remote)) => self.start(socket, remote, place, stop.clone(), cut.clone()),
                Err(error) => {
                    warn!(reason = %error, "a connection could not be accepted: {error}");
                    if timeout(ACCEPT_PAUSE, stop.cancelled()).await.is_ok() {
                        return;
                    }
                }
            }
        }
    }

    fn start(
        &self,
        socket: TcpStream,
        remote: SocketAddr,
        place: OwnedSemaphorePermit,
        stop: CancellationToken,
        cut: CancellationToken,
    ) {
        let (protocol, metrics) = (Arc::clone(&self.protocol), Arc::clone(&self.metrics));
        self.connections.spawn(async move {
            metrics.connections.inc();
            tokio::select! {
                () = protocol.serve(socket, remote, stop) => {}
                () = cut.cancelled() => {}
            }
            metrics.connections.dec();
            drop(place);
        });
    }
}

//! Serves the admin API, and drains it when the process stops.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::geteuid;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::socket::AdminSocket;
use crate::tasks::TaskResult;

/// Connections at once; further ones wait in the system's queue. A person, a probe and a backup are three.
const MAX_CONNECTIONS: usize = 16;

/// From a connection, or the answer before, to the whole head of a request: its client is a program on this machine.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long answers may go on when the process stops: whoever makes one has been told to end it.
const DRAIN: Duration = Duration::from_secs(2);

/// Pause after a failed `accept`: out of files or memory, which only others can release.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket and what is served on it.
pub(crate) struct AdminListener {
    socket: AdminSocket,
    app: Router,
    connections: TaskTracker,
    places: Arc<Semaphore>,
}

impl AdminListener {
    /// Serves `app` once it runs.
    pub(crate) fn new(socket: AdminSocket, app: Router) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { socket, app, connections: TaskTracker::new(), places }
    }

    /// Accepts until `stop`; then waits a moment for answers to end, and cuts off the rest.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) -> TaskResult {
        let cut = CancellationToken::new();
        let _cut_on_return = cut.clone().drop_guard();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept_all(&stop, &cut) => {}
        }
        self.connections.close();
        if timeout(DRAIN, self.connections.wait()).await.is_err() {
            warn!(connections = self.connections.len(), "answers of the admin API did not end in time and are cut off");
        }
        Ok(())
    }

    async fn accept_all(&self, stop: &CancellationToken, cut: &CancellationToken) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match self.socket.listener.accept().await {
                Ok((stream, _)) => self.start(stream, place, stop.clone(), cut.clone()),
                Err(error) => {
                    warn!(reason = %error, "a connection to the admin API could not be accepted: {error}");
                    if timeout(ACCEPT_PAUSE, stop.cancelled()).await.is_ok() {
                        return;
                    }
                }
            }
        }
    }

    fn start(&self, stream: UnixStream, place: OwnedSemaphorePermit, stop: CancellationToken, cut: CancellationToken) {
        if !is_allowed(&stream) {
            return;
        }
        let app = self.app.clone();
        self.connections.spawn(async move {
            tokio::select! {
                () = serve(stream, app, stop) => {}
                () = cut.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// The file's mode says the same, but not in the moment in which it is made, nor after somebody has changed it.
fn is_allowed(stream: &UnixStream) -> bool {
    let uid = stream.peer_cred().map(|peer| peer.uid());
    let allowed = uid.as_ref().is_ok_and(|uid| *uid == 0 || *uid == geteuid().as_raw());
    if !allowed {
        warn!(uid = ?uid.ok(), "another user was refused the admin API");
    }
    allowed
}

async fn serve(stream: UnixStream, app: Router, stop: CancellationToken) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let answer = app.call(request.map(Body::new));
        async move { answer.await.map_err(|never: Infallible| never) }
    });
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(reason = %error, "a connection to the admin API broke: {error}");
    }
}

//! One connection: its handshake, its requests, and the ways in which it ends.
//!
//! ```text
//!  accepted --TLS--> hyper (HTTP/1.1 or HTTP/2) --request--> application
//!                      |
//!    every CONNECTION_LOOK: no request for too long, or a write that nobody takes --> end it
//!    stop: finish what is in flight, then close
//! ```

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Version;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use rustix::net::sockopt::set_tcp_cork;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::limits::{
    CONNECTION_IDLE_TIMEOUT, CONNECTION_LOOK, CONNECTION_WINDOW_BYTES, HEADER_READ_TIMEOUT, MAX_HEADERS, MAX_STREAMS,
    READ_BUFFER_BYTES, STREAM_WINDOW_BYTES, TLS_HANDSHAKE_TIMEOUT,
};
use super::sendfile::{Outbox, is_stand_in};

/// How every connection is served.
pub(super) struct Protocol {
    app: Router,
    tls: Option<TlsAcceptor>,
    http: auto::Builder<Streams>,
    /// A write that the client takes nothing of for so long ends the connection.
    write_stall: Duration,
}

/// The connection that a request came on. In the request's extensions.
#[derive(Clone)]
pub(super) struct Connection {
    remote: SocketAddr,
    activity: Arc<Activity>,
    /// Without TLS.
    outbox: Option<Outbox>,
}

/// While one of these is there, a request is in flight.
pub(super) struct Busy(Arc<Activity>);

/// What is going on.
struct Activity(Mutex<State>);

struct State {
    requests: u32,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// When a write began to wait for the client.
    blocked_since: Option<Instant>,
}

impl Connection {
    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Where the files go that answer a request of this version; `None` if they have to be read and written.
    pub(super) fn outbox(&self, version: Version) -> Option<Outbox> {
        self.outbox.clone().filter(|_| version == Version::HTTP_11)
    }

    /// Tells that a request is in flight.
    pub(super) fn busy(&self) -> Busy {
        self.activity.0.lock().requests += 1;
        Busy(Arc::clone(&self.activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.requests -= 1;
        state.idle_since = Instant::now();
    }
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(State { requests: 0, idle_since: Instant::now(), blocked_since: None }))
    }

    fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.requests == 0 && state.idle_since.elapsed() > CONNECTION_IDLE_TIMEOUT
    }

    fn is_stalled(&self, limit: Duration) -> bool {
        self.0.lock().blocked_since.is_some_and(|since| since.elapsed() > limit)
    }

    fn wrote(&self, blocked: bool) {
        let mut state = self.0.lock();
        state.blocked_since = if blocked { state.blocked_since.or_else(|| Some(Instant::now())) } else { None };
    }
}

/// Runs the streams of HTTP/2 connections where the listener waits for them.
#[derive(Clone)]
struct Streams(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

impl Protocol {
    /// HTTP/1.1 and HTTP/2 for `app`, with TLS if there is an acceptor. Streams run in `tracker`.
    pub(super) fn new(app: Router, tls: Option<TlsAcceptor>, tracker: &TaskTracker, write_stall: Duration) -> Self {
        let mut http = auto::Builder::new(Streams(tracker.clone()));
        http.http1()
            .timer(TokioTimer::new())
            // Heads and bodies are never copied together: what is a stand-in stays one.
            .writev(true)
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .max_buf_size(READ_BUFFER_BYTES)
            .max_headers(MAX_HEADERS);
        http.http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(READ_BUFFER_BYTES).unwrap_or(u32::MAX))
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(CONNECTION_IDLE_TIMEOUT / 4)
            .keep_alive_timeout(CONNECTION_IDLE_TIMEOUT / 4);
        Self { app, tls, http, write_stall }
    }

    /// Serves a connection to its end. Errors are the client's, and only worth a line for those who look for them.
    pub(super) async fn serve(&self, socket: TcpStream, remote: SocketAddr, stop: CancellationToken) {
        // Without it an answer's last packet waits for the acknowledgement of the one before: 40 ms each.
        if let Err(error) = socket.set_nodelay(true) {
            debug!(remote = %remote, reason = %error, "a connection ended at once: {error}");
            return;
        }
        let activity = Arc::new(Activity::new());
        let outbox = Outbox::default();
        let offered = self.tls.is_none().then(|| outbox.clone());
        let connection = Connection { remote, activity: Arc::clone(&activity), outbox: offered };
        let socket = Observed { socket, activity, outbox, corked: false };
        match &self.tls {
            None => self.serve_http(socket, connection, stop).await,
            Some(acceptor) => match timeout(TLS_HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => self.serve_http(stream, connection, stop).await,
                Ok(Err(error)) => debug!(remote = %remote, reason = %error, "a TLS handshake failed: {error}"),
                Err(_) => debug!(remote = %remote, "a TLS handshake took too long"),
            },
        }
    }

    async fn serve_http<S>(&self, stream: S, connection: Connection, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (remote, activity) = (connection.remote, Arc::clone(&connection.activity));
        let app = TowerToHyperService::new(self.app.clone());
        let service = service_fn(move |request: http::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(connection.clone());
            let answer = app.call(request);
            async move { answer.await.map_err(|never: Infallible| never) }
        });
        let mut serving = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let mut looks = interval(CONNECTION_LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut stopping, mut asked) = (false, false);
        loop {
            tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        debug!(remote = %remote, reason = %error, "a connection broke: {error}");
                    }
                    return;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
                _ = looks.tick() => {
                    if activity.is_stalled(self.write_stall) {
                        debug!(remote = %remote, "a connection is closed: its client takes nothing");
                        return;
                    }
                    if activity.is_idle() {
                        if asked {
                            return;
                        }
                        asked = true;
                        serving.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }
}

/// A socket that tells whether a write waits for the client, and sends the files that stand-ins stand for.
struct Observed {
    socket: TcpStream,
    activity: Arc<Activity>,
    outbox: Outbox,
    /// Whether the kernel sends full segments only, until the next flush. A call that sends a file ends where the
    /// socket's buffer is full, and the odd end of each would be a segment that wakes the client: beside `TCP_NODELAY`
    /// alone this was measured to give a fifth more, which is why servers of files have it (nginx: `tcp_nopush`).
    corked: bool,
}

impl Observed {
    fn cork(&mut self, corked: bool) -> io::Result<()> {
        if self.corked != corked {
            set_tcp_cork(&self.socket, corked)?;
            self.corked = corked;
        }
        Ok(())
    }
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stand_in = buffers.iter().position(|buffer| is_stand_in(buffer));
        if stand_in.is_some() {
            self.cork(true)?;
        }
        let polled = match stand_in {
            Some(0) => self.outbox.poll_send(&self.socket, cx, buffers[0].len()),
            Some(before) => Pin::new(&mut self.socket).poll_write_vectored(cx, &buffers[..before]),
            None => Pin::new(&mut self.socket).poll_write_vectored(cx, buffers),
        };
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cork(false)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

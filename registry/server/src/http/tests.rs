//! Whole exchanges over real sockets, with a toy in the API's place.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use roadstead_blobs::{FileRange, MAX_FILE_RANGE};
use roadstead_domain::Entropy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::limits::{CONNECTION_IDLE_TIMEOUT, CONNECTION_LOOK, LINGER, MAX_HEADER_BYTES, MAX_URL_BYTES};
use super::{Edge, Listener, ListenerOptions};
use crate::ambient::OsEntropy;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::tasks::TaskResult;

const FILE_BYTES: usize = MAX_FILE_RANGE + 500_000;
const GRACE: Duration = Duration::from_secs(20);
const WRITE_STALL: Duration = Duration::from_secs(30);

/// A server with a toy behind it.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    running: tokio::task::JoinSet<TaskResult>,
    health: Arc<Health>,
    /// `/v2/slow` answers when it is told to.
    go_on: Arc<Notify>,
    /// A request for `/v2/slow` has come.
    came: Arc<Notify>,
}

impl Server {
    async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::new().unwrap()));
        let (go_on, came) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let api = {
            let (go_on, came) = (Arc::clone(&go_on), Arc::clone(&came));
            Router::new().fallback(move |request| toy(request, Arc::clone(&go_on), Arc::clone(&came)))
        };
        let edge = Edge {
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            entropy: Arc::new(OsEntropy) as Arc<dyn Entropy>,
            body_idle_timeout: Duration::from_mins(1),
            sample: Box::new(|_| ()),
            lingering: TaskTracker::new(),
        };
        let options = ListenerOptions { tls: None, max_connections: 8, write_stall: WRITE_STALL, grace: GRACE };
        let listener = Arc::new(Listener::new(socket, edge.around(api), options, metrics));
        let stop = CancellationToken::new();
        let mut running = tokio::task::JoinSet::new();
        running.spawn(listener.run(stop.clone()));
        Self { address, stop, running, health, go_on, came }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request that closes its connection, and reads the answer.
    async fn ask(&self, request: &str) -> Answer {
        let mut socket = self.connect().await;
        socket.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
        read(&mut socket).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\nhost: x\nconnection: close\n\n")).await
    }

    async fn ended(&mut self) -> bool {
        self.running.join_next().await.is_some_and(|ended| ended.unwrap().is_ok())
    }
}

async fn toy(request: Request, go_on: Arc<Notify>, came: Arc<Notify>) -> Response {
    match request.uri().path() {
        "/v2/" => "{}".into_response(),
        "/v2/panic" => panic!("a bug"),
        "/v2/refuse" => StatusCode::UNAUTHORIZED.into_response(),
        "/v2/slow" => {
            came.notify_one();
            go_on.notified().await;
            "at last".into_response()
        }
        "/v2/flood" => {
            let told = Told(came);
            let chunks = stream::iter(std::iter::repeat_with(move || {
                let _until_dropped = &told;
                Ok::<_, Infallible>(Bytes::from_static(&[0; 8 << 10]))
            }));
            Body::from_stream(chunks).into_response()
        }
        "/v2/file" => file(&request),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Letters: 49 of them again and again, which divides the length of no stretch.
fn letters(len: usize) -> String {
    (b'a'..=b'z').chain(b'A'..=b'W').cycle().take(len).map(char::from).collect()
}

/// A file in three stretches, of which the last is as much longer than the file as the query says.
fn file(request: &Request) -> Response {
    let connection = request.extensions().get::<Connection>().expect("of every request");
    let Some(outbox) = connection.outbox(request.version()) else { return StatusCode::NOT_IMPLEMENTED.into_response() };
    let missing: usize = request.uri().query().map_or(0, |missing| missing.parse().unwrap());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(letters(FILE_BYTES).as_bytes()).unwrap();
    let file = Arc::new(file);
    let range = |from: usize, to: usize| Ok(FileRange { file: Arc::clone(&file), offset: from as u64, len: to - from });
    let last = FILE_BYTES - 10;
    let ranges = [range(0, MAX_FILE_RANGE), range(MAX_FILE_RANGE, last), range(last, FILE_BYTES + missing)];
    let body = Body::from_stream(outbox.body(stream::iter(ranges).boxed()));
    Response::builder().header(CONTENT_LENGTH, FILE_BYTES + missing).body(body).unwrap()
}

/// Tells when it is dropped.
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

/// Reads one answer to the end of its connection.
async fn read(socket: &mut TcpStream) -> Answer {
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Answer { status, headers: lines.filter_map(field).collect(), body: body.to_owned() }
}

#[tokio::test]
async fn every_answer_has_an_id_and_those_of_the_api_its_version() {
    let server = Server::start().await;
    for (path, status, is_api) in
        [("/v2/", 200, true), ("/v2/nothing", 404, true), ("/livez", 200, false), ("/", 404, false)]
    {
        let answer = server.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["x-request-id"].len(), 32, "{path}");
        let version = answer.headers.get("docker-distribution-api-version").map(String::as_str);
        assert_eq!(version, is_api.then_some("registry/2.0"), "{path}");
    }
    let answer = server.ask("GET /v2/ HTTP/1.1\nhost: x\nx-request-id: mine-1\nconnection: close\n\n").await;
    assert_eq!(answer.headers["x-request-id"], "mine-1");
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_in_the_apis_form() {
    let server = Server::start().await;
    let long = server.get(&format!("/v2/{}", "a".repeat(MAX_URL_BYTES))).await;
    assert_eq!(long.status, 414);
    insta::assert_snapshot!(long.body, @r#"{"errors":[{"code":"NAME_INVALID","message":"the URL has 8196 bytes; at most 8192 are accepted"}]}"#);
    let filler = "b".repeat(MAX_HEADER_BYTES);
    let wide = server.ask(&format!("GET /v2/ HTTP/1.1\nhost: x\ncookie: {filler}\nconnection: close\n\n")).await;
    assert_eq!(wide.status, 431);
    insta::assert_snapshot!(wide.body, @r#"{"errors":[{"code":"UNSUPPORTED","message":"the header fields have 32794 bytes; at most 32768 are accepted"}]}"#);
    let wider = server.ask(&format!("GET /v2/ HTTP/1.1\nhost: x\ncookie: {filler}{filler}{filler}\n\n")).await;
    assert_eq!(wider.status, 431, "what does not even fit into the buffer");
}

#[tokio::test]
async fn a_panic_is_answered_and_harms_nobody_else() {
    let server = Server::start().await;
    let answer = server.ask("GET /v2/panic HTTP/1.1\nhost: x\nx-request-id: id-7\nconnection: close\n\n").await;
    assert_eq!(answer.status, 500);
    insta::assert_snapshot!(answer.body, @r#"{"errors":[{"code":"UNKNOWN","message":"the registry failed; its log has the reason under the request id id-7"}]}"#);
    assert_eq!(server.get("/v2/").await.status, 200);
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let server = Server::start().await;
    let mut socket = server.connect().await;
    let length = 64 << 20;
    let head = format!("PATCH /v2/refuse HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![0; 1 << 20];
    for _ in 0..64 {
        socket.write_all(&chunk).await.expect("the server reads on");
    }
    // The same connection goes on.
    socket.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 401 ") && text.ends_with("{}"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_never_ends_is_cut_off() {
    let server = Server::start().await;
    let mut socket = server.connect().await;
    let began = Instant::now();
    socket.write_all(b"PATCH /v2/refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc").await.unwrap();
    assert_eq!(read(&mut socket).await.status, 401);
    assert!(began.elapsed() < LINGER * 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_whole_request_is_closed() {
    let server = Server::start().await;
    for sent in ["", "GET /v2/ HT", "PRI * HTTP/2.0\r\n"] {
        let mut socket = server.connect().await;
        let began = Instant::now();
        socket.write_all(sent.as_bytes()).await.unwrap();
        // Where something unread is left, it is a reset rather than an end.
        let _ = socket.read_to_end(&mut Vec::new()).await;
        let waited = began.elapsed();
        assert!(waited >= CONNECTION_IDLE_TIMEOUT, "{sent:?}: {waited:?}");
        assert!(waited <= CONNECTION_IDLE_TIMEOUT + 3 * CONNECTION_LOOK, "{sent:?}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let server = Server::start().await;
    let mut socket = server.connect().await;
    let began = Instant::now();
    socket.write_all(b"GET /v2/flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.came.notified().await;
    assert!(began.elapsed() >= WRITE_STALL);
    assert!(began.elapsed() <= WRITE_STALL + 3 * CONNECTION_LOOK);
}

#[tokio::test]
async fn a_file_is_sent_byte_for_byte_again_and_again() {
    let server = Server::start().await;
    let mut socket = server.connect().await;
    // The second request comes before the first is answered.
    let request = "GET /v2/file HTTP/1.1\r\nhost: x\r\n\r\n";
    socket
        .write_all(format!("{request}{request}GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let bodies: Vec<_> =
        text.split("HTTP/1.1 200 OK").filter_map(|answer| Some(answer.split_once("\r\n\r\n")?.1)).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies[0] == letters(FILE_BYTES) && bodies[1] == bodies[0] && bodies[2] == "{}");
    let older = server.ask("GET /v2/file HTTP/1.0\nhost: x\n\n").await;
    assert_eq!(older.status, 501, "no files for what is framed otherwise");
}

#[tokio::test]
async fn a_file_that_is_too_short_breaks_the_answer_off() {
    let server = Server::start().await;
    let answer = server.get("/v2/file?7").await;
    assert_eq!(answer.headers["content-length"], (FILE_BYTES + 7).to_string());
    assert!(answer.body == letters(FILE_BYTES), "nothing is made up");
}

#[tokio::test]
async fn draining_lets_requests_in_flight_end_and_takes_no_new_ones() {
    let mut server = Server::start().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /v2/slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.came.notified().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    idle.read_exact(&mut status).await.unwrap();
    server.health.draining();
    server.stop.cancel();
    idle.read_to_end(&mut Vec::new()).await.expect("an idle connection is closed at once");
    server.go_on.notify_one();
    let answer = read(&mut slow).await;
    assert_eq!((answer.status, &*answer.body), (200, "at last"));
    assert_eq!(answer.headers["connection"], "close");
    assert!(server.ended().await);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_with_the_grace() {
    let mut server = Server::start().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /v2/slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.came.notified().await;
    let began = Instant::now();
    server.stop.cancel();
    assert!(server.ended().await);
    assert_eq!(began.elapsed(), GRACE);
    assert_eq!(slow.read_to_end(&mut Vec::new()).await.unwrap(), 0, "the connection is cut off");
}

#[tokio::test]
async fn readiness_and_metrics_are_served_beside_the_api() {
    let server = Server::start().await;
    assert_eq!(server.get("/readyz").await.status, 503);
    server.health.ready();
    assert_eq!(server.get("/readyz").await.status, 200);
    server.health.draining();
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/livez").await.body, "alive\n");
    let metrics = server.get("/metrics").await.body;
    assert!(
        metrics.contains("roadstead_http_requests_total{method=\"GET\",route=\"readyz\",status=\"5xx\"} 2"),
        "{metrics}"
    );
}

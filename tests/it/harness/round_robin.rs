use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Client;

type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

/// One address for several replicas: each request, whatever connection it comes on, goes to the next of them that takes a
/// connection, on a connection of its own. So only a request that was on its way to a replica when that died has no
/// answer: it gets a 502, and is written down.
pub(crate) struct RoundRobin {
    address: SocketAddr,
    targets: Arc<Targets>,
    /// Ends all connections when it is dropped.
    _tasks: JoinSet<()>,
}

/// A request that broke off.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// What its client is told, and nobody else.
    pub(crate) name: String,
    pub(crate) target: String,
    /// With its method, its replica, and how it broke off.
    #[expect(dead_code, reason = "it is printed")]
    what: String,
}

struct Targets {
    replicas: Vec<Client>,
    next: AtomicUsize,
    cut: Mutex<Vec<Cut>>,
    refused: Mutex<Vec<String>>,
}

impl RoundRobin {
    /// In front of replicas at these bases, `http://127.0.0.1:5000` for one.
    pub(crate) async fn over(bases: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a listener has an address");
        let replicas = bases.iter().map(|base| Client::with_authorities(base, &[])).collect();
        let (cut, refused) = (Mutex::default(), Mutex::default());
        let targets = Arc::new(Targets { replicas, next: AtomicUsize::default(), cut, refused });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&targets)));
        Self { address, targets, _tasks: tasks }
    }

    /// The requests that broke off.
    pub(crate) fn cut(&self) -> Vec<Cut> {
        self.targets.cut.lock().expect("no test panics under this lock").clone()
    }

    /// The requests that a replica answered with 500 or more.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.targets.refused.lock().expect("no test panics under this lock").clone()
    }

    /// Host and port as clients write them in front of a repository.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept(listener: TcpListener, targets: Arc<Targets>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(client, Arc::clone(&targets)));
    }
}

async fn serve(client: TcpStream, targets: Arc<Targets>) {
    let service = service_fn(move |request| {
        let targets = Arc::clone(&targets);
        async move { Ok::<_, Infallible>(targets.forward(request).await) }
    });
    // A client that goes away is no concern of the test.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
}

/// A request on its way: its target, its method and its replica.
struct Asked {
    target: String,
    what: String,
}

impl Targets {
    /// The next replica that takes connections; if none does, the one whose turn it is.
    async fn next(&self) -> &Client {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for turn in 0..self.replicas.len() {
            let replica = &self.replicas[(first + turn) % self.replicas.len()];
            let address = replica.base().trim_start_matches("http://");
            if TcpStream::connect(address).await.is_ok() {
                return replica;
            }
        }
        &self.replicas[first % self.replicas.len()]
    }

    async fn forward(self: Arc<Self>, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
        let replica = self.next().await;
        let base = replica.base();
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        for name in [HOST, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let has_body = !hyper::body::Body::is_end_stream(&body);
        let asked = Asked { target: head.uri.to_string(), what: format!("{} at {base}", head.method) };
        let mut request = replica.http().request(head.method, format!("{base}{}", head.uri)).headers(headers);
        if has_body {
            let pieces = BodyStream::new(body).try_filter_map(async |frame| Ok(frame.into_data().ok()));
            request = request.body(reqwest::Body::wrap_stream(pieces));
        }
        match request.send().await {
            Ok(response) => self.answer(asked, response),
            Err(error) => {
                let told = self.note_cut(&asked, &error);
                let body = Full::new(Bytes::from(told)).map_err(|never: Infallible| match never {}).boxed_unsync();
                let mut gone = hyper::Response::new(body);
                *gone.status_mut() = hyper::StatusCode::BAD_GATEWAY;
                gone
            }
        }
    }

    fn note_cut(&self, asked: &Asked, error: &reqwest::Error) -> String {
        let mut cut = self.cut.lock().expect("no test panics under this lock");
        let name = format!("cut off, the {}.", cut.len());
        let what = format!("{}: {error:?}", asked.what);
        cut.push(Cut { name: name.clone(), target: asked.target.clone(), what });
        name
    }

    fn answer(self: Arc<Self>, asked: Asked, response: reqwest::Response) -> hyper::Response<Body> {
        let (status, mut headers) = (response.status(), response.headers().clone());
        if status.is_server_error() {
            let refused = format!("{} {}: {status}", asked.what, asked.target);
            self.refused.lock().expect("no test panics under this lock").push(refused);
        }
        for name in [CONNECTION, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        let pieces = response.bytes_stream().map_ok(Frame::data).inspect_err(move |error| {
            self.note_cut(&asked, error);
        });
        let mut answer = hyper::Response::new(StreamBody::new(pieces).boxed_unsync());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        answer
    }
}

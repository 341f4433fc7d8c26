use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Client;

type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

/// One address for several replicas: each request, whatever connection it comes on, goes to the next of them.
pub(crate) struct RoundRobin {
    address: SocketAddr,
    /// Ends all connections when it is dropped.
    _tasks: JoinSet<()>,
}

struct Targets {
    replicas: Vec<Client>,
    next: AtomicUsize,
}

impl RoundRobin {
    /// In front of replicas at these bases, `http://127.0.0.1:5000` for one.
    pub(crate) async fn over(bases: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a listener has an address");
        let replicas = bases.iter().map(|base| Client::with_authorities(base, &[])).collect();
        let targets = Arc::new(Targets { replicas, next: AtomicUsize::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, targets));
        Self { address, _tasks: tasks }
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

impl Targets {
    async fn forward(&self, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
        let replica = &self.replicas[self.next.fetch_add(1, Ordering::Relaxed) % self.replicas.len()];
        let base = replica.base();
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        for name in [CONNECTION, HOST, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        let has_body = !hyper::body::Body::is_end_stream(&body);
        let mut request = replica.http().request(head.method, format!("{base}{}", head.uri)).headers(headers);
        if has_body {
            let pieces = BodyStream::new(body).try_filter_map(async |frame| Ok(frame.into_data().ok()));
            request = request.body(reqwest::Body::wrap_stream(pieces));
        }
        match request.send().await {
            Ok(response) => answer(response),
            Err(error) => {
                let mut gone =
                    hyper::Response::new(Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync());
                *gone.status_mut() = hyper::StatusCode::BAD_GATEWAY;
                let why = format!("{base}: {error}").replace(['\r', '\n'], " ");
                gone.headers_mut().insert("x-why", why.parse().expect("text"));
                gone
            }
        }
    }
}

fn answer(response: reqwest::Response) -> hyper::Response<Body> {
    let (status, mut headers) = (response.status(), response.headers().clone());
    for name in [CONNECTION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let pieces = response.bytes_stream().map_ok(Frame::data);
    let mut answer = hyper::Response::new(StreamBody::new(pieces).boxed_unsync());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

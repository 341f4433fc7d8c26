use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes that are moved at once: small, so that a stalled forwarder holds next to nothing back by itself.
const BUFFER: usize = 16 << 10;

/// A man in the middle of HTTP/1.1 connections, that passes every byte on unchanged, records the heads of the requests,
/// counts, and can stop reading.
pub(crate) struct Forwarder {
    address: SocketAddr,
    traffic: Arc<Traffic>,
    flowing: watch::Sender<bool>,
    /// Ends all connections when it is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Traffic {
    heads: Mutex<Vec<String>>,
    bodies: AtomicU64,
}

impl Forwarder {
    /// Forwards to `target`, `127.0.0.1:9000` for one.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a listener has an address");
        let traffic = Arc::new(Traffic::default());
        let (flowing, flow) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, Arc::clone(&traffic), flow));
        Self { address, traffic, flowing, _tasks: tasks }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port that it listens on, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The heads of the requests that came, each from its request line to its last header.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.traffic.heads.lock().expect("no test panics under this lock").clone()
    }

    /// Bytes that came from the clients as the bodies of requests.
    pub(crate) fn bodies(&self) -> u64 {
        self.traffic.bodies.load(Ordering::Relaxed)
    }

    /// Reads nothing more from the clients until [`Self::resume`].
    pub(crate) fn stall(&self) {
        self.flowing.send_replace(false);
    }

    /// Goes on after [`Self::stall`].
    pub(crate) fn resume(&self) {
        self.flowing.send_replace(true);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, traffic: Arc<Traffic>, flow: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        // A server that is down looks like that through the forwarder too: the client's connection ends.
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        connections.spawn(upstream(from_client, to_server, Arc::clone(&traffic), flow.clone()));
        connections.spawn(downstream(from_server, to_client));
    }
}

async fn upstream(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    traffic: Arc<Traffic>,
    mut flow: watch::Receiver<bool>,
) {
    let mut requests = Requests::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        if flow.wait_for(|flowing| *flowing).await.is_err() {
            return;
        }
        let Ok(read @ 1..) = client.read(&mut buffer).await else { return };
        requests.see(&buffer[..read], &traffic);
        if server.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn downstream(mut server: OwnedReadHalf, mut client: OwnedWriteHalf) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = server.read(&mut buffer).await {
        if client.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Tells heads from bodies in the requests of one connection. Clients of S3 say the length of every body.
#[derive(Default)]
struct Requests {
    head: Vec<u8>,
    body_left: usize,
}

impl Requests {
    fn see(&mut self, mut bytes: &[u8], traffic: &Traffic) {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let body = self.body_left.min(bytes.len());
                traffic.bodies.fetch_add(body as u64, Ordering::Relaxed);
                self.body_left -= body;
                bytes = &bytes[body..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if self.head.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&std::mem::take(&mut self.head)).into_owned();
                self.body_left = body_length(&head);
                traffic.heads.lock().expect("no test panics under this lock").push(head);
            }
        }
    }
}

fn body_length(head: &str) -> usize {
    let mut lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
    });
    lengths.next().unwrap_or(0)
}

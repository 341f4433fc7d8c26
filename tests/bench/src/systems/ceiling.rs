//! A server that does nothing but answer, in a process of its own: what the load generator makes of it is the most that
//! it can measure.
//!
//! ```text
//!   GET  /bytes/<n>   n bytes          POST   a Location
//!   HEAD /bytes/<n>   no bytes         PATCH  takes the body        PUT  takes the body
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::server::scratch;
use super::{Process, Server, System, free_address};
use crate::load::wire::{Framing, Wire};

/// Bytes of one write of a body.
const WRITE: usize = 1 << 20;

impl Server {
    /// Starts this program again as such a server.
    pub(crate) async fn ceiling(parent: &Path) -> Result<Self> {
        let folder = scratch(parent, "ceiling")?;
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("respond").arg(address.to_string());
        let process = Process::start("ceiling", command, folder.path())?;
        Self::ready(System::Ceiling, address, process, folder, "/bytes/0").await
    }
}

/// Answers at `address` until the process is killed.
pub(crate) async fn respond(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        // Those that have ended need no memory.
        while connections.try_join_next().is_some() {}
        // One that fails is closed, which its client notices.
        connections.spawn(serve(stream));
    }
}

async fn serve(stream: TcpStream) -> Result<()> {
    let mut wire = Wire::new(stream, false)?;
    let content = vec![0; WRITE];
    // The last answer's head with the first bytes of its body: mostly the next one's too.
    let (mut begun, mut begun_for) = (Vec::new(), None);
    loop {
        let Some(request) = receive(&mut wire).await? else { return Ok(()) };
        let head = format!("HTTP/1.1 {}\r\nContent-Length: {}\r\n\r\n", request.answer, request.length);
        if request.length == 0 || request.head_only {
            wire.send(head.as_bytes()).await?;
            continue;
        }
        // A small body goes out with its head.
        let first = usize::try_from(request.length).unwrap_or(WRITE).min(WRITE);
        if begun_for != Some(request.length) {
            begun = [head.as_bytes(), &content[..first]].concat();
            begun_for = Some(request.length);
        }
        wire.send(&begun).await?;
        let mut left = request.length - first as u64;
        while left > 0 {
            let next = usize::try_from(left).unwrap_or(WRITE).min(WRITE);
            wire.send(&content[..next]).await?;
            left -= next as u64;
        }
    }
}

struct Received {
    answer: &'static str,
    length: u64,
    head_only: bool,
}

async fn receive(wire: &mut Wire) -> Result<Option<Received>> {
    let (received, framing, consumed) = loop {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(consumed) = request.parse(wire.buffered())? {
            let length = request.path.and_then(|path| path.strip_prefix("/bytes/"));
            let length = length.map(str::parse).transpose()?.unwrap_or(0);
            let (answer, head_only) = match request.method.context("a request without a method")? {
                "HEAD" => ("200 OK", true),
                "POST" | "PATCH" => ("202 Accepted\r\nLocation: /upload", false),
                "PUT" => ("201 Created", false),
                _ => ("200 OK", false),
            };
            break (Received { answer, length, head_only }, Framing::of(request.headers)?, consumed);
        }
        if !wire.fill().await? {
            ensure!(wire.buffered().is_empty(), "a request that does not end");
            return Ok(None);
        }
    };
    wire.consume(consumed);
    wire.body(framing, None).await?;
    Ok(Some(received))
}

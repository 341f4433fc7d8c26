use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::wire::{Framing, Wire};

/// A system that has not answered in this time has failed: the slowest answer measured is a page of a catalog, or the
/// close of a push of 1 GB, both under a minute.
const PATIENCE: Duration = Duration::from_mins(5);

/// More header fields than any of the systems sends: a push of many tags is answered with one for each.
const MAX_HEADERS: usize = 128;

/// Whether a client copies the bytes that it reads, as real ones do, or has the kernel drop them, so that its own work
/// hides nothing of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Copying,
    Dropping,
}

/// A request, made once and sent many times.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    head_only: bool,
    /// The length that the body of the answer must have, where it is known.
    expected: Option<u64>,
}

/// What clients of registries say that they accept.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

impl Request {
    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn head(target: &str) -> Self {
        Self { head_only: true, ..Self::new("HEAD", target) }
    }

    pub(crate) fn with_body(method: &str, target: &str, content_type: &str, body: &[u8]) -> Self {
        let mut request = head(method, target);
        let _ = write!(request, "Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len());
        Self { bytes: [request.as_bytes(), body].concat(), head_only: false, expected: None }
    }

    /// Asks for a stretch of a blob, and fails unless it is answered with as many bytes.
    pub(crate) fn range(target: &str, range: &Range<u64>) -> Self {
        let Range { start, end } = range;
        let mut request = head("GET", target);
        let _ = write!(request, "Range: bytes={start}-{}\r\n\r\n", end - 1);
        Self { bytes: request.into_bytes(), head_only: false, expected: Some(end - start) }
    }

    /// Fails unless the answer has a body of this length.
    pub(crate) fn expecting(self, length: u64) -> Self {
        Self { expected: Some(length), ..self }
    }

    fn new(method: &str, target: &str) -> Self {
        let mut request = head(method, target);
        let _ = write!(request, "Accept: {ACCEPT}\r\n\r\n");
        Self { bytes: request.into_bytes(), head_only: false, expected: None }
    }
}

/// The request line and the fields that every client sends.
pub(super) fn head(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: registry.test\r\nUser-Agent: roadstead-bench\r\n")
}

/// One keep-alive connection of one client.
pub(crate) struct Connection {
    wire: Wire,
    /// The head of the last answer.
    head: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, reading: Reading) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        Ok(Self { wire: Wire::new(stream, reading == Reading::Copying)?, head: Vec::new() })
    }

    /// Sends a request and drops the answer's body, of which it returns the length. Fails unless it is a 2xx.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<u64> {
        let answer = async {
            self.wire.send(&request.bytes).await?;
            self.answer(request.head_only, None).await
        };
        let (status, length) = timeout(PATIENCE, answer).await.context("no answer")??;
        ensure!((200..300).contains(&status), "answered with {status}: {}", first_line(&request.bytes));
        if let Some(expected) = request.expected {
            ensure!(length == expected, "{length} bytes instead of {expected}: {}", first_line(&request.bytes));
        }
        Ok(length)
    }

    /// Sends a request, and says how long the first byte of its answer's body took, and how many there were. Fails unless it
    /// is a 2xx.
    pub(crate) async fn first_byte(&mut self, request: &Request) -> Result<(Duration, u64)> {
        let began = Instant::now();
        let answer = async {
            self.wire.send(&request.bytes).await?;
            let (status, framing) = self.answer_head().await?;
            ensure!((200..300).contains(&status), "answered with {status}: {}", first_line(&request.bytes));
            if self.wire.buffered().is_empty() {
                ensure!(self.wire.fill().await?, "the connection was closed before the first byte");
            }
            let first = began.elapsed();
            Ok((first, self.wire.body(framing, None).await?))
        };
        timeout(PATIENCE, answer).await.context("no answer")?
    }

    /// The body of an answer, whole, with its status.
    pub(crate) async fn fetch(&mut self, request: &Request) -> Result<(u16, Vec<u8>)> {
        let mut body = Vec::new();
        self.wire.send(&request.bytes).await?;
        let answer = self.answer(request.head_only, Some(&mut body));
        let (status, _) = timeout(PATIENCE, answer).await.context("no answer")??;
        Ok((status, body))
    }

    /// Sends bytes of a request.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(timeout(PATIENCE, self.wire.send(bytes)).await.context("nothing is read")??)
    }

    /// Reads the answer to a request that was sent, which must have the status `expected`.
    pub(super) async fn expect(&mut self, expected: u16, what: &str) -> Result<()> {
        let mut body = Vec::new();
        let (status, _) = timeout(PATIENCE, self.answer(false, Some(&mut body))).await.context("no answer")??;
        if status != expected {
            bail!("{what}: {status} instead of {expected}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }

    /// A header field of the last answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).ok()?;
        let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    async fn answer(&mut self, head_only: bool, kept: Option<&mut Vec<u8>>) -> Result<(u16, u64)> {
        let (status, framing) = self.answer_head().await?;
        if head_only || status == 204 || status == 304 {
            return Ok((status, if let Framing::Length(length) = framing { length } else { 0 }));
        }
        Ok((status, self.wire.body(framing, kept).await?))
    }

    async fn answer_head(&mut self) -> Result<(u16, Framing)> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            let buffered = self.wire.buffered();
            if let httparse::Status::Complete(length) = response.parse(buffered)? {
                let status = response.code.context("an answer without a status")?;
                let framing = Framing::of(response.headers)?;
                self.head.clear();
                self.head.extend_from_slice(&buffered[..length]);
                self.wire.consume(length);
                // "100 Continue" and its like are not the answer.
                if status >= 200 {
                    return Ok((status, framing));
                }
            } else {
                ensure!(self.wire.fill().await?, "the connection was closed before an answer");
            }
        }
    }
}

fn first_line(request: &[u8]) -> String {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

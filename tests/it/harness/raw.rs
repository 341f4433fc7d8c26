use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Reply;

/// Longer than any answer takes, on two busy cores.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// A bare connection, for requests that no HTTP client would send.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the registry takes connections");
        stream.set_nodelay(true).expect("an option of TCP");
        Self { stream: BufReader::new(stream) }
    }

    /// Sends one request with `Connection: close` and reads its answer.
    pub(crate) async fn exchange(address: SocketAddr, head: &[u8], body: &[u8]) -> Reply {
        let mut connection = Self::open(address).await;
        // A server may answer and close before it has read everything; the answer is what counts.
        let _ = connection.try_send(head).await;
        let _ = connection.try_send(body).await;
        connection.answer().await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("the registry reads");
    }

    async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Reads one answer; fails if the connection ends without one.
    pub(crate) async fn answer(&mut self) -> Reply {
        self.try_answer().await.expect("an answer before the connection ends")
    }

    /// Reads one answer; `None` if the connection ends, or is reset, without one.
    pub(crate) async fn try_answer(&mut self) -> Option<Reply> {
        timeout(ANSWER_TIMEOUT, self.read_answer()).await.expect("an answer in time")
    }

    async fn read_answer(&mut self) -> Option<Reply> {
        loop {
            let status_line = self.line().await?;
            let status = status_line.split(' ').nth(1)?.parse::<u16>().ok()?;
            let mut headers = HeaderMap::new();
            loop {
                let line = self.line().await?;
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').expect("a header has a colon");
                headers.append(
                    name.parse::<HeaderName>().expect("a header's name"),
                    HeaderValue::from_str(value.trim()).expect("a header's value"),
                );
            }
            if status >= 200 {
                return Some(Reply { status, body: self.body(&headers).await?, headers });
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(read) if read > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }

    async fn body(&mut self, headers: &HeaderMap) -> Option<Bytes> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut body = Vec::new();
        if text("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line().await?, 16).ok()?;
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk).await.ok()?;
                self.line().await?;
                if size == 0 {
                    break;
                }
                body.extend(chunk);
            }
        } else if let Some(length) = text("content-length") {
            body = vec![0; length.parse().ok()?];
            self.stream.read_exact(&mut body).await.ok()?;
        } else {
            self.stream.read_to_end(&mut body).await.ok()?;
        }
        Some(body.into())
    }
}

//! Pushes as clients do them.
//!
//! ```text
//!   docker       POST   PATCH (chunked, streamed)          PUT ?digest= (empty)
//!   containerd   POST                                      PUT ?digest= (the whole blob, with its length)
//!   in chunks    POST   PATCH (Content-Range) ... PATCH    PUT ?digest= (empty)
//! ```

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep_until};

use super::Connection;
use super::connection::head;
use crate::payload::{BLOCK, Block, Payload};

/// Whose way of pushing a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Docker,
    Containerd,
}

/// Bytes of a chunk as the HTTP client of Go, which docker uses, sends them.
const HTTP_CHUNK: usize = 32 * 1024;

/// Pushes a blob; fails unless it was accepted.
pub(crate) async fn push_blob(
    connection: &mut Connection,
    repository: &str,
    payload: &Payload,
    client: Client,
) -> Result<()> {
    match client {
        Client::Docker => push_streamed(connection, repository, payload, None).await,
        Client::Containerd => {
            let session = begin(connection, repository).await?;
            close(connection, &session, payload, payload.length()).await
        }
    }
}

/// Pushes a blob as docker does, at so many bytes a second from its first to its last, if that is said.
pub(crate) async fn push_streamed(
    connection: &mut Connection,
    repository: &str,
    payload: &Payload,
    bytes_per_second: Option<u64>,
) -> Result<()> {
    let session = begin(connection, repository).await?;
    let request = format!(
        "{}Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        head("PATCH", &session)
    );
    connection.send(request.as_bytes()).await?;
    send_chunked(connection, payload, bytes_per_second).await?;
    connection.expect(202, "PATCH of an upload").await?;
    let session = location(connection)?;
    close(connection, &session, payload, 0).await
}

/// Pushes a blob in chunks of the smallest size that the registry takes, or of `otherwise` if it names none. Returns
/// the size.
pub(crate) async fn push_in_chunks(
    connection: &mut Connection,
    repository: &str,
    payload: &Payload,
    otherwise: u64,
) -> Result<u64> {
    let mut session = begin(connection, repository).await?;
    let minimum = connection.header("oci-chunk-min-length").map(str::parse).transpose()?;
    let chunk: u64 = minimum.unwrap_or(otherwise).max(1);
    let mut from = 0;
    while from < payload.length() {
        let to = (from + chunk).min(payload.length());
        let request = format!(
            "{}Content-Type: application/octet-stream\r\nContent-Range: {from}-{}\r\nContent-Length: {}\r\n\r\n",
            head("PATCH", &session),
            to - 1,
            to - from
        );
        connection.send(request.as_bytes()).await?;
        send_plain(connection, payload, from, to).await?;
        connection.expect(202, "PATCH of a chunk").await?;
        session = location(connection)?;
        from = to;
    }
    close(connection, &session, payload, 0).await?;
    Ok(chunk)
}

/// Puts a manifest under a reference, which may carry a query.
pub(crate) async fn put_manifest(
    connection: &mut Connection,
    repository: &str,
    reference: &str,
    media_type: &str,
    manifest: &[u8],
) -> Result<()> {
    let target = format!("/v2/{repository}/manifests/{reference}");
    let length = manifest.len();
    let request = format!("{}Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n", head("PUT", &target));
    connection.send(&[request.as_bytes(), manifest].concat()).await?;
    connection.expect(201, "PUT of a manifest").await
}

async fn begin(connection: &mut Connection, repository: &str) -> Result<String> {
    let request = format!("{}Content-Length: 0\r\n\r\n", head("POST", &format!("/v2/{repository}/blobs/uploads/")));
    connection.send(request.as_bytes()).await?;
    connection.expect(202, "POST of an upload").await?;
    location(connection)
}

/// Closes a session with the payload's digest and the last `length` bytes of it, which are none or all.
async fn close(connection: &mut Connection, session: &str, payload: &Payload, length: u64) -> Result<()> {
    let separator = if session.contains('?') { '&' } else { '?' };
    // The colon of a digest needs no escaping in a query.
    let target = format!("{session}{separator}digest={}", payload.digest());
    let request =
        format!("{}Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n", head("PUT", &target));
    connection.send(request.as_bytes()).await?;
    send_plain(connection, payload, 0, length).await?;
    connection.expect(201, "PUT of an upload").await
}

async fn send_plain(connection: &mut Connection, payload: &Payload, from: u64, to: u64) -> Result<()> {
    let mut block = Block::new();
    let mut offset = from;
    while offset < to {
        let bytes = block.bytes(payload, offset, to);
        connection.send(bytes).await?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

async fn send_chunked(connection: &mut Connection, payload: &Payload, bytes_per_second: Option<u64>) -> Result<()> {
    let began = Instant::now();
    let mut block = Block::new();
    let mut framed = Vec::with_capacity(BLOCK + BLOCK / HTTP_CHUNK * 16);
    let mut offset = 0;
    while offset < payload.length() {
        let bytes = block.bytes(payload, offset, payload.length());
        framed.clear();
        for chunk in bytes.chunks(HTTP_CHUNK) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        offset += bytes.len() as u64;
        if let Some(rate) = bytes_per_second {
            // As if the last byte of the block had been there at this moment.
            sleep_until(began + Duration::from_secs_f64(offset as f64 / rate as f64)).await;
        }
        connection.send(&framed).await?;
    }
    connection.send(b"0\r\n\r\n").await
}

/// The path and query of the last answer's `Location`, which may be a whole URL.
fn location(connection: &Connection) -> Result<String> {
    let location = connection.header("location").context("an answer without a Location")?;
    match location.split_once("://") {
        None => Ok(location.to_owned()),
        Some((_, rest)) => Ok(rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned()),
    }
}

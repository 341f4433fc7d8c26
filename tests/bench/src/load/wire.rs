//! Bytes of HTTP/1.1 on a socket, for both ends of it.

use std::io;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

/// Bytes that are read at once. Large enough that a body of 1 MB takes few system calls; untouched pages cost nothing.
const BUFFER: usize = 1 << 20;

/// How a message says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

impl Framing {
    /// What a message's headers say; without any, there is no body.
    pub(crate) fn of(headers: &[httparse::Header<'_>]) -> Result<Self> {
        let mut framing = Self::Length(0);
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(header.value)?;
                framing = Self::Length(text.trim().parse().context("a Content-Length that is no number")?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Ok(Self::Chunked);
            }
        }
        Ok(framing)
    }
}

/// A socket and what was read of it ahead.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether bytes that nobody keeps are copied from the kernel, as a client does, or dropped there.
    copying: bool,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, copying: bool) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER].into(), start: 0, end: 0, copying })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// What was read and not consumed yet.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads more; `false` at the end of the stream.
    pub(crate) async fn fill(&mut self) -> Result<bool> {
        if self.end == BUFFER {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            ensure!(self.end < BUFFER, "a head or a chunk's size that does not end");
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        Ok(read > 0)
    }

    /// Takes a body off the wire, into `kept` if there is one, and returns its length.
    pub(crate) async fn body(&mut self, framing: Framing, mut kept: Option<&mut Vec<u8>>) -> Result<u64> {
        match framing {
            Framing::Length(length) => {
                self.take(length, kept).await?;
                Ok(length)
            }
            Framing::Chunked => {
                let mut total = 0;
                loop {
                    let size = self.chunk_size().await?;
                    self.take(size, kept.as_deref_mut()).await?;
                    // The line end after the chunk, or the empty line after the last one: nobody sends trailers here.
                    self.take(2, None).await?;
                    if size == 0 {
                        return Ok(total);
                    }
                    total += size;
                }
            }
        }
    }

    async fn chunk_size(&mut self) -> Result<u64> {
        loop {
            match httparse::parse_chunk_size(self.buffered()) {
                Ok(httparse::Status::Complete((consumed, size))) => {
                    self.consume(consumed);
                    return Ok(size);
                }
                Ok(httparse::Status::Partial) => ensure!(self.fill().await?, "the body ended within a chunk's size"),
                Err(_) => bail!("a chunk without a size"),
            }
        }
    }

    async fn take(&mut self, mut length: u64, mut kept: Option<&mut Vec<u8>>) -> Result<()> {
        while length > 0 {
            let ready = usize::try_from(length).unwrap_or(usize::MAX).min(self.end - self.start);
            if ready > 0 {
                if let Some(kept) = kept.as_deref_mut() {
                    kept.extend_from_slice(&self.buffer[self.start..self.start + ready]);
                }
                self.consume(ready);
                length -= ready as u64;
            } else if kept.is_none() && !self.copying {
                let dropped = self.drop_bytes(length).await?;
                ensure!(dropped > 0, "the body ended {length} bytes early");
                length -= dropped as u64;
            } else {
                ensure!(self.fill().await?, "the body ended {length} bytes early");
            }
        }
        Ok(())
    }

    /// Has the kernel drop bytes: on TCP, `MSG_TRUNC` copies none of them.
    async fn drop_bytes(&mut self, most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(BUFFER).min(BUFFER);
        let room = &mut self.buffer[..most];
        let stream = &self.stream;
        let receive = || match recv(stream, &mut *room, RecvFlags::TRUNC) {
            Ok((_, dropped)) => Ok(dropped),
            Err(error) => Err(io::Error::from(error)),
        };
        stream.async_io(Interest::READABLE, receive).await
    }
}

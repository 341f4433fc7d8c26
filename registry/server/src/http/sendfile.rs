//! Files that the kernel sends: their bytes are never copied into this process.
//!
//! ```text
//!   body --stand-in--> hyper --head, stand-in--> socket --head------------> client
//!     '---range of a file---> outbox ------------^  '-----sendfile(range)-->
//! ```
//!
//! hyper frames an answer and writes it, and knows bytes only. So the body of a file is made of stand-ins: slices, as
//! long as what they stand for, of one array of zeros that nobody else has. The socket below hyper knows them by their
//! address and has the kernel send the next range of the outbox instead. That is right where hyper writes what a body
//! yields unchanged and in order, which is HTTP/1.1 without TLS, and nowhere else: [`Connection`](super::connection)
//! hands out an outbox only there.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt as _};
use parking_lot::Mutex;
use roadstead_blobs::{BlobError, FileRange, FileStream, MAX_FILE_RANGE};
use rustix::fs::sendfile;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What every stand-in is a slice of. Nobody reads it, so that its pages never come into being.
static ZEROS: LazyLock<Bytes> = LazyLock::new(|| BytesMut::zeroed(MAX_FILE_RANGE).freeze());

/// What the stand-ins that are on their way to one socket stand for: one at a time, as hyper takes them.
#[derive(Clone, Default)]
pub(crate) struct Outbox(Arc<Mutex<VecDeque<FileRange>>>);

impl Outbox {
    /// A body that is sent on this outbox's connection and stands for `files`.
    pub(crate) fn body(self, files: FileStream) -> impl Stream<Item = Result<Bytes, BlobError>> + Send {
        files.map_ok(move |range| {
            let stand_in = ZEROS.slice(..range.len);
            self.0.lock().push_back(range);
            stand_in
        })
    }

    /// Sends some of what the first stand-in stands for, at most `most` bytes.
    pub(super) fn poll_send(&self, socket: &TcpStream, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let mut ranges = self.0.lock();
        let Some(range) = ranges.front_mut() else {
            return Poll::Ready(Err(io::Error::other("a stand-in that stands for nothing")));
        };
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let FileRange { file, offset, len } = range;
            let write = || Ok(sendfile(socket, &*file, Some(offset), most.min(*len))?);
            match socket.try_io(Interest::WRITABLE, write) {
                // Cut off since it was opened.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    *len -= sent;
                    if *len == 0 {
                        ranges.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Whether bytes are no bytes, but stand for those of a file.
pub(super) fn is_stand_in(bytes: &[u8]) -> bool {
    !bytes.is_empty() && ZEROS.as_ptr_range().contains(&bytes.as_ptr())
}

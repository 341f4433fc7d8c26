//! The bounds of the edge, each with its derivation, and the refusals that the first two of them give.

use std::time::Duration;

use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use roadstead_oci::ErrorCode;

use super::refusal::refuse;

/// The longest URL, and more than the 8,000 bytes that RFC 9110 (section 4.1) asks for. The longest that the API needs
/// is a manifest by SHA-512 digest in the longest repository (some 400 bytes) with `?tag=` 50 times (133 bytes each).
pub(super) const MAX_URL_BYTES: usize = 8 << 10;

/// All header fields together: what nginx takes by default (four buffers of 8 KiB), so that a request that passes the
/// usual proxy passes here. Tokens with many groups are the largest that clients send.
pub(super) const MAX_HEADER_BYTES: usize = 32 << 10;

/// Fields of one request, as hyper has it by default. Clients send about ten, a chain of proxies some more.
pub(super) const MAX_HEADERS: usize = 100;

/// What one connection may read ahead. Holds the longest head (40 KiB), so that the refusals below are ours; above it
/// hyper answers a bare 431. A body is read in pieces of this size: larger ones bring no more throughput.
pub(super) const READ_BUFFER_BYTES: usize = 64 << 10;

/// Connections at once. Each can hold [`READ_BUFFER_BYTES`] while it sends a body: 256 MiB in the worst case, and some
/// 20 KiB when it is idle. A thousand nodes that pull with three connections each fit.
pub(super) const MAX_CONNECTIONS: usize = 4_096;

/// Files that one connection may need: its socket, and one for the blob that it reads or writes.
pub(super) const FILES_PER_CONNECTION: u64 = 2;

/// Files for everything else: the database, the log, the bucket's connections, libraries.
pub(super) const FILES_APART: u64 = 128;

/// Requests at once on one HTTP/2 connection: RFC 9113 (section 6.5.2) advises at least 100. Clients push and pull with
/// three to ten.
pub(super) const MAX_STREAMS: u32 = 128;

/// What an HTTP/2 client may send before it is read, for each request: 1 MiB keeps 20 MB/s going over 50 ms ...
pub(super) const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// ... and for all requests of one connection, which bounds what a connection holds while the byte budget is used up.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;

/// A TLS handshake takes two round trips; on a bad mobile network that is below 2 s.
pub(super) const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// From the end of one HTTP/1.1 request to the head of the next, as hyper measures it: not below
/// [`CONNECTION_IDLE_TIMEOUT`], which it would undercut.
pub(super) const HEADER_READ_TIMEOUT: Duration = Duration::from_mins(2);

/// A connection without a request is closed after this long. Above the 90 s after which Go's clients (docker,
/// containerd, skopeo) drop an idle connection, so that it is they who close it and no request meets a closed one.
pub(super) const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_mins(2);

/// A connection is looked at this often. The timeouts above are prolonged by at most this.
pub(super) const CONNECTION_LOOK: Duration = Duration::from_secs(5);

/// After an answer that did not need the request's body, the body is read and dropped for this long: closing the socket
/// at once would make the client's system drop the answer unread.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Pause after a failed `accept`: out of files or memory, which only others can release.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers from this size on are sent from their file where that can be. A smaller one costs one system call when it was
/// read into memory, and there two; the copy that it saves takes as long as that at about this size.
pub(crate) const MIN_SENT_FROM_FILE: u64 = 64 << 10;

/// Of a path in a log line: the longest repository and digest fit.
pub(super) const MAX_LOGGED_PATH: usize = 512;

/// How many connections the process can have with so many files.
pub(crate) fn max_connections(files: u64) -> usize {
    let by_files = files.saturating_sub(FILES_APART) / FILES_PER_CONNECTION;
    usize::try_from(by_files).unwrap_or(usize::MAX).clamp(1, MAX_CONNECTIONS)
}

/// The refusal of a request whose head is too large.
pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    let url_bytes = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if url_bytes > MAX_URL_BYTES {
        let message = format!("the URL has {url_bytes} bytes; at most {MAX_URL_BYTES} are accepted");
        return Some(refuse(StatusCode::URI_TOO_LONG, ErrorCode::NameInvalid, message));
    }
    // As RFC 9113 (section 10.5.1) counts them, but for its 32 bytes of overhead.
    let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > MAX_HEADER_BYTES {
        let message = format!("the header fields have {header_bytes} bytes; at most {MAX_HEADER_BYTES} are accepted");
        return Some(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ErrorCode::Unsupported, message));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        for (files, connections) in [(0, 1), (1_024, 448), (1_048_576, MAX_CONNECTIONS), (u64::MAX, MAX_CONNECTIONS)] {
            assert_eq!(max_connections(files), connections, "{files}");
        }
    }

    #[test]
    fn the_longest_head_fits_into_the_buffer() {
        const { assert!(MAX_URL_BYTES + MAX_HEADER_BYTES < READ_BUFFER_BYTES) };
    }

    #[test]
    fn heads_are_refused_above_the_limits_only() {
        let uri = |bytes: usize| Uri::try_from(format!("/{}", "a".repeat(bytes - 1))).unwrap();
        let headers =
            |bytes: usize| HeaderMap::from_iter([(http::header::COOKIE, "c".repeat(bytes - 6).parse().unwrap())]);
        let status = |uri, headers| check(&uri, &headers).map(|refusal| refusal.status().as_u16());
        assert_eq!(status(uri(MAX_URL_BYTES), headers(MAX_HEADER_BYTES)), None);
        assert_eq!(status(uri(MAX_URL_BYTES + 1), HeaderMap::new()), Some(414));
        assert_eq!(status(uri(1), headers(MAX_HEADER_BYTES + 1)), Some(431));
    }
}

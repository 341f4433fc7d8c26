//! The bodies of requests: bounded waiting, and a courteous end.
//!
//! ```text
//! hyper's body --> guard: counts bytes, ends with an error when nothing comes for too long
//!                    '-- dropped before its end (an early refusal) --> read and thrown away for LINGER
//! ```

use std::error::Error;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use roadstead_domain::BodyError;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::exchange::Counts;
use super::limits::LINGER;

/// Whether a body ended because the client sent nothing for too long.
pub(super) fn is_idle(error: &axum::Error) -> bool {
    let chain = iter::successors(Some(error as &(dyn Error + 'static)), |error| Error::source(*error));
    chain.filter_map(|error| error.downcast_ref()).any(|error: &BodyError| *error == BodyError::Idle)
}

/// Puts a guard around the body of a request. Bodies that linger do so in `lingering`.
pub(super) fn guard(
    request: Request<Body>,
    idle: Duration,
    counts: Arc<Counts>,
    lingering: &TaskTracker,
) -> Request<Body> {
    // HTTP/2 has a frame that says "no more".
    let lingering = (request.version() < Version::HTTP_2).then(|| lingering.clone());
    let asks_first = request.headers().contains_key(EXPECT);
    request.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::from_stream(stream::try_unfold(
            Guarded { body, counts, asks_first, lingering },
            move |mut guarded| async move {
                let chunk = guarded.next(idle).await?;
                Ok::<_, BodyError>(chunk.map(|chunk| (chunk, guarded)))
            },
        ))
    })
}

struct Guarded {
    body: Body,
    counts: Arc<Counts>,
    /// A client that asks before it sends, and was not told to go on: it is not sending.
    asks_first: bool,
    lingering: Option<TaskTracker>,
}

impl Guarded {
    async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = timeout(idle, self.body.frame()).await.map_err(|_| BodyError::Idle)?;
            let Some(Ok(frame)) = frame else {
                // Ended or broken: there is nothing to linger for.
                self.lingering = None;
                return if frame.is_none() { Ok(None) } else { Err(BodyError::Broken) };
            };
            // Trailers say nothing that the API knows.
            if let Ok(chunk) = frame.into_data() {
                self.asks_first = false;
                self.counts.received(chunk.len());
                return Ok(Some(chunk));
            }
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let is_sending = !self.asks_first && !self.body.is_end_stream();
        let Some(lingering) = self.lingering.take().filter(|_| is_sending) else { return };
        let mut body = std::mem::take(&mut self.body);
        lingering.spawn(async move {
            let drain = async { while let Some(Ok(_)) = body.frame().await {} };
            // Whether the client came to its end or not, this was the courtesy.
            let _ = timeout(LINGER, drain).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    const IDLE: Duration = Duration::from_mins(1);

    type Feed = mpsc::Sender<Result<Bytes, std::io::Error>>;

    /// A guarded body that is fed by hand.
    fn guarded(counts: &Arc<Counts>, lingering: &TaskTracker) -> (Feed, Body) {
        let (feed, receiver) = mpsc::channel(1);
        let chunks = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        let request = Request::new(Body::from_stream(chunks));
        (feed, guard(request, IDLE, Arc::clone(counts), lingering).into_body())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_given_up() {
        let (feed, body) = guarded(&Arc::default(), &TaskTracker::new());
        let mut chunks = body.into_data_stream();
        feed.send(Ok(Bytes::from_static(b"abc"))).await.unwrap();
        assert_eq!(chunks.next().await.unwrap().unwrap(), "abc");
        let began = Instant::now();
        assert!(is_idle(&chunks.next().await.unwrap().unwrap_err()));
        assert_eq!(began.elapsed(), IDLE);
        assert!(chunks.next().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_told_from_an_idle_one() {
        let (feed, body) = guarded(&Arc::default(), &TaskTracker::new());
        feed.send(Err(std::io::ErrorKind::ConnectionReset.into())).await.unwrap();
        assert!(!is_idle(&body.into_data_stream().next().await.unwrap().unwrap_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unread_body_is_drained_for_a_while_and_a_read_one_is_not() {
        let (counts, lingering) = (Arc::default(), TaskTracker::new());
        let (feed, body) = guarded(&counts, &lingering);
        drop(body);
        assert_eq!(lingering.len(), 1);
        for _ in 0..3 {
            feed.send(Ok(Bytes::from_static(b"unwanted"))).await.unwrap();
        }
        let began = Instant::now();
        feed.closed().await;
        assert_eq!(began.elapsed(), LINGER);

        let (feed, body) = guarded(&counts, &lingering);
        feed.send(Ok(Bytes::from_static(b"wanted"))).await.unwrap();
        drop(feed);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "wanted");
        lingering.close();
        lingering.wait().await;
        assert_eq!(counts.bytes_received(), 6, "what is drained is not counted as received");
    }
}

//! Pushing images as one kind of client does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use rand::Rng;
use rand::rngs::StdRng;
use reqwest::Body;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::book::Book;
use super::manner::{Manner, Piece, Trouble};
use super::puller::broken;
use crate::harness::{Client, Image, MEDIA_TYPE_IMAGE, Reply, Request, sha256};

const PART: usize = 5 << 20;

/// A line of 32 MiB a second, so that whoever is taken away has uploads under way.
const PIECE: usize = 64 << 10;
const PIECE_EVERY: Duration = Duration::from_millis(2);

/// What whoever pushes does by hand when a client has given up.
const BY_HAND: usize = 5;

/// One client, which pushes one image after the other.
pub(super) struct Pusher {
    client: Client,
    manner: Manner,
    random: StdRng,
    repository: String,
    book: Arc<Book>,
}

/// What is done again as a whole.
#[derive(Clone, Copy)]
enum Work<'a> {
    Streamed(&'a str, &'a Bytes),
    Monolithic(&'a str, &'a Bytes),
    Manifest(&'a str, &'a Bytes),
}

/// An upload that is resumed.
struct Session<'a> {
    digest: &'a str,
    content: &'a Bytes,
    location: Option<String>,
    /// Bytes of which the registry has said that they have arrived.
    at: usize,
    /// Whether a request had no answer since then.
    in_doubt: bool,
}

/// Which piece it was that a client did not get through, and why.
type Stuck = (Piece, Trouble);

impl Pusher {
    pub(super) fn new(client: Client, manner: Manner, random: StdRng, book: Arc<Book>) -> Self {
        let repository = format!("ledger/{manner:?}").to_lowercase();
        Self { client, manner, random, repository, book }
    }

    /// Pushes until the book is closed.
    pub(super) async fn run(mut self) {
        for number in 0.. {
            if !self.book.is_open() {
                return;
            }
            let lengths: Vec<usize> = (0..self.random.random_range(1..3)).map(|_| self.length()).collect();
            let image = Image::random(self.random.random_range(0..1 << 50), &lengths);
            let tag = if self.random.random_bool(0.5) { "latest".to_owned() } else { format!("v{number}") };
            let entry = self.book.attempt(&self.repository, &tag, &image.digest());
            let mut pushed = false;
            for _ in 0..BY_HAND {
                pushed = self.push(&tag, &image).await;
                if pushed {
                    self.book.acknowledge(entry, self.manner);
                    break;
                }
            }
            if !pushed {
                return;
            }
        }
    }

    /// Mostly small, sometimes of several parts.
    fn length(&mut self) -> usize {
        match self.random.random_range(0..12) {
            0 => self.random.random_range(PART..2 * PART + 10_000),
            1..4 => self.random.random_range(100_000..PART / 2),
            _ => self.random.random_range(2..20_000),
        }
    }

    /// Whether an image was pushed with what its client tries again by itself. What is not made good is in the book.
    async fn push(&self, tag: &str, image: &Image) -> bool {
        let mut pauses = self.manner.pauses(Piece::Push).iter();
        while let Err((piece, trouble)) = self.push_once(tag, image).await {
            let pause = pauses.next().filter(|_| self.manner.goes_on_after(&trouble));
            let Some(pause) = pause else {
                let what = format!("{:?}, {piece:?} of {}:{tag}", self.manner, self.repository);
                let sent_once = [piece, Piece::Push].iter().all(|piece| self.manner.pauses(*piece).is_empty());
                self.book.note_given_up(&what, sent_once, &trouble);
                return false;
            };
            self.pause(&trouble, *pause).await;
        }
        true
    }

    async fn pause(&self, trouble: &Trouble, pause: Duration) {
        self.book.note_absorbed(&format!("{:?}", self.manner), trouble);
        sleep_until(Instant::now() + pause).await;
    }

    async fn push_once(&self, tag: &str, image: &Image) -> Result<(), Stuck> {
        for layer in &image.layers {
            self.blob(Piece::Layer, layer).await?;
        }
        self.blob(Piece::Config, &image.config).await?;
        self.again(Piece::Manifest, Work::Manifest(tag, &image.manifest)).await
    }

    async fn once(&self, work: Work<'_>) -> Result<(), Trouble> {
        match work {
            Work::Streamed(digest, content) => self.streamed(digest, content).await,
            Work::Monolithic(digest, content) => self.monolithic(digest, content).await,
            Work::Manifest(tag, content) => {
                let target = format!("/v2/{}/manifests/{tag}", self.repository);
                let request = self.client.put(&target).header("content-type", MEDIA_TYPE_IMAGE);
                self.send(request.body(content.clone()), 201).await.map(drop)
            }
        }
    }

    /// Does it, again as often as the client does for such a piece.
    async fn again(&self, piece: Piece, work: Work<'_>) -> Result<(), Stuck> {
        let mut pauses = self.manner.pauses(piece).iter();
        while let Err(trouble) = self.once(work).await {
            let pause = pauses.next().filter(|_| self.manner.goes_on_after(&trouble));
            let Some(pause) = pause else { return Err((piece, trouble)) };
            self.pause(&trouble, *pause).await;
        }
        Ok(())
    }

    async fn blob(&self, piece: Piece, content: &Bytes) -> Result<(), Stuck> {
        let digest = sha256(content);
        match self.manner {
            Manner::Docker | Manner::Skopeo => self.again(piece, Work::Streamed(&digest, content)).await?,
            Manner::BuildKit => self.again(piece, Work::Monolithic(&digest, content)).await?,
            Manner::Resuming => self.resuming(piece, &digest, content).await?,
        }
        self.book.acknowledge_blob(&self.repository, &digest, content.len());
        Ok(())
    }

    async fn is_there(&self, digest: &str) -> Result<bool, Trouble> {
        let target = format!("/v2/{}/blobs/{digest}", self.repository);
        match self.send(self.client.head(&target), 200).await {
            Ok(_there) => Ok(true),
            Err(Trouble::Refused { status: 404, .. }) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    async fn begin(&self) -> Result<String, Trouble> {
        let begun = self.client.post(&format!("/v2/{}/blobs/uploads/", self.repository));
        Ok(self.send(begun, 202).await?.location())
    }

    /// HEAD, POST, one streamed PATCH whose length is not said, an empty PUT.
    async fn streamed(&self, digest: &str, content: &Bytes) -> Result<(), Trouble> {
        if self.is_there(digest).await? {
            return Ok(());
        }
        let location = self.begin().await?;
        let patch = self.client.patch(&location).body(Body::wrap_stream(slowly(content.clone())));
        let location = self.send(patch, 202).await?.location();
        self.send(self.client.put(&closing(&location, digest)), 201).await.map(drop)
    }

    /// HEAD, POST, one PUT with everything.
    async fn monolithic(&self, digest: &str, content: &Bytes) -> Result<(), Trouble> {
        if self.is_there(digest).await? {
            return Ok(());
        }
        let location = self.begin().await?;
        let put = self.client.put(&closing(&location, digest)).header("content-length", &content.len().to_string());
        self.send(put.body(Body::wrap_stream(slowly(content.clone()))), 201).await.map(drop)
    }

    /// POST, one PATCH after the other of about a part, an empty PUT; after trouble it asks how far the session has come.
    async fn resuming(&self, piece: Piece, digest: &str, content: &Bytes) -> Result<(), Stuck> {
        let pauses = self.manner.pauses(piece);
        let mut failed = 0;
        let mut session = Session { digest, content, location: None, at: 0, in_doubt: false };
        loop {
            match self.step(&mut session).await {
                Ok(true) => return Ok(()),
                Ok(false) => failed = 0,
                Err(trouble) if failed < pauses.len() && self.manner.goes_on_after(&trouble) => {
                    session.in_doubt = true;
                    self.pause(&trouble, pauses[failed]).await;
                    failed += 1;
                }
                Err(trouble) => return Err((piece, trouble)),
            }
        }
    }

    /// The next request of a session; whether it was the last.
    async fn step(&self, session: &mut Session<'_>) -> Result<bool, Trouble> {
        let Some(location) = session.location.clone() else {
            session.location = Some(self.begin().await?);
            session.in_doubt = false;
            return Ok(false);
        };
        let at = session.at;
        if at == session.content.len() {
            // A session that is closed already says so again.
            self.send(self.client.put(&closing(&location, session.digest)), 201).await?;
            return Ok(true);
        }
        let end = (at + PART + 1_000).min(session.content.len());
        if session.in_doubt {
            let told = self.send(self.client.get(&location), 204).await?;
            let offset = usize::try_from(told.range_end()).expect("an offset");
            if !(at..=end).contains(&offset) {
                return Err(Trouble::Wrong(format!("{location} is at {offset}, which is not in {at}..={end}")));
            }
            (session.at, session.in_doubt) = (offset, false);
            return Ok(false);
        }
        let patch = self.client.patch(&location).header("content-range", &format!("{at}-{}", end - 1));
        let patch = patch.header("content-length", &(end - at).to_string());
        let body = Body::wrap_stream(slowly(session.content.slice(at..end)));
        let reply = self.send(patch.body(body), 202).await?;
        if reply.range_end() != end as u64 {
            return Err(Trouble::Wrong(format!("{location} acknowledges {:?} for {end} bytes", reply.headers)));
        }
        (session.at, session.location) = (end, Some(reply.location()));
        Ok(false)
    }

    async fn send(&self, request: Request, wanted: u16) -> Result<Reply, Trouble> {
        let since = Instant::now();
        let reply = request.try_send().await.map_err(|error| broken(since, &error))?;
        if reply.status == wanted {
            return Ok(reply);
        }
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        Err(Trouble::Refused { since, status: reply.status, body })
    }
}

fn closing(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

/// The bytes as a line of some speed brings them.
fn slowly(content: Bytes) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let mut ticks = interval(PIECE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((content, ticks), async |(mut left, mut ticks)| {
        if left.is_empty() {
            return None;
        }
        ticks.tick().await;
        let piece = left.split_to(left.len().min(PIECE));
        Some((Ok(piece), (left, ticks)))
    })
}

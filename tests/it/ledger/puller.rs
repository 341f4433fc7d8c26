//! Pulling what others have pushed a moment ago.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use reqwest::header::RANGE;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::book::{Book, TagAt};
use super::manner::{Manner, Piece, Trouble};
use crate::harness::{Client, sha256};

/// A client that pulls as Skopeo does: the whole again after trouble; a blob that breaks off goes on by `Range`.
pub(super) struct Puller {
    client: Client,
    random: StdRng,
    book: Arc<Book>,
}

/// How often a blob that breaks off is asked for from there on.
const RESUMED: usize = 3;

/// How soon it looks again for something that was pushed.
const NOTHING_YET: Duration = Duration::from_millis(20);

impl Puller {
    pub(super) fn new(client: Client, random: StdRng, book: Arc<Book>) -> Self {
        Self { client, random, book }
    }

    /// Pulls until the book is closed.
    pub(super) async fn run(mut self) {
        while self.book.is_open() {
            let Some(tag) = self.book.some_tag(&mut self.random) else {
                sleep_until(Instant::now() + NOTHING_YET).await;
                continue;
            };
            let mut pauses = Manner::Skopeo.pauses(Piece::Push).iter();
            while let Err(trouble) = self.pull(&tag).await {
                let pause = pauses.next().filter(|_| Manner::Skopeo.goes_on_after(&trouble));
                let Some(pause) = pause else {
                    self.book.note_given_up(&format!("pull of {}:{}", tag.repository, tag.tag), false, &trouble);
                    return;
                };
                self.book.note_absorbed("pull", &trouble);
                sleep_until(Instant::now() + *pause).await;
            }
            self.book.note_pull();
        }
    }

    async fn pull(&self, tag: &TagAt) -> Result<(), Trouble> {
        let TagAt { repository, tag: name, .. } = tag;
        let since = Instant::now();
        let asked = self.client.get(&format!("/v2/{repository}/manifests/{name}")).try_send().await;
        let reply = asked.map_err(|error| broken(since, &error))?;
        match reply.status {
            200 => {}
            404 => return Err(Trouble::Wrong(format!("{repository}:{name} was acknowledged, and is not there"))),
            status => {
                let body = String::from_utf8_lossy(&reply.body).into_owned();
                return Err(Trouble::Refused { since, status, body });
            }
        }
        let digest = sha256(&reply.body);
        let stale = reply.header("registry-stale").is_some();
        if !self.book.may_show(tag, &digest, stale) {
            return Err(Trouble::Wrong(format!("{repository}:{name} is {digest}, older than what was acknowledged")));
        }
        let manifest = reply.json();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for descriptor in std::iter::once(&manifest["config"]).chain(layers) {
            self.blob(repository, descriptor).await?;
        }
        Ok(())
    }

    async fn blob(&self, repository: &str, descriptor: &Value) -> Result<(), Trouble> {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let mut bytes = Vec::new();
        let mut resumed = 0;
        while let Err(trouble) = self.read(repository, digest, &mut bytes).await {
            resumed += 1;
            if bytes.is_empty() || resumed > RESUMED || !matches!(trouble, Trouble::Broken { .. }) {
                return Err(trouble);
            }
            self.book.note_absorbed("blob resumed", &trouble);
        }
        if sha256(&bytes) == digest {
            Ok(())
        } else {
            Err(Trouble::Wrong(format!("{repository}@{digest} is served with other bytes")))
        }
    }

    /// Reads what is missing of a blob.
    async fn read(&self, repository: &str, digest: &str, bytes: &mut Vec<u8>) -> Result<(), Trouble> {
        let since = Instant::now();
        let broken = |error: reqwest::Error| broken(since, &error);
        let mut request = self.client.http().get(format!("{}/v2/{repository}/blobs/{digest}", self.client.base()));
        if !bytes.is_empty() {
            request = request.header(RANGE, format!("bytes={}-", bytes.len()));
        }
        let mut response = request.send().await.map_err(broken)?;
        match response.status().as_u16() {
            200 | 206 => {}
            404 => return Err(Trouble::Wrong(format!("{repository}@{digest} is named by a tag, and is not there"))),
            status => {
                let body = response.text().await.unwrap_or_default();
                return Err(Trouble::Refused { since, status, body });
            }
        }
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    }
}

/// What a request came to that had no whole answer.
pub(crate) fn broken(since: Instant, error: &reqwest::Error) -> Trouble {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let path = error.url().map(reqwest::Url::path).unwrap_or_default();
    Trouble::Broken { since, timed_out: error.is_timeout(), why: format!("{path}: {cause}") }
}

//! Pushing blobs: in one request, or in sessions whose requests each reach another replica.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use roadstead_domain::{Body, BodyError, Content, UploadError, UploadStatus};
use roadstead_metadata::Metadata;
use roadstead_oci::{Algorithm, ContentRange, Digest, RepositoryName, UploadId};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{ATTEMPTS, Asked, Client};
use crate::history::Held;
use crate::universe::{SCRATCH, sha256};
use crate::world::network::pause;
use crate::world::replica::{PART_SIZE, UPLOAD_EXPIRY};

/// A session as its client knows it.
struct Session {
    name: RepositoryName,
    upload: UploadId,
    digest: Digest,
    content: Bytes,
    /// Where the client goes on.
    offset: u64,
    /// The most that it was told is kept.
    kept: u64,
    /// The most that it has sent.
    sent: u64,
    /// Whether a closing request may have been heard.
    closing: bool,
    began: Duration,
}

/// How a step of a session ended.
enum Step {
    On,
    Done,
    /// The session is over, and the blob is not known to be there.
    Over,
}

impl Client {
    /// Pushes a blob, however often it takes; whether it is there.
    pub(crate) async fn push_blob(&mut self, held: Held) -> bool {
        for _ in 0..ATTEMPTS {
            let pushed =
                if self.random.chance(3) { self.push_at_once(held).await } else { self.push_in_session(held).await };
            if pushed {
                self.told(held);
                self.history.count(|tally| &mut tally.blobs_pushed);
                return true;
            }
            self.back_off().await;
        }
        self.history.count(|tally| &mut tally.gave_up);
        false
    }

    /// As containerd does it.
    async fn push_at_once(&mut self, held: Held) -> bool {
        let Some(serving) = self.somebody().await else { return false };
        let (name, content) = (self.repository(held.0).clone(), self.universe.blobs[held.1].clone());
        let digest = self.digest(held);
        let says_length = self.random.chance(2);
        let (body, _sending) = self.body(&content);
        let length = says_length.then_some(content.len() as u64);
        self.sends(content.len() as u64);
        let time = self.cluster.time.passed();
        let pushed = serving.registry.upload_blob(&name, digest, Content { range: None, length, body });
        match self.ask(&format!("POST of blob {}", held.1), &serving, None, pushed.boxed()).await {
            Asked::Answered(Ok(())) => true,
            Asked::Answered(Err(error)) => {
                self.explain("a push", &error, time);
                false
            }
            Asked::Refused | Asked::Lost => false,
        }
    }

    /// Claims a digest that the content has not (P1).
    pub(crate) async fn push_wrongly(&mut self, repository: usize) {
        let Some(serving) = self.somebody().await else { return };
        let name = self.repository(repository).clone();
        let content = self.random.pick(&self.universe.blobs.clone()).clone();
        let wrong = sha256(b"something else");
        let (body, _sending) = self.body(&content);
        let length = self.random.chance(2).then_some(content.len() as u64);
        self.sends(content.len() as u64);
        let time = self.cluster.time.passed();
        let pushed = serving.registry.upload_blob(&name, wrong, Content { range: None, length, body });
        match self.ask("POST of a wrong digest", &serving, None, pushed.boxed()).await {
            Asked::Answered(Ok(())) => self.cluster.violated("P1: a blob was taken under a wrong digest".to_owned()),
            Asked::Answered(Err(UploadError::DigestMismatch { .. })) | Asked::Refused | Asked::Lost => {}
            Asked::Answered(Err(error)) => self.explain("a push of a wrong digest", &error, time),
        }
    }

    /// As docker, skopeo and the conformance suite do it: each request to another replica, on from the offset that was told.
    async fn push_in_session(&mut self, held: Held) -> bool {
        let (name, content) = (self.repository(held.0).clone(), self.universe.blobs[held.1].clone());
        let digest = self.digest(held);
        let announces = digest.algorithm() == Algorithm::Sha512 && self.random.chance(2);
        let Some(upload) = self.start(&name, announces).await else { return false };
        let began = self.cluster.time.passed();
        let mut session = Session { name, upload, digest, content, offset: 0, kept: 0, sent: 0, closing: false, began };
        for _ in 0..ATTEMPTS * 3 {
            let step = if session.offset < session.content.len() as u64 && !self.random.chance(12) {
                self.append(&mut session).await
            } else {
                self.close(&mut session, held).await
            };
            match step {
                Step::On => {}
                Step::Done => return true,
                Step::Over => return false,
            }
        }
        false
    }

    /// By which digest a blob is pushed.
    fn digest(&mut self, held: Held) -> Digest {
        let (scratch, blob) = (held.0 == SCRATCH, held.1);
        if scratch && self.random.chance(2) { self.universe.sha512(blob) } else { self.universe.digest(blob) }
    }

    /// Begins to push a blob and thinks better of it, or just goes away.
    pub(crate) async fn give_up(&mut self, repository: usize) {
        let name = self.repository(repository).clone();
        let Some(upload) = self.start(&name, false).await else { return };
        let content = self.random.pick(&self.universe.blobs.clone()).clone();
        let Some(serving) = self.somebody().await else { return };
        let (body, _sending) = self.body(&content);
        self.sends(content.len() as u64);
        let time = self.cluster.time.passed();
        let appended = serving.registry.append_upload(&name, upload, Content { range: None, length: None, body });
        if let Asked::Answered(Err(error)) = self.ask("PATCH in vain", &serving, None, appended.boxed()).await {
            self.explain("a PATCH", &error, time);
        }
        if self.random.chance(2) {
            let cancelled = serving.registry.cancel_upload(&name, upload);
            if let Asked::Answered(Err(error)) =
                self.ask("DELETE of a session", &serving, None, cancelled.boxed()).await
            {
                self.explain("a DELETE of a session", &error, time);
            }
        }
    }

    async fn start(&mut self, name: &RepositoryName, sha512: bool) -> Option<UploadId> {
        for _ in 0..ATTEMPTS {
            if let Some(serving) = self.somebody().await {
                let time = self.cluster.time.passed();
                let started = serving.registry.start_upload(name, sha512);
                match self.ask("POST of a session", &serving, Some(Metadata::WRITE_DEADLINE), started.boxed()).await {
                    Asked::Answered(Ok(upload)) => return Some(upload),
                    Asked::Answered(Err(error)) => self.explain("a POST", &error, time),
                    Asked::Refused | Asked::Lost => {}
                }
            }
            self.back_off().await;
        }
        None
    }

    async fn append(&mut self, session: &mut Session) -> Step {
        let Some(serving) = self.somebody().await else { return Step::On };
        let left = session.content.len() as u64 - session.offset;
        let length = match self.random.below(3) {
            0 => left,
            1 => PART_SIZE.min(left),
            _ => 1 + self.random.next() % left,
        };
        let (start, end) = (session.offset, session.offset + length);
        let (body, _sending) = self.body(&slice(&session.content, start, end));
        // Whoever begins may stream without saying where.
        let streams = session.sent == 0 && self.random.chance(2);
        let content = if streams {
            Content { range: None, length: None, body }
        } else {
            Content { range: Some(range(start, end)), length: Some(length), body }
        };
        session.sent = session.sent.max(end);
        self.sends(length);
        let time = self.cluster.time.passed();
        let appended = serving.registry.append_upload(&session.name, session.upload, content);
        match self.ask(&format!("PATCH of {start}-{end}"), &serving, None, appended.boxed()).await {
            Asked::Answered(Ok(UploadStatus { offset })) => {
                if offset != end {
                    self.cluster.violated(format!("P4: bytes up to {end} were taken, and {offset} was answered"));
                }
                self.stands_at(session, offset);
                self.history.count(|tally| &mut tally.sessions_moved);
                Step::On
            }
            Asked::Answered(Err(error)) => self.go_on(session, "a PATCH", error, time).await,
            Asked::Refused => Step::On,
            Asked::Lost => self.resume(session).await,
        }
    }

    async fn close(&mut self, session: &mut Session, held: Held) -> Step {
        let Some(serving) = self.somebody().await else { return Step::On };
        let digest = session.digest;
        let (start, end) = (session.offset, session.content.len() as u64);
        let rest = slice(&session.content, start, end);
        let (body, _sending) = self.body(&rest);
        let content = if rest.is_empty() {
            Content { range: None, length: Some(0), body }
        } else {
            Content { range: Some(range(start, end)), length: Some(end - start), body }
        };
        session.sent = end;
        self.sends(end - start);
        let time = self.cluster.time.passed();
        let closed = serving.registry.close_upload(&session.name, session.upload, digest, content);
        match self.ask(&format!("PUT of blob {}", held.1), &serving, None, closed.boxed()).await {
            Asked::Answered(Ok(())) => Step::Done,
            Asked::Answered(Err(error)) => {
                session.closing = true;
                self.go_on(session, "a closing PUT", error, time).await
            }
            Asked::Refused => Step::On,
            Asked::Lost => {
                session.closing = true;
                self.resume(session).await
            }
        }
    }

    /// Asks where the session stands, whoever answers.
    async fn resume(&mut self, session: &mut Session) -> Step {
        for _ in 0..ATTEMPTS {
            if let Some(serving) = self.somebody().await {
                let time = self.cluster.time.passed();
                let asked = serving.registry.upload_status(&session.name, session.upload);
                match self.ask("GET of a session", &serving, Some(Metadata::READ_DEADLINE), asked.boxed()).await {
                    Asked::Answered(Ok(UploadStatus { offset })) => {
                        self.history.count(|tally| &mut tally.resumed);
                        self.stands_at(session, offset);
                        return Step::On;
                    }
                    // A closed session answers a repeated PUT and nothing else.
                    Asked::Answered(Err(UploadError::Unknown)) if session.closing => {
                        session.offset = session.content.len() as u64;
                        return Step::On;
                    }
                    Asked::Answered(Err(UploadError::Unknown)) => return self.is_over(session, "a GET"),
                    Asked::Answered(Err(error)) => self.explain("a GET of a session", &error, time),
                    Asked::Refused | Asked::Lost => {}
                }
            }
            self.back_off().await;
        }
        Step::Over
    }

    /// What a client does about a request of a session that failed.
    async fn go_on(&mut self, session: &mut Session, what: &str, error: UploadError, time: Duration) -> Step {
        match error {
            UploadError::OutOfOrder { offset } | UploadError::Superseded { offset } => {
                self.stands_at(session, offset);
                Step::On
            }
            UploadError::Unknown if session.closing => Step::Over,
            UploadError::Unknown => self.is_over(session, what),
            error => {
                self.explain(what, &error, time);
                self.resume(session).await
            }
        }
    }

    /// A session that nobody closed ends only when nobody touches it for long.
    fn is_over(&self, session: &Session, what: &str) -> Step {
        // By the log's time, which may pass twice as fast.
        if self.cluster.time.since(session.began) < UPLOAD_EXPIRY / 2 {
            let upload = session.upload;
            self.cluster.violated(format!("P4: session {upload} was open, and {what} is answered 404"));
        }
        Step::Over
    }

    /// P4: where a session is said to stand, between what was promised to be kept and what was sent.
    fn stands_at(&self, session: &mut Session, offset: u64) {
        let Session { upload, kept, sent, .. } = *session;
        if offset < kept || offset > sent {
            self.cluster.violated(format!(
                "P4: session {upload} is said to stand at {offset}; {kept} bytes were kept, and {sent} sent"
            ));
        }
        session.offset = offset;
        session.kept = kept.max(offset);
    }

    /// What a failure of an upload may be.
    fn explain(&self, what: &str, error: &UploadError, time_before: Duration) {
        match error {
            UploadError::Fault(fault) => {
                self.failed(what, fault, time_before);
            }
            // Our own doing, or that of an older request which is still at work; or many at once.
            UploadError::Body(_)
            | UploadError::Busy
            | UploadError::TooMany
            | UploadError::OutOfOrder { .. }
            | UploadError::Superseded { .. } => {}
            // Hours may have passed in the middle of a request.
            UploadError::Unknown if self.cluster.time.since(time_before) > UPLOAD_EXPIRY / 2 => {}
            UploadError::Unknown
            | UploadError::DigestMismatch { .. }
            | UploadError::Sha512NotAnnounced
            | UploadError::Length
            | UploadError::TooLarge { .. } => {
                self.cluster.violated(format!("P4: {what} of the right bytes was answered: {error}"));
            }
        }
    }

    /// For P5: what a request brings.
    fn sends(&self, bytes: u64) {
        self.history.with(|records| {
            records.sent += bytes;
            records.requests += 1;
        });
    }

    /// A body in pieces, at once or slowly; now and then it breaks. When the guard is dropped the client is gone, and what
    /// was not sent does not come.
    pub(super) fn body(&mut self, content: &Bytes) -> (Body, DropGuard) {
        let gone = CancellationToken::new();
        let slowly = self.random.chance(3);
        let breaks = self.random.permille(40).then(|| self.random.below(content.len() + 1));
        let mut pieces = Vec::new();
        let (mut rest, mut at) = (content.clone(), 0);
        while !rest.is_empty() && breaks.is_none_or(|breaks| at < breaks) {
            let piece = rest.split_to(rest.len().min(1 + self.random.below(3_000)));
            at += piece.len();
            let wait =
                if slowly { self.random.time(Duration::ZERO, Duration::from_millis(700)) } else { Duration::ZERO };
            pieces.push((wait, Ok(piece)));
        }
        if breaks.is_some() {
            pieces.push((Duration::ZERO, Err(BodyError::Broken)));
        }
        let there = gone.clone();
        let body = stream::iter(pieces).then(move |(wait, piece)| {
            let there = there.clone();
            async move {
                if wait > Duration::ZERO {
                    pause(wait).await;
                    if there.is_cancelled() {
                        return Err(BodyError::Broken);
                    }
                }
                piece
            }
        });
        (body.boxed(), gone.drop_guard())
    }
}

fn slice(content: &Bytes, start: u64, end: u64) -> Bytes {
    let [start, end] = [start, end].map(|offset| usize::try_from(offset).expect("within memory"));
    content.slice(start..end)
}

fn range(start: u64, end: u64) -> ContentRange {
    format!("{start}-{}", end - 1).parse().expect("a range")
}

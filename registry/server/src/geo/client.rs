//! How a mirror reaches its home: HTTP/1.1, a connection for each request that is under way.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::Body;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use roadstead_geo::{
    DemotionToken, FeedLine, HandoverRequest, Home, HomeBlob, HomeError, HomeManifest, HomeReferrers, Lines,
    MAX_LINE_BYTES, MAX_REFERRERS_BYTES, RegionReport, SnapshotLine,
};
use roadstead_metadata::{Metadata, Position, RemoteProgress};
use roadstead_oci::{Digest, Manifest, Reference, RepositoryName, UploadId};
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use super::trust::{BearerToken, HomeTrust};
use super::{POSITION, paths, region};
use crate::http::DOCKER_CONTENT_DIGEST;
use crate::settings::Upstream;

/// How long a connection may take: two round trips around the earth, each lost once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that are kept for the next request: those of two large blobs and some small ones.
const MAX_IDLE: usize = 32;

/// The longest refusal that is read.
const MAX_REFUSAL_BYTES: usize = 4 << 10;

/// The longest answer of a few fields that is read.
const MAX_DOCUMENT_BYTES: usize = 64 << 10;

/// See the module.
pub(super) struct HttpHome {
    pub(super) upstream: Upstream,
    /// Of the mirror: what it knows of who is home goes with each request.
    metadata: Metadata,
    pub(super) token: Arc<ArcSwap<BearerToken>>,
    /// Without it, the way is plain HTTP, on this machine.
    trust: Option<Arc<ArcSwap<HomeTrust>>>,
    pub(super) idle: Arc<Mutex<Vec<SendRequest<Body>>>>,
    /// Move the bytes of the connections.
    drivers: TaskTracker,
}

impl HttpHome {
    pub(super) fn new(
        upstream: Upstream,
        metadata: Metadata,
        token: Arc<ArcSwap<BearerToken>>,
        trust: Option<Arc<ArcSwap<HomeTrust>>>,
    ) -> Self {
        Self { upstream, metadata, token, trust, idle: Arc::default(), drivers: TaskTracker::new() }
    }

    /// A connection that was used before, if one stands as far as is known.
    pub(super) async fn used(&self) -> Option<SendRequest<Body>> {
        loop {
            let mut idle = self.idle.lock().pop()?;
            if idle.ready().await.is_ok() {
                return Some(idle);
            }
        }
    }

    pub(super) async fn fresh(&self) -> Result<SendRequest<Body>, HomeError> {
        match timeout(CONNECT_TIMEOUT, self.connect()).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(HomeError::Away(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, HomeError> {
        let Upstream { host, port, .. } = &self.upstream;
        let bare = host.trim_matches(['[', ']']);
        let socket = TcpStream::connect((bare, *port)).await.map_err(away)?;
        socket.set_nodelay(true).map_err(away)?;
        let Some(trust) = &self.trust else { return self.speak(socket).await };
        let name = ServerName::try_from(bare.to_owned()).map_err(away)?;
        let config = Arc::clone(&trust.load().0);
        let stream = TlsConnector::from(config).connect(name, socket).await.map_err(away)?;
        self.speak(stream).await
    }

    async fn speak<S>(&self, stream: S) -> Result<SendRequest<Body>, HomeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(away)?;
        self.drivers.spawn(async move {
            // How it ended, the request in flight is told.
            let _ = connection.await;
        });
        Ok(requests)
    }

    /// Asks, and gives the head of a good answer with the rest of it.
    async fn ask(&self, method: Method, target: &str, range: Option<&Range<u64>>) -> Result<Answer, HomeError> {
        // One that home has just closed is found out by using it; what is asked may be asked twice.
        let answer = match self.used().await {
            Some(used) => match self.ask_on(used, method.clone(), target, range).await {
                Err(HomeError::Away(_)) => self.ask_on(self.fresh().await?, method, target, range).await?,
                answer => answer?,
            },
            None => self.ask_on(self.fresh().await?, method, target, range).await?,
        };
        if answer.response.status().is_success() { Ok(answer) } else { Err(answer.refusal().await) }
    }

    async fn ask_on(
        &self,
        mut requests: SendRequest<Body>,
        method: Method,
        target: &str,
        range: Option<&Range<u64>>,
    ) -> Result<Answer, HomeError> {
        let authority = format!("{}:{}", self.upstream.host, self.upstream.port);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, authority)
            .header(AUTHORIZATION, format!("Bearer {}", self.token.load().0));
        if let Some((name, claim)) = region::claim(&self.metadata).map_err(away)? {
            request = request.header(name, claim);
        }
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let request = request.body(Body::empty()).map_err(|error| HomeError::Refused(error.to_string()))?;
        let response = requests.send_request(request).await.map_err(away)?;
        Ok(Answer { response, requests, idle: Arc::clone(&self.idle) })
    }

    async fn lines<T: DeserializeOwned + Send + 'static>(&self, target: &str) -> Result<Lines<T>, HomeError> {
        let answer = self.ask(Method::GET, target, None).await?;
        Ok(lines(answer.response.into_body()).boxed())
    }

    /// An answer that is one document, of at most so many bytes.
    async fn document<T: DeserializeOwned>(&self, method: Method, target: &str, most: usize) -> Result<T, HomeError> {
        let answer = self.ask(method, target, None).await?;
        let mut bytes = BytesMut::new();
        let mut pieces = Box::pin(answer.bytes());
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > most {
                return Err(misread("an answer that is too long"));
            }
        }
        serde_json::from_slice(&bytes).map_err(misread)
    }
}

/// The head of an answer, and the connection on which the rest comes.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) requests: SendRequest<Body>,
    pub(super) idle: Arc<Mutex<Vec<SendRequest<Body>>>>,
}

impl Answer {
    fn header(&self, name: &HeaderName) -> Result<&str, HomeError> {
        text(self.response.headers(), name)
    }

    /// Why it is no good answer.
    pub(super) async fn refusal(self) -> HomeError {
        let status = self.response.status();
        let newest = text(self.response.headers(), &POSITION).ok().and_then(position);
        let body = Limited::new(self.response.into_body(), MAX_REFUSAL_BYTES).collect().await;
        let why = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
        match (status, newest) {
            (StatusCode::NOT_FOUND, Some(newest)) => HomeError::Unknown { newest },
            (StatusCode::CONFLICT, _) => HomeError::Resynchronise(why),
            (StatusCode::FORBIDDEN, _) => HomeError::Refused(format!("home does not let this mirror do that: {why}")),
            (StatusCode::UNAUTHORIZED, _) => HomeError::Refused(format!(
                "home does not take this mirror's token: mint one there with `roadstead mirror token`, and give its \
                 file as `upstream-token-file` ({status})"
            )),
            (StatusCode::NOT_FOUND, None) => HomeError::NotServed,
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                HomeError::Away(format!("it answered {status}"))
            }
            _ => HomeError::Refused(format!("home answered {status}: {why}")),
        }
    }

    /// The bytes of the body. Its connection is kept when they have come to their end.
    pub(super) fn bytes(self) -> impl Stream<Item = Result<Bytes, HomeError>> + Send + 'static {
        let Self { response, requests, idle } = self;
        stream::unfold(Some((response.into_body(), requests, idle)), |state| async move {
            let (mut body, requests, idle) = state?;
            loop {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        let Ok(bytes) = frame.into_data() else { continue };
                        return Some((Ok(bytes), Some((body, requests, idle))));
                    }
                    Some(Err(error)) => return Some((Err(away(error)), None)),
                    None => {
                        let mut idle = idle.lock();
                        if idle.len() < MAX_IDLE {
                            idle.push(requests);
                        }
                        return None;
                    }
                }
            }
        })
    }
}

#[async_trait]
impl Home for HttpHome {
    fn name(&self) -> &str {
        &self.upstream.url
    }

    async fn feed(&self, after: Position) -> Result<Lines<FeedLine>, HomeError> {
        let Position { epoch, sequence } = after;
        self.lines(&format!("{}?epoch={epoch}&sequence={sequence}", paths::FEED)).await
    }

    async fn watermarks(&self) -> Result<Lines<FeedLine>, HomeError> {
        self.lines(paths::WATERMARKS).await
    }

    async fn snapshot(&self) -> Result<Lines<SnapshotLine>, HomeError> {
        self.lines(paths::SNAPSHOT).await
    }

    async fn region(&self) -> Result<RegionReport, HomeError> {
        self.document(Method::GET, paths::REGION, MAX_DOCUMENT_BYTES).await
    }

    async fn hand_over(&self, to: HandoverRequest) -> Result<DemotionToken, HomeError> {
        let HandoverRequest { epoch, home, origin, ends } = to;
        let (home, origin) = (String::from(home), String::from(origin));
        let target = format!("{}?epoch={epoch}&home={home}&origin={origin}&ends={ends}", paths::HANDOVER);
        self.document(Method::POST, &target, MAX_DOCUMENT_BYTES).await
    }

    async fn report(&self, progress: &RemoteProgress) -> Result<(), HomeError> {
        let RemoteProgress { received: Position { epoch, sequence }, waiting } = progress;
        let waiting: Vec<String> = waiting.iter().map(u64::to_string).collect();
        let waiting = waiting.join(".");
        let target = format!("{}?epoch={epoch}&sequence={sequence}&waiting={waiting}", paths::PROGRESS);
        let answer = self.ask(Method::POST, &target, None).await?;
        // To its end, of which there is none, so that the connection is kept.
        let mut nothing = Box::pin(answer.bytes());
        while nothing.next().await.is_some() {}
        Ok(())
    }

    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<HomeManifest, HomeError> {
        let target = format!("{}?repository={repository}&reference={reference}", paths::MANIFEST);
        let answer = self.ask(Method::GET, &target, None).await?;
        let digest = answer.header(&DOCKER_CONTENT_DIGEST)?.parse().map_err(misread)?;
        let media_type = answer.header(&CONTENT_TYPE)?.to_owned();
        let mut bytes = BytesMut::new();
        let mut pieces = Box::pin(answer.bytes());
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() > Manifest::MAX_SIZE {
                return Err(misread("a manifest that is too long"));
            }
        }
        Ok(HomeManifest { digest, media_type, bytes: bytes.freeze() })
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<&Digest>,
    ) -> Result<HomeReferrers, HomeError> {
        let last = last.map(|last| format!("&last={last}")).unwrap_or_default();
        let target = format!("{}?repository={repository}&subject={subject}{last}", paths::REFERRERS);
        self.document(Method::GET, &target, MAX_REFERRERS_BYTES).await
    }

    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, HomeError> {
        let target = format!("{}?repository={repository}&digest={digest}", paths::BLOB);
        let answer = self.ask(Method::HEAD, &target, None).await?;
        let size = answer.header(&CONTENT_LENGTH)?.parse().map_err(misread)?;
        // To its end, of which there is none, so that the connection is kept.
        let mut nothing = Box::pin(answer.bytes());
        while nothing.next().await.is_some() {}
        Ok(size)
    }

    async fn upload(
        &self,
        repository: &RepositoryName,
        upload: &UploadId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, HomeError>>, HomeError> {
        let Range { start, end } = range;
        let target = format!("{}?repository={repository}&upload={upload}&start={start}&end={end}", paths::PARTS);
        let answer = self.ask(Method::GET, &target, None).await?;
        // `bytes 0-7/*`
        let given = answer.header(&CONTENT_RANGE)?;
        if *given != format!("bytes {start}-{}/*", end.saturating_sub(1)) {
            return Err(misread(format!("the range {given} for {start} to {end}")));
        }
        Ok(answer.bytes().boxed())
    }

    async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<HomeBlob, HomeError> {
        let target = format!("{}?repository={repository}&digest={digest}", paths::BLOB);
        let answer = self.ask(Method::GET, &target, Some(&range)).await?;
        // `bytes 0-7/8`
        let given = answer.header(&CONTENT_RANGE)?;
        let size = given.rsplit_once('/').and_then(|(_, size)| size.parse::<u64>().ok());
        let size = size.ok_or_else(|| misread(format!("the range {given}")))?;
        let wanted = format!("bytes {}-{}/{size}", range.start, range.end.min(size).saturating_sub(1));
        if given != wanted {
            return Err(misread(format!("the range {given} for {wanted}")));
        }
        Ok(HomeBlob { size, bytes: answer.bytes().boxed() })
    }
}

/// Lines of JSON, each at most so long.
fn lines<T: DeserializeOwned + Send + 'static>(body: Incoming) -> impl Stream<Item = Result<T, HomeError>> + Send {
    stream::unfold(Some((body, BytesMut::new())), |state| async move {
        let (mut body, mut read) = state?;
        let mut looked_at = 0;
        loop {
            if let Some(end) = read.iter().skip(looked_at).position(|byte| *byte == b'\n') {
                let line = read.split_to(looked_at + end);
                read.advance(1);
                return Some(match serde_json::from_slice(&line) {
                    Ok(line) => (Ok(line), Some((body, read))),
                    Err(error) => (Err(misread(error)), None),
                });
            }
            looked_at = read.len();
            if read.len() > MAX_LINE_BYTES {
                return Some((Err(misread("a line that is too long")), None));
            }
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        read.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => return Some((Err(away(error)), None)),
                None => return None,
            }
        }
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, HomeError> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| misread(format!("no {name}")))
}

fn position(text: &str) -> Option<Position> {
    let (epoch, sequence) = text.split_once('-')?;
    Some(Position { epoch: epoch.parse().ok()?, sequence: sequence.parse().ok()? })
}

pub(super) fn away(error: impl std::fmt::Display) -> HomeError {
    HomeError::Away(error.to_string())
}

pub(super) fn misread(what: impl std::fmt::Display) -> HomeError {
    HomeError::Refused(format!("home's answer cannot be understood, it may be of another release: {what}"))
}

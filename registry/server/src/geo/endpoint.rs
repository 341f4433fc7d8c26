//! What home answers its mirrors.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use roadstead_domain::{BlobReadError, Fault, ManifestReadError, Registry};
use roadstead_geo::{
    FeedError, HomeReferrers, LINE_INTERVAL, Mirror, PullError, Shown, Terms, feed_line, home_referrers,
    snapshot_lines, watermark,
};
use roadstead_metadata::{Position, Query, QueryError, Standing};
use roadstead_oci::{Digest, RangeRequest, Reference, RepositoryName};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::siblings::Others;
use super::{POSITION, paths, region, upload_endpoint, write_endpoint};
use crate::cluster::Transport;
use crate::http::DOCKER_CONTENT_DIGEST;
use crate::tasks::Supervisor;

/// What lines are.
const LINES: &str = "application/x-ndjson";

/// What the answers are made of.
pub(super) struct Homeland {
    pub(super) registry: Arc<Registry>,
    supervisor: Supervisor,
    /// What it is where it was not started as a home.
    mirror: Option<Arc<Mirror>>,
    /// The other replicas, if there may be some.
    pub(super) others: Option<Others>,
}

impl Homeland {
    /// Whether it decides itself what is written, as a mirror's home does: also one that was a mirror and was promoted.
    fn decides(&self) -> Result<bool, Fault> {
        if self.mirror.is_none() {
            return Ok(true);
        }
        let metadata = self.registry.metadata();
        let region = metadata.query()?.region(metadata.identity().cluster)?;
        Ok(region.standing == Standing::Home && region.promotion.is_some())
    }

    /// What is said in each line to a mirror that may write here, or may not.
    fn terms(&self, writes: bool) -> Terms {
        let partial = self.mirror.as_ref().is_some_and(|mirror| !mirror.is_over() && mirror.is_partial());
        Terms { writes, partial }
    }

    /// The mirror that this is, where a repository may have at its home what it has not here.
    pub(super) fn beyond(&self, repository: &RepositoryName) -> Option<&Arc<Mirror>> {
        self.mirror.as_ref().filter(|mirror| !mirror.is_over() && mirror.may_lack(repository))
    }
}

/// The mirror that asks.
#[derive(Clone)]
pub(super) struct Caller {
    /// Its name.
    pub(super) mirror: String,
    /// Whether it may write, and this is a registry that decides.
    pub(super) writes: bool,
    /// Whether its token is one for writing: such a mirror may also say who is home.
    pub(super) is_writer: bool,
}

/// An answer that is not what was asked for.
pub(super) enum Refusal {
    /// No token, or none that is known.
    Unauthorized,
    /// The token is for reading only, or, of what is written, this is a mirror itself.
    ReadOnly,
    /// It cannot be understood.
    Malformed(&'static str),
    /// The feed does not go on from there.
    Resynchronise(String),
    /// There is no such thing; the newest change then.
    Unknown(Position),
    /// It is damaged here, and may be mended.
    Damaged,
    /// It is to be had from the home of this mirror, which does not answer.
    HomeAway(String),
    /// The registry cannot say.
    Failed(Fault),
}

/// Everything that a mirror may ask. `content` reaches the other replicas, if there may be some. What it may write is taken by
/// a registry that began as a home, or was promoted; what a mirror of a part lacks, it asks its own home for.
pub(crate) fn router(
    registry: Arc<Registry>,
    content: Option<Arc<Transport>>,
    supervisor: Supervisor,
    mirror: Option<Arc<Mirror>>,
) -> Router {
    let others = content.map(|transport| Others { metadata: registry.metadata().clone(), transport });
    let homeland = Arc::new(Homeland { registry: Arc::clone(&registry), supervisor, mirror, others });
    let regions = Router::new()
        .route(paths::REGION, get(region::report))
        .route(paths::HANDOVER, post(region::hand_over))
        .route(paths::PROGRESS, post(region::progress))
        .with_state(Arc::clone(&registry));
    write_endpoint::routes()
        .route(paths::FEED, get(feed))
        .route(paths::WATERMARKS, get(watermarks))
        .route(paths::SNAPSHOT, get(snapshot))
        .route(paths::MANIFEST, get(manifest).put(write_endpoint::put_manifest).delete(write_endpoint::delete_manifest))
        .route(paths::REFERRERS, get(referrers))
        .route(paths::BLOB, get(blob))
        .route(paths::PARTS, get(upload_endpoint::parts))
        .with_state(Arc::clone(&homeland))
        .merge(regions)
        .layer(from_fn_with_state(registry, region::learn))
        .layer(from_fn_with_state(homeland, admit))
}

/// Every request shows a token that was minted here.
async fn admit(State(home): State<Arc<Homeland>>, mut request: Request, next: Next) -> Response {
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
    match token.map(|token| home.registry.mirror_of(token)).transpose() {
        Ok(Some(Some(mirror))) => {
            debug!(mirror = %mirror.name, "a mirror asks for {}", request.uri().path());
            let token = token.unwrap_or_default().to_owned();
            let decides = match home.decides() {
                Ok(decides) => decides,
                Err(fault) => return Refusal::Failed(fault).into_response(),
            };
            let (writes, is_writer) = (mirror.writes && decides, mirror.writes);
            request.extensions_mut().insert(Caller { mirror: mirror.name, writes, is_writer });
            until_dismissed(&home.registry, token, next.run(request).await)
        }
        Ok(_) => Refusal::Unauthorized.into_response(),
        Err(fault) => Refusal::Failed(fault).into_response(),
    }
}

/// Lines come for as long as the token is good with which they were asked for.
fn until_dismissed(registry: &Arc<Registry>, token: String, response: Response) -> Response {
    if response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind != LINES) {
        return response;
    }
    let registry = Arc::clone(registry);
    response.map(|body| {
        let is_admitted = move |_: &_| std::future::ready(matches!(registry.mirror_of(&token), Ok(Some(_))));
        Body::from_stream(body.into_data_stream().take_while(is_admitted))
    })
}

async fn feed(
    State(home): State<Arc<Homeland>>,
    Extension(Caller { writes, .. }): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let after = Position { epoch: parameter(&uri, "epoch")?, sequence: parameter(&uri, "sequence")? };
    let mut shown = Shown::new();
    let first = first_line(&home, after, writes, &mut shown).await?;
    info!(after = after.sequence, "a mirror follows from change {} on", after.sequence);
    Ok(lines(&home, follow(Arc::clone(&home), first, writes, shown)))
}

/// The first line, which says whether the feed goes on from there. A replica that has not seen yet what the mirror has
/// must not take that for another history.
async fn first_line(
    home: &Homeland,
    after: Position,
    writes: bool,
    shown: &mut Shown,
) -> Result<(Vec<u8>, Position), Refusal> {
    match feed_line(&home.registry, after, home.terms(writes), shown) {
        Err(FeedError::Resynchronise(_)) => {}
        line => return line.map_err(Refusal::from),
    }
    home.registry.confirm_newest().await.map_err(Refusal::Failed)?;
    feed_line(&home.registry, after, home.terms(writes), shown).map_err(Refusal::from)
}

/// The lines from the first one on: one as soon as there is a change or an upload has got on, and at least one each interval.
fn follow(
    home: Arc<Homeland>,
    first: (Vec<u8>, Position),
    writes: bool,
    shown: Shown,
) -> impl Stream<Item = Result<Vec<u8>, Fault>> {
    let metadata = home.registry.metadata();
    let (newest, applied) = (metadata.subscribe(), metadata.subscribe_applied());
    let (line, after) = first;
    let rest = stream::unfold((newest, applied, shown, after), move |(mut newest, mut applied, mut shown, after)| {
        let home = Arc::clone(&home);
        async move {
            let registry = &home.registry;
            let due = Instant::now() + LINE_INTERVAL;
            if newest.borrow_and_update().sequence <= after.sequence {
                // Either way there is something to say.
                let _ = timeout_at(due, shown.until_news(registry, &mut newest, &mut applied)).await;
            }
            match feed_line(registry, after, home.terms(writes), &mut shown) {
                Ok((line, last)) => Some((Ok(line), (newest, applied, shown, last))),
                Err(FeedError::Fault(fault)) => Some((Err(fault), (newest, applied, shown, after))),
                // The mirror asks again, and is told.
                Err(FeedError::Resynchronise(_)) => None,
            }
        }
    });
    stream::iter([Ok(line)]).chain(rest)
}

async fn watermarks(
    State(home): State<Arc<Homeland>>,
    Extension(Caller { writes, .. }): Extension<Caller>,
) -> Result<Response, Refusal> {
    let first = watermark(&home.registry, home.terms(writes))?;
    let ticks = tokio::time::interval_at(Instant::now() + LINE_INTERVAL, LINE_INTERVAL);
    let state = (Arc::clone(&home), ticks);
    let rest = stream::unfold(state, move |(home, mut ticks)| async move {
        ticks.tick().await;
        match watermark(&home.registry, home.terms(writes)) {
            Ok(line) => Some((Ok(line), (home, ticks))),
            Err(FeedError::Fault(fault)) => Some((Err(fault), (home, ticks))),
            Err(FeedError::Resynchronise(_)) => None,
        }
    });
    Ok(lines(&home, stream::iter([Ok(first)]).chain(rest)))
}

async fn snapshot(State(home): State<Arc<Homeland>>) -> Result<Response, Refusal> {
    home.registry.confirm_newest().await.map_err(Refusal::Failed)?;
    let snapshot = snapshot_lines(&home.registry).map_err(Refusal::Failed)?;
    let rest = stream::unfold(Some(snapshot), |snapshot| async move {
        let mut snapshot = snapshot?;
        match snapshot.next_line() {
            Ok(Some(line)) => Some((Ok(line), Some(snapshot))),
            Ok(None) => None,
            Err(fault) => Some((Err(fault), None)),
        }
    });
    Ok(lines(&home, rest))
}

/// Lines until the process stops.
fn lines(home: &Homeland, lines: impl Stream<Item = Result<Vec<u8>, Fault>> + Send + 'static) -> Response {
    let supervisor = home.supervisor.clone();
    let stopping = Box::pin(async move { supervisor.stopping().await });
    let body = Body::from_stream(lines.take_until(stopping));
    ([(CONTENT_TYPE, HeaderValue::from_static(LINES))], body).into_response()
}

async fn manifest(State(home): State<Arc<Homeland>>, uri: Uri) -> Result<Response, Refusal> {
    let repository: RepositoryName = parameter(&uri, "repository")?;
    let reference: Reference = parameter(&uri, "reference")?;
    let found = match home.registry.find_manifest(&repository, &reference).await {
        // A mirror would pass on as home's word what this replica remembers while no leader confirms it.
        Ok(found) if found.stale.is_some() => return Err(Refusal::Failed(Fault::Leaderless)),
        Ok(found) => found,
        Err(ManifestReadError::Unknown) => return home.manifest_beyond(&repository, &reference).await,
        Err(ManifestReadError::Fault(fault)) => return Err(Refusal::Failed(fault)),
    };
    let bytes = home.registry.read_manifest(&found).await.map_err(Refusal::Failed)?;
    given_manifest(&found.media_type, found.digest, bytes)
}

pub(super) fn given_manifest(media_type: &str, digest: Digest, bytes: Bytes) -> Result<Response, Refusal> {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    for (name, value) in [(CONTENT_TYPE, media_type), (DOCKER_CONTENT_DIGEST, &digest.to_string())] {
        let value = HeaderValue::from_str(value).map_err(|_| Refusal::Malformed("its type is no header"))?;
        headers.insert(name, value);
    }
    Ok(response)
}

async fn referrers(State(home): State<Arc<Homeland>>, uri: Uri) -> Result<Response, Refusal> {
    let repository: RepositoryName = parameter(&uri, "repository")?;
    let subject: Digest = parameter(&uri, "subject")?;
    // The first page is behind nothing.
    let last: Option<Digest> = parameter(&uri, "last").ok();
    let beyond = match home.beyond(&repository) {
        Some(mirror) => mirror.referrers(&repository, &subject, None, last.as_ref()).await?,
        None => None,
    };
    let page = match beyond {
        Some(listed) => HomeReferrers::from(listed),
        None => home_referrers(&home.registry, &repository, &subject, last.as_ref()).await.map_err(Refusal::Failed)?,
    };
    region::json(&page)
}

async fn blob(
    State(home): State<Arc<Homeland>>,
    Extension(Caller { writes, .. }): Extension<Caller>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    let repository: RepositoryName = parameter(&uri, "repository")?;
    let digest: Digest = parameter(&uri, "digest")?;
    // A client of a mirror that writes relies on what it is told of a blob's being here.
    let found = if method == Method::HEAD && writes {
        home.registry.promise_blob(&repository, &digest).await
    } else {
        home.registry.find_blob(&repository, &digest).await
    };
    let found = match found {
        Ok(found) => found,
        Err(BlobReadError::Unknown) => return home.blob_beyond(&repository, &digest, &method, &headers).await,
        Err(BlobReadError::Fault(fault)) => return Err(Refusal::Failed(fault)),
    };
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let range = range.map_or(RangeRequest::Whole, |range| RangeRequest::parse(range, found.size()));
    let (status, stretch) = match &range {
        RangeRequest::Whole => (StatusCode::OK, 0..found.size()),
        RangeRequest::Part(stretch) => (StatusCode::PARTIAL_CONTENT, stretch.clone()),
        RangeRequest::Unsatisfiable => return Err(Refusal::Malformed("the blob has no such bytes")),
    };
    let length = stretch.end - stretch.start;
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let bytes = home.registry.stream_blob(&found, stretch).await;
        Body::from_stream(bytes.map_err(|error| match error {
            BlobReadError::Unknown => Refusal::Malformed("the blob went away"),
            BlobReadError::Fault(fault) => Refusal::Failed(fault),
        })?)
    };
    given_blob(status, body, length, range.content_range(found.size()))
}

pub(super) fn given_blob(
    status: StatusCode,
    body: Body,
    length: u64,
    range: Option<String>,
) -> Result<Response, Refusal> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(range) = range {
        let value = HeaderValue::from_str(&range).map_err(|_| Refusal::Malformed("no such range"))?;
        headers.insert(CONTENT_RANGE, value);
    }
    Ok(response)
}

/// A value of the query. Names, tags and digests need no escaping in it.
pub(super) fn parameter<T: FromStr>(uri: &Uri, name: &str) -> Result<T, Refusal> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find_map(|(key, value)| (key == name).then_some(value));
    value.and_then(|value| value.parse().ok()).ok_or(Refusal::Malformed("the query is not what a mirror asks"))
}

impl Homeland {
    /// That something is not here.
    pub(super) fn unknown(&self) -> Result<Refusal, Refusal> {
        self.look(|_| Ok(false))
    }

    /// Why a manifest is not found. One that is damaged here and will be mended is not unknown: a mirror waits for it.
    pub(super) fn no_manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Refusal, Refusal> {
        self.look(|query| {
            let digest = match reference {
                Reference::Digest(digest) => Some(*digest),
                Reference::Tag(tag) => query.tag(repository, tag)?,
            };
            digest.map_or(Ok(false), |digest| query.manifest_set_aside(repository, &digest))
        })
    }

    /// Why a blob is not found, likewise.
    pub(super) fn no_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Refusal, Refusal> {
        self.look(|query| Ok(query.blob_set_aside(repository, digest)?.is_some()))
    }

    /// The position is read after what was looked for was not found: so what deleted it is not behind it. What was put
    /// there again in between, the mirror sees by the change that says so.
    fn look(&self, is_damaged: impl Fn(&Query) -> Result<bool, QueryError>) -> Result<Refusal, Refusal> {
        let looked = self.registry.metadata().query().and_then(|query| Ok((is_damaged(&query)?, query.position()?)));
        match looked.map_err(|error| Refusal::Failed(error.into()))? {
            (true, _) => Ok(Refusal::Damaged),
            (false, newest) => Ok(Refusal::Unknown(newest)),
        }
    }
}

impl From<PullError> for Refusal {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Unknown => Self::HomeAway("it does not say".to_owned()),
            PullError::HomeAway(why) => Self::HomeAway(why),
            PullError::Fault(fault) => Self::Failed(fault),
        }
    }
}

impl From<FeedError> for Refusal {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Resynchronise(why) => Self::Resynchronise(why),
            FeedError::Fault(fault) => Self::Failed(fault),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "show a token of this registry: `roadstead mirror token` mints one\n")
                    .into_response()
            }
            Self::ReadOnly => (
                StatusCode::FORBIDDEN,
                "this mirror may only read here: `roadstead mirror token --writes` mints a token for more\n",
            )
                .into_response(),
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, why).into_response(),
            Self::Resynchronise(why) => (StatusCode::CONFLICT, why).into_response(),
            Self::Unknown(Position { epoch, sequence }) => {
                (StatusCode::NOT_FOUND, [(POSITION, format!("{epoch}-{sequence}"))]).into_response()
            }
            Self::Damaged => {
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], "it is damaged here and waits to be mended\n")
                    .into_response()
            }
            Self::HomeAway(why) => {
                debug!(reason = %why, "a mirror could not be answered, since home does not answer: {why}");
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response()
            }
            Self::Failed(fault) => {
                debug!(reason = %fault, "a mirror could not be answered: {fault}");
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response()
            }
        }
    }
}

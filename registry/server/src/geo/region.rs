//! Who is home: what a home is told of that by its mirrors, and how it hands over.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use roadstead_domain::{Fault, Registry};
use roadstead_geo::{DemotionToken, EpochClaim, HomeId, region_report};
use roadstead_metadata::{
    FenceRegionRefused, HandoverStep, Metadata, Position, QueryError, RegionEpoch, RemoteProgress, Standing,
};
use serde::Serialize;
use tracing::warn;

use super::endpoint::{Caller, Refusal, parameter};

/// The highest epoch that a mirror knows of, which its home may not have heard of: `<number>-<home>-<origin>`.
const EPOCH: HeaderName = HeaderName::from_static("roadstead-epoch");

/// What a mirror says of who is home with each request: nothing, for as long as there was one home only.
pub(super) fn claim(metadata: &Metadata) -> Result<Option<(HeaderName, String)>, QueryError> {
    let region = metadata.query()?.region(metadata.identity().cluster)?;
    let claim = EpochClaim { epoch: region.epoch, origin: region.origin };
    Ok((region.epoch.number > 1).then(|| (EPOCH, claim.to_string())))
}

/// Whoever shows the token of a mirror that may write may tell this region that another one is home. Whoever may only read
/// is not to end its writes.
pub(super) async fn learn(
    State(registry): State<Arc<Registry>>,
    Extension(Caller { is_writer, .. }): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if is_writer && let Err(fault) = heed(&registry, request.headers()).await {
        return Refusal::Failed(fault).into_response();
    }
    next.run(request).await
}

async fn heed(registry: &Registry, headers: &HeaderMap) -> Result<(), Fault> {
    let claimed = headers.get(EPOCH).and_then(|value| value.to_str().ok()?.parse::<EpochClaim>().ok());
    let Some(EpochClaim { epoch, origin }) = claimed else { return Ok(()) };
    let region = registry.region()?;
    if origin != region.origin || epoch <= region.epoch {
        return Ok(());
    }
    // Another request may have told of it meanwhile.
    if let Ok(fenced) = registry.fence_region(epoch, origin).await?
        && region.standing == Standing::Home
    {
        warn!(
            epoch = epoch.number,
            last = fenced.last.sequence,
            "another region is home since epoch {}: no pushes are taken here any more; the last change was {}",
            epoch.number,
            fenced.last.sequence
        );
    }
    Ok(())
}

pub(super) async fn report(State(registry): State<Arc<Registry>>) -> Result<Response, Refusal> {
    registry.confirm_newest().await.map_err(Refusal::Failed)?;
    json(&region_report(&registry).map_err(Refusal::Failed)?)
}

/// Notes how far the mirror is that says so.
pub(super) async fn progress(
    State(registry): State<Arc<Registry>>,
    Extension(Caller { mirror, .. }): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let received = Position { epoch: parameter(&uri, "epoch")?, sequence: parameter(&uri, "sequence")? };
    let Sequences(waiting) = parameter(&uri, "waiting")?;
    registry.note_remote(mirror, RemoteProgress { received, waiting }).await.map_err(Refusal::Failed)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Numbers with points between them, in order; as many as a mirror names.
struct Sequences(Vec<u64>);

impl std::str::FromStr for Sequences {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split('.').filter(|part| !part.is_empty()).take(RemoteProgress::MAX_WAITING);
        let mut numbers = numbers.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        numbers.sort_unstable();
        Ok(Self(numbers))
    }
}

/// Lets this home stop, for the mirror that is home next, and when that one has everything, for good. Asking twice does no
/// harm.
pub(super) async fn hand_over(
    State(registry): State<Arc<Registry>>,
    Extension(Caller { is_writer, .. }): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    if !is_writer {
        return Err(Refusal::ReadOnly);
    }
    let (number, home): (u64, HomeName) = (parameter(&uri, "epoch")?, parameter(&uri, "home")?);
    let origin: HomeName = parameter(&uri, "origin")?;
    let epoch = RegionEpoch { number, home: home.0.0 };
    let region = registry.region().map_err(Refusal::Failed)?;
    if region.standing == Standing::Mirror {
        return Err(Refusal::Malformed("the upstream is a mirror itself: only the home of all can hand over"));
    }
    let ends = parameter(&uri, "ends")?;
    let step = if ends { HandoverStep::Ends } else { HandoverStep::Begins };
    let fenced = match registry.hand_over(epoch, origin.0.0, step).await.map_err(Refusal::Failed)? {
        Ok(fenced) => fenced,
        Err(
            FenceRegionRefused::NotHigher { .. }
            | FenceRegionRefused::IsFenced { .. }
            | FenceRegionRefused::NotHandingOver,
        ) => {
            let why = "home knows of a higher epoch: somebody else was promoted, or home has taken its handover back";
            return Err(Refusal::Malformed(why));
        }
        Err(FenceRegionRefused::OtherOrigin { .. }) => {
            return Err(Refusal::Malformed("home is of another line of epochs than this mirror"));
        }
    };
    let last = fenced.last.sequence;
    if ends {
        warn!(
            epoch = number,
            last, "handed over to a mirror, which is home in epoch {number}; the last change was {last}"
        );
    } else {
        warn!(
            epoch = number,
            last,
            "a mirror takes over, in epoch {number}: no pushes are taken here while it catches up with change {last}; \
             `roadstead demote --cancel` takes it back"
        );
    }
    let from = HomeId(registry.metadata().identity().cluster);
    json(&DemotionToken { epoch: number, home: home.0, from, last: fenced.last })
}

/// A cluster in a query.
struct HomeName(HomeId);

impl std::str::FromStr for HomeName {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        HomeId::try_from(text.to_owned()).map(Self)
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Response, Refusal> {
    let body = serde_json::to_vec(value)
        .map_err(|error| Refusal::Failed(Fault::Inconsistent(format!("an answer cannot be written: {error}"))))?;
    Ok((StatusCode::OK, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

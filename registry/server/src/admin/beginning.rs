//! What the operator asks of a replica before it is in a cluster: which volume it has, and to begin the cluster, if it is to.
//!
//! These two are answered from the first moment on; everything else only once the replica is in a cluster.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use roadstead_metadata::{BeginRefusal, Beginning, ClusterId, VolumeId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::api::{answer, read};
use super::members::uuid;
use super::problem::{Code, Problem};

/// The answer of `GET /admin/v1/volume` and of `POST /admin/v1/begin`. Fields are added, never changed.
#[expect(clippy::struct_field_names, reason = "the volume has a volume id")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Volume {
    /// The volume's id: a UUID.
    pub volume: String,
    /// The cluster that it is in; `null` as long as the replica waits to be taken in or ordered to begin one.
    pub cluster: Option<String>,
    /// Who it is there.
    pub node: Option<u64>,
}

/// The body of `POST /admin/v1/begin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// The volume that is to begin it: another one refuses.
    pub volume: Uuid,
    /// The id that the cluster is to have.
    pub cluster: Uuid,
}

/// Answers the two of them, and that it is too early for anything else.
pub(crate) fn router(beginning: Beginning) -> Router {
    Router::new()
        .route(VOLUME, get(async |State(beginning): State<Arc<Beginning>>| answer(of(&beginning))))
        .route(
            BEGIN,
            post(async |State(beginning): State<Arc<Beginning>>, body: Body| post_begin(&beginning, body).await),
        )
        .fallback(async || answer(Err::<(), _>(early())))
        .with_state(Arc::new(beginning))
}

pub(super) const VOLUME: &str = "/admin/v1/volume";
pub(super) const BEGIN: &str = "/admin/v1/begin";

/// Which volume this is, and who.
pub(super) fn of(beginning: &Beginning) -> Result<Volume, Problem> {
    let Some(VolumeId(volume)) = beginning.volume() else { return Err(early()) };
    let identity = beginning.identity();
    Ok(Volume {
        volume: uuid(volume),
        cluster: identity.map(|identity| uuid(identity.cluster.0)),
        node: identity.map(|identity| identity.node),
    })
}

/// Lets it begin the cluster.
pub(super) async fn post_begin(beginning: &Beginning, body: Body) -> Response {
    let request = match read::<Request>(body).await {
        Ok(Some(request)) => request,
        Ok(None) => {
            return answer(Err::<(), _>(Problem::new(Code::BadRequest, "the body names no volume and cluster")));
        }
        Err(problem) => return answer(Err::<(), _>(problem)),
    };
    answer(begin(beginning, request).await)
}

async fn begin(beginning: &Beginning, Request { volume, cluster }: Request) -> Result<Volume, Problem> {
    match beginning.order(VolumeId(volume.as_u128()), ClusterId(cluster.as_u128())).await {
        Ok(_) => of(beginning),
        Err(refusal @ BeginRefusal::OtherVolume) => Err(Problem::new(Code::OtherVolume, refusal)),
        Err(refusal @ BeginRefusal::HasCluster(_)) => Err(Problem::new(Code::HasCluster, refusal)),
    }
}

fn early() -> Problem {
    Problem::new(Code::NoCluster, "this replica is in no cluster yet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn before_the_folder_is_open_nothing_is_known_or_done() {
        let beginning = Beginning::default();
        assert_eq!(of(&beginning).map_err(|problem| problem.code), Err(Code::NoCluster));
        let request = Request { volume: Uuid::from_u128(1), cluster: Uuid::from_u128(2) };
        assert_eq!(begin(&beginning, request).await.map_err(|problem| problem.code), Err(Code::OtherVolume));
    }
}

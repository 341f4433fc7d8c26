//! Does a step: one write to the API server, or one request to a replica.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, Preconditions};
use serde_json::json;
use uuid::Uuid;

use super::observe::{SeenPod, Sight};
use crate::admin::{AdminError, Change, Credentials};
use crate::ambient;
use crate::apply::Objects;
use crate::build::{Kind, Object, Wish, stateful_set, volume_name};
use crate::plan::{Begun, Step};

/// Why a step was not done. It is looked at anew, and tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ActError {
    /// The API server did not do it.
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    /// The replicas did not do it.
    #[error(transparent)]
    Replica(#[from] AdminError),
    /// The pod's disruption budget does not allow it now.
    #[error("the disruption budget does not let replica {0} be evicted now")]
    Budget(u32),
    /// What was seen is so no more.
    #[error("replica {0} is gone")]
    Gone(u32),
    /// No random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(#[from] rand::rand_core::OsError),
}

/// Does it.
pub(super) async fn act(
    objects: &Objects<'_>,
    wish: &Wish,
    sight: &Sight,
    credentials: &Credentials,
    step: Step,
) -> Result<(), ActError> {
    let pods: Api<Pod> = Api::namespaced(objects.client.clone(), objects.namespace);
    let leader = sight.observed.group.as_ref().map(|group| group.leader);
    let ask = async |change: Change| {
        let target = sight.member_target(leader).ok_or_else(|| AdminError::Silent("no replica is there".to_owned()))?;
        Ok(credentials.change(target, change).await?)
    };
    match step {
        Step::Create { replicas } | Step::Resize { replicas } => {
            objects.apply(&stateful_set(wish, replicas)).await?;
            Ok(())
        }
        Step::Note { volume, cluster } => {
            let cluster = match cluster {
                Some(cluster) => cluster,
                None => uuid::Builder::from_random_bytes(ambient::random()?).into_uuid(),
            };
            objects.create(&note(wish, Begun { cluster, volume })).await?;
            Ok(())
        }
        Step::Begin { ordinal, begun: Begun { cluster, volume } } => {
            let target = seen(sight, ordinal)?.target.as_ref().ok_or(ActError::Gone(ordinal))?;
            Ok(credentials.change(target, Change::Begin { volume, cluster }).await?)
        }
        Step::Promote { node } => ask(Change::Promote { node }).await,
        Step::Replace { lost, by } => ask(Change::Replace { lost, by }).await,
        Step::Remove { node } => ask(Change::Remove { node }).await,
        Step::HandOver { to, .. } => ask(Change::Transfer { to }).await,
        Step::Evict { ordinal } => {
            let pod = seen(sight, ordinal)?;
            let params = EvictParams { delete_options: Some(this_one(pod)), ..EvictParams::default() };
            match pods.evict(&pod.name, &params).await {
                Ok(_) => objects.writes.note(),
                Err(kube::Error::Api(status)) if status.code == 429 => return Err(ActError::Budget(ordinal)),
                Err(error) => return gone(error, ordinal),
            }
            Ok(())
        }
        Step::Delete { ordinal } => delete_pod(objects, &pods, seen(sight, ordinal)?, ordinal).await,
        Step::Reset { ordinal } => {
            delete_volume(objects, wish, sight, ordinal).await?;
            delete_pod(objects, &pods, seen(sight, ordinal)?, ordinal).await
        }
        Step::DeleteVolume { ordinal } => delete_volume(objects, wish, sight, ordinal).await,
    }
}

/// The object that notes where the cluster begins, and under which id: whoever creates it first decides.
pub(super) fn note(wish: &Wish, Begun { cluster, volume }: Begun) -> Object {
    let content = json!({
        "immutable": true,
        "data": { "cluster": cluster.to_string(), "volume": volume.to_string() },
    });
    Object::retained(Kind::ConfigMap, wish, &wish.named("beginning"), content)
}

/// A note for whoever only wants its name and owners.
pub(super) fn any_note(wish: &Wish) -> Object {
    note(wish, Begun { cluster: Uuid::nil(), volume: Uuid::nil() })
}

fn seen(sight: &Sight, ordinal: u32) -> Result<&SeenPod, ActError> {
    sight.pods.get(&ordinal).ok_or(ActError::Gone(ordinal))
}

/// This pod, and not another one that has taken its name since.
pub(super) fn this_one(pod: &SeenPod) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), ..Preconditions::default() }),
        ..DeleteParams::default()
    }
}

async fn delete_pod(objects: &Objects<'_>, pods: &Api<Pod>, pod: &SeenPod, ordinal: u32) -> Result<(), ActError> {
    match pods.delete(&pod.name, &this_one(pod)).await {
        Ok(_) => objects.writes.note(),
        Err(error) => return gone(error, ordinal),
    }
    Ok(())
}

/// Deletes the volume that was seen, and no other one that has its name by now.
async fn delete_volume(objects: &Objects<'_>, wish: &Wish, sight: &Sight, ordinal: u32) -> Result<(), ActError> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(objects.client.clone(), objects.namespace);
    let name = volume_name(&wish.name, ordinal);
    let seen = sight.claims.iter().find(|claim| claim.metadata.name.as_ref() == Some(&name));
    let Some(uid) = seen.and_then(|claim| claim.metadata.uid.clone()) else { return Ok(()) };
    let preconditions = Some(Preconditions { uid: Some(uid), ..Preconditions::default() });
    match claims.delete(&name, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Ok(_) => objects.writes.note(),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return gone(error, ordinal),
    }
    Ok(())
}

/// What is not there any more, or another one by now, was done by somebody else.
fn gone(error: kube::Error, ordinal: u32) -> Result<(), ActError> {
    match &error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Err(ActError::Gone(ordinal)),
        _ => Err(error.into()),
    }
}

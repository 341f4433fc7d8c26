//! Keeps the replicas without a vote: their StatefulSet follows the wish, their learners follow their pods.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::EvictParams;

use super::act::{ActError, this_one};
use super::observe::Sight;
use crate::admin::{AdminError, Change, Credentials};
use crate::apply::Objects;
use crate::build::{Wish, frontends};
use crate::plan::{Tending, tend};

/// Applies what there is to be, and tends to one of them. Tells what was done.
pub(super) async fn keep_frontends(
    objects: &Objects<'_>,
    wish: &Wish,
    sight: &Sight,
    credentials: &Credentials,
) -> Result<Option<(&'static str, String)>, kube::Error> {
    let are_there = !sight.frontends.pods.is_empty() || !sight.frontends.learners.is_empty();
    if wish.frontends() == 0 && !are_there {
        return Ok(None);
    }
    for object in frontends(wish) {
        objects.apply(&object).await?;
    }
    let Some(group) = &sight.observed.group else { return Ok(None) };
    let Some(tending) = tend(&sight.frontends, group.cluster) else { return Ok(None) };
    let (reason, note) = match tending {
        Tending::Forget { node } => ("ForgettingFrontend", format!("forgets node {node}, a frontend that is no more")),
        Tending::Renew { ordinal } => ("RenewingFrontend", format!("starts frontend {ordinal} anew")),
        Tending::Restart { ordinal } => ("Rolling", format!("restarts frontend {ordinal} with what is wanted now")),
    };
    match act(objects, sight, credentials, tending, group.leader).await {
        Ok(()) => Ok(Some((reason, note))),
        Err(ActError::Kubernetes(error)) => Err(error),
        Err(refused) => {
            tracing::info!(registry = wish.name, reason = %refused, "{note}: not now: {refused}");
            Ok(None)
        }
    }
}

async fn act(
    objects: &Objects<'_>,
    sight: &Sight,
    credentials: &Credentials,
    tending: Tending,
    leader: u64,
) -> Result<(), ActError> {
    let ordinal = match tending {
        Tending::Forget { node } => {
            let silent = || AdminError::Silent("no replica is there".to_owned());
            let target = sight.member_target(Some(leader)).ok_or_else(silent)?;
            return Ok(credentials.change(target, Change::Remove { node }).await?);
        }
        Tending::Renew { ordinal } | Tending::Restart { ordinal } => ordinal,
    };
    let pod = sight.frontend_pods.get(&ordinal).ok_or(ActError::Gone(ordinal))?;
    let pods: Api<Pod> = Api::namespaced(objects.client.clone(), objects.namespace);
    let done = match tending {
        Tending::Restart { .. } => {
            let params = EvictParams { delete_options: Some(this_one(pod)), ..EvictParams::default() };
            pods.evict(&pod.name, &params).await.map(drop)
        }
        _ => pods.delete(&pod.name, &this_one(pod)).await.map(drop),
    };
    match done {
        Ok(()) => objects.writes.note(),
        Err(kube::Error::Api(status)) if status.code == 429 => return Err(ActError::Budget(ordinal)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Err(ActError::Gone(ordinal)),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

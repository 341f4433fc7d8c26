//! Drains that wait for a replica to serve again: whoever drains is told by nobody else why.

use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use serde_json::Value;

use super::observe::{Sight, allowed};
use super::trouble::Trouble;
use crate::build::pod_name;

/// The drain that the disruption budget holds up now, if there is one and the operator may look at nodes.
pub(super) async fn held_up(
    client: &Client,
    registry: &str,
    sight: &Sight,
    budget: &Value,
) -> Result<Option<Trouble>, kube::Error> {
    if budget.pointer("/status/disruptionsAllowed").and_then(Value::as_u64) != Some(0) {
        return Ok(None);
    }
    let serves =
        |ordinal: &u32| sight.observed.pods.get(ordinal).is_some_and(|pod| pod.is_ready && !pod.is_terminating);
    let away = sight.observed.pods.iter().filter(|(ordinal, _)| !serves(ordinal));
    let away: Vec<String> = away.map(|(ordinal, _)| pod_name(registry, *ordinal)).collect();
    let nodes: Api<Node> = Api::all(client.clone());
    let serving = sight.pods.iter().filter(|(ordinal, _)| serves(ordinal));
    let placed = serving.filter_map(|(_, pod)| Some((pod, pod.node.as_ref()?)));
    let looked = placed.map(async |(pod, name)| {
        let node = allowed(nodes.get_opt(name).await)?.flatten();
        Ok::<_, kube::Error>((pod, name, node))
    });
    for (pod, name, node) in try_join_all(looked).await? {
        let Some(node) = node else { continue };
        if node.spec.and_then(|spec| spec.unschedulable) == Some(true) {
            let until = match &*away {
                [] => "the disruption budget allows it".to_owned(),
                away => format!("{} serves again", away.join(" and ")),
            };
            let message = format!(
                "the drain of {name} waits: {} stays until {until}, since the others alone are no quorum",
                pod.name
            );
            return Ok(Some(Trouble { reason: "DrainWaits", message }));
        }
    }
    Ok(None)
}

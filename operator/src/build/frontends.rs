//! The replicas without a vote: a StatefulSet of their own, so that each has a name to be reached by, but without volumes.

use serde_json::{Value, json};

use super::object::{Kind, Object};
use super::pod::template;
use super::{PEER_PORT, Part, Wish};

/// Of ten frontends, as many may be away at once.
const MAX_AWAY: &str = "25%";

/// What is made for them.
pub(crate) fn frontends(wish: &Wish) -> Vec<Object> {
    vec![peers(wish), stateful_set(wish), disruption_budget(wish)]
}

/// The headless Service that gives each a name: the leader calls them by it.
fn peers(wish: &Wish) -> Object {
    let content = json!({
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": Part::Frontend.selector(&wish.name),
            "ports": [{ "name": "peers", "port": PEER_PORT, "targetPort": "peers", "protocol": "TCP" }],
        },
    });
    Object::owned(Kind::Service, wish, &Part::Frontend.peers(&wish.name), content)
}

/// It restarts nothing: the operator does, when what a person wrote has changed.
fn stateful_set(wish: &Wish) -> Object {
    let mut template = template(wish, Part::Frontend);
    if let Some(volumes) = template.pointer_mut("/spec/volumes").and_then(Value::as_array_mut) {
        volumes.push(json!({ "name": "data", "emptyDir": {} }));
    }
    let content = json!({
        "spec": {
            "replicas": wish.frontends(),
            "serviceName": Part::Frontend.peers(&wish.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "OnDelete" },
            "revisionHistoryLimit": 2,
            "selector": { "matchLabels": Part::Frontend.selector(&wish.name) },
            "template": template,
        },
    });
    Object::owned(Kind::StatefulSet, wish, &Part::Frontend.workload(&wish.name), content)
}

fn disruption_budget(wish: &Wish) -> Object {
    let content = json!({
        "spec": {
            "maxUnavailable": MAX_AWAY,
            "selector": { "matchLabels": Part::Frontend.selector(&wish.name) },
        },
    });
    Object::owned(Kind::PodDisruptionBudget, wish, &Part::Frontend.workload(&wish.name), content)
}

//! How replicas and the operator reach each replica.

use serde_json::json;

use super::object::{Kind, Object};
use super::{Part, Wish};

/// Where replicas speak with each other and answer the operator.
pub(crate) const PEER_PORT: u16 = 5001;

/// The name of the pod of a replica.
pub(crate) fn pod_name(registry: &str, ordinal: u32) -> String {
    format!("{registry}-{ordinal}")
}

/// The host that a replica is called by, and its certificate is for. Without the cluster's domain, which the resolver
/// adds: it is called otherwise here and there.
pub(crate) fn peer_name(wish: &Wish, part: Part, pod: &str) -> String {
    format!("{pod}.{}.{}.svc", part.peers(&wish.name), wish.namespace)
}

/// The headless Service that gives each replica a name, also while it is not ready: it must reach the others to become so.
pub(crate) fn peers(wish: &Wish) -> Object {
    let content = json!({
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": Part::Voter.selector(&wish.name),
            "ports": [{ "name": "peers", "port": PEER_PORT, "targetPort": "peers", "protocol": "TCP" }],
        },
    });
    Object::owned(Kind::Service, wish, &Part::Voter.peers(&wish.name), content)
}

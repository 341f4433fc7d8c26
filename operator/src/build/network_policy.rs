//! Who may speak with the replicas.

use serde_json::json;

use super::object::{Kind, Object, everybody};
use super::{PEER_PORT, PORT, Wish};

/// Everybody may ask for images, since nodes cannot be selected; replicas and the operator alone reach the port for them.
pub(crate) fn network_policy(wish: &Wish) -> Object {
    let replicas = json!({ "podSelector": { "matchLabels": everybody(&wish.name) } });
    let operator = json!({
        "namespaceSelector": {},
        "podSelector": { "matchLabels": { "app.kubernetes.io/name": "roadstead-operator" } },
    });
    let content = json!({
        "spec": {
            "podSelector": { "matchLabels": everybody(&wish.name) },
            "policyTypes": ["Ingress"],
            "ingress": [
                { "ports": [{ "port": PORT, "protocol": "TCP" }] },
                { "from": [replicas, operator], "ports": [{ "port": PEER_PORT, "protocol": "TCP" }] },
            ],
        },
    });
    Object::owned(Kind::NetworkPolicy, wish, &wish.name, content)
}

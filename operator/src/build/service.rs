//! Where clients reach a registry.

use roadstead_crds::{ServiceType, TlsProvider};
use serde_json::{Value, json};

use super::Wish;
use super::object::{Kind, Object, everybody, merge};

/// Where clients are served.
pub(crate) const PORT: u16 = 5000;

/// The Service in front of all replicas that serve.
pub(crate) fn service(wish: &Wish) -> Object {
    let exposed = &wish.spec.expose.service;
    let mut port = json!({ "name": "registry", "port": PORT, "targetPort": "registry", "protocol": "TCP" });
    if wish.spec.tls.provider != TlsProvider::Disabled {
        merge(&mut port, json!({ "appProtocol": "https" }));
    }
    if let Some(node_port) = exposed.node_port {
        merge(&mut port, json!({ "nodePort": node_port }));
    }
    let kind = match exposed.type_ {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let mut content = json!({ "spec": { "type": kind, "selector": everybody(&wish.name), "ports": [port] } });
    if !exposed.annotations.is_empty() {
        merge(&mut content, json!({ "metadata": { "annotations": exposed.annotations } }));
    }
    Object::owned(Kind::Service, wish, &wish.name, content)
}

/// The host and port that pods and nodes of the cluster reach a Service by: its address, since nodes do not know the
/// names of Services.
pub(crate) fn endpoint(service: &Value) -> Option<String> {
    let address =
        service.pointer("/spec/clusterIP")?.as_str().filter(|address| !address.is_empty() && *address != "None")?;
    let is_v6 = address.contains(':');
    Some(if is_v6 { format!("[{address}]:{PORT}") } else { format!("{address}:{PORT}") })
}

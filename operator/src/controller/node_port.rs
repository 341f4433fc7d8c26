//! Where a registry is reached from outside by the port that every node has for it.
//!
//! The nodes that its replicas run on are told of in the status, and what is told there is in the certificate a moment later: so
//! nobody has to be allowed to list nodes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use roadstead_crds::{Registry, ServiceType};
use serde_json::Value;

use super::observe::Sight;
use crate::build::Wish;

/// Nodes that are told of: one of each voter.
const MAX_NODES: usize = 7;

/// The port of the Service on the nodes that replicas run on. While one of them has no node, it is what it was: so a pod that is
/// restarted changes nothing.
pub(super) fn endpoints(registry: &Registry, wish: &Wish, service: &Value, sight: &Sight) -> Vec<String> {
    if wish.spec.expose.service.type_ != ServiceType::NodePort {
        return Vec::new();
    }
    let port = service.pointer("/spec/ports/0/nodePort").and_then(Value::as_u64);
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
    let addresses: Vec<Option<IpAddr>> = sight.pods.values().map(|pod| pod.node_address).collect();
    let known: Vec<SocketAddr> = told(registry).filter(|known| known.port() == port).collect();
    let are_all_seen = addresses.len() >= wish.voters() as usize && addresses.iter().all(Option::is_some);
    let nodes: BTreeSet<IpAddr> = if are_all_seen || known.is_empty() {
        addresses.into_iter().flatten().collect()
    } else {
        known.iter().map(SocketAddr::ip).collect()
    };
    nodes.into_iter().take(MAX_NODES).map(|node| SocketAddr::new(node, port).to_string()).collect()
}

/// The addresses of the nodes that clients were told of.
pub(super) fn addresses(registry: &Registry) -> impl Iterator<Item = String> {
    told(registry).map(|endpoint| endpoint.ip().to_string())
}

fn told(registry: &Registry) -> impl Iterator<Item = SocketAddr> {
    let told = registry.status.iter().flat_map(|status| &status.node_endpoints);
    told.filter_map(|endpoint| endpoint.parse().ok())
}

#[cfg(test)]
mod tests {
    use roadstead_crds::RegistryStatus;
    use serde_json::json;

    use super::super::observe::SeenPod;
    use super::*;
    use crate::build::golden::wish;

    fn registry(told: &[&str]) -> Registry {
        let mut registry: Registry = serde_json::from_value(json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "Registry", "metadata": { "name": "home" },
            "spec": { "storage": { "s3": { "bucket": "images", "region": "eu-central-1" } } },
        }))
        .unwrap();
        let node_endpoints = told.iter().map(|told| (*told).to_owned()).collect();
        registry.status = Some(RegistryStatus { node_endpoints, ..RegistryStatus::default() });
        registry
    }

    fn sight(addresses: &[Option<&str>]) -> Sight {
        let pod = |address: Option<&str>| SeenPod {
            name: "home".to_owned(),
            uid: "1".to_owned(),
            node: None,
            node_address: address.map(|address| address.parse().unwrap()),
            target: None,
        };
        Sight { pods: (0..).zip(addresses.iter().copied().map(pod)).collect(), ..Sight::default() }
    }

    #[test]
    fn nodes_of_replicas_are_told_of_and_a_restart_changes_nothing() {
        let mut wish = wish();
        let service = json!({ "spec": { "ports": [{ "port": 5000, "nodePort": 30500 }] } });
        let all = sight(&[Some("10.0.0.3"), Some("10.0.0.1"), Some("fd00::1")]);
        assert!(endpoints(&registry(&[]), &wish, &service, &all).is_empty(), "it is no NodePort");
        wish.spec.expose.service.type_ = ServiceType::NodePort;
        let told = endpoints(&registry(&[]), &wish, &service, &all);
        assert_eq!(told, ["10.0.0.1:30500", "10.0.0.3:30500", "[fd00::1]:30500"]);
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        assert_eq!(addresses(&registry(&told)).collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.3", "fd00::1"]);

        let one_less =
            [sight(&[Some("10.0.0.3"), Some("10.0.0.1"), None]), sight(&[Some("10.0.0.3"), Some("10.0.0.1")])];
        for restarting in one_less {
            assert_eq!(endpoints(&registry(&told), &wish, &service, &restarting), told);
            assert_eq!(endpoints(&registry(&[]), &wish, &service, &restarting).len(), 2, "the first ones");
        }
        let moved = sight(&[Some("10.0.0.3"), Some("10.0.0.1"), Some("10.0.0.4")]);
        assert_eq!(endpoints(&registry(&told), &wish, &service, &moved)[2], "10.0.0.4:30500");
        let elsewhere = json!({ "spec": { "ports": [{ "port": 5000, "nodePort": 30600 }] } });
        assert_eq!(endpoints(&registry(&told), &wish, &elsewhere, &all)[0], "10.0.0.1:30600");
    }
}

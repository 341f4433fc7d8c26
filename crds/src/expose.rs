//! Where clients reach a registry.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where clients reach it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expose {
    /// The Service in front of all replicas.
    #[serde(default)]
    pub service: Service,
}

/// The Service in front of all replicas.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.nodePort) || self.type != 'ClusterIP'", "`nodePort` must not be set with `type: ClusterIP`"))]
pub struct Service {
    /// `ClusterIP`, which pods and nodes of the cluster reach; `NodePort`, a port of every node; `LoadBalancer`, an address of
    /// the cloud's load balancer.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,

    /// The port of every node. Without it, the cluster chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,

    /// Annotations of the Service, for load balancers that are set up by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// A kind of Service.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// An address inside of the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// A port of every node.
    NodePort,
    /// An address of the cloud's load balancer.
    LoadBalancer,
}

//! Replicas without a vote.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Replicas without a vote, which serve like the others: for more pulls than the voters can bear. They have no volume, and any
/// number of them may come and go at any time.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frontends {
    /// How many there are. `kubectl scale` and autoscalers change this one.
    #[serde(default)]
    #[schemars(range(min = 0, max = 64))]
    pub replicas: i32,
}

/// What there is of them.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendsStatus {
    /// Their pods.
    #[serde(default)]
    pub replicas: i32,
    /// Those of them that serve.
    #[serde(default)]
    pub ready_replicas: i32,
    /// The labels by which autoscalers find them.
    #[schemars(length(max = 512))]
    pub selector: String,
}

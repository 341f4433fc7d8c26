//! What the operator says of a registry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BackupStatus, FrontendsStatus, MirrorStatus, TopologyStatus, UpstreamStatus};

/// What is so.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The generation of the resource that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: clients are served. `Progressing`: something is being changed. `QuorumHealthy`: enough voters agree.
    /// `Paused`: nothing is changed. `BackedUp`: what is acknowledged is in the bucket. `UpstreamInSync`, of a mirror: it shows what home has. `MirrorsJoined`, of a home: each of
    /// its mirrors can follow it. `TopologyAsDeclared`: this region is what `topology` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Pods of replicas.
    #[serde(default)]
    pub replicas: i32,

    /// Those of them that serve.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Replicas without a vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontends: Option<FrontendsStatus>,

    /// The image that replicas run unless the spec names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,

    /// The release that runs, as the replicas say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,

    /// Where pods and nodes reach it: what an image's name begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub endpoint: Option<String>,

    /// With `expose.service.type: NodePort`, where others reach it: the port of the Service on nodes that replicas run on. All other
    /// nodes have it, too; the certificate is for these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub node_endpoints: Vec<String>,

    /// The ConfigMap whose `ca.crt` clients trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<ObjectRef>,

    /// The Secret whose `username` and `password` may push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_secret_ref: Option<ObjectRef>,

    /// The replicas' agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consensus: Option<Consensus>,

    /// The newest snapshot that is in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,

    /// Of a mirror: what is seen of its home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamStatus>,

    /// Of a home: what is seen of its mirrors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub mirrors: Vec<MirrorStatus>,

    /// What this region is, where `topology` is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<TopologyStatus>,
}

/// An object of the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// The replicas' agreement.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consensus {
    /// The cluster's id, for ever.
    #[serde(rename = "clusterID")]
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("oldSelf == '' || self == oldSelf", "`clusterID` must not change"))]
    pub cluster_id: String,

    /// The pod that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub leader: Option<String>,

    /// How many voters the leader hears, of how many, such as `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub voters: Option<String>,

    /// How far the slowest voter is behind: `0` for less than a thousand entries, else `1000+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub lag: Option<String>,

    /// Everybody who takes part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["nodeID".into()]))]
    pub members: Vec<Member>,
}

/// Somebody who takes part.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its number in the cluster, which nobody else ever gets.
    #[serde(rename = "nodeID")]
    #[schemars(length(max = 20))]
    pub node_id: String,
    /// Its pod.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Whether its acknowledgement counts.
    pub role: Role,
}

/// Whether a member's acknowledgement counts.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It does.
    Voter,
    /// It follows without a vote.
    Learner,
}

//! Registries of other regions: whose mirror one is, and which mirrors it has.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Backup, Expose, SecretRef, Storage, Toleration};

/// The registry that this one is a mirror of.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// Where this cluster reaches that registry: an https URL without a path. Without it, the `endpoint` of the join Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 320), regex(pattern = r"^https://[a-zA-Z0-9.:\[\]-]+/?$"))]
    #[x_kube(validation = ("isURL(self)", "`endpoint` must be a URL such as https://registry.example.com:5000"))]
    pub endpoint: Option<String>,

    /// The join Secret that home has minted for this mirror, brought here: `token`, and beside it `endpoint`, `ca.crt`,
    /// `cluster` and `htpasswd`, with which the logins of home are good here. A renewed token or CA is used without a restart.
    pub credentials_secret_ref: SecretRef,

    /// A ConfigMap whose `ca.crt` is trusted for that registry, in the place of the join Secret's. Without either, the
    /// authorities that the image's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<ConfigMapRef>,

    /// The most bytes of blobs a second that are taken from there, such as `50Mi`. Pulls that wait for something go before
    /// what is copied ahead. Without it, as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[1-9][0-9]{0,8}(Ki|Mi|Gi)$"))]
    pub rate: Option<String>,

    /// Copies only what one of these names, with its signatures: REPOSITORY or REPOSITORY:TAG, where `*` stands for any text
    /// without a slash and `**` for any text. All else is pulled from there each time. Without any, everything is copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 400), regex(pattern = r"^[A-Za-z0-9._*/-]+(:[A-Za-z0-9._*-]+)?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub filters: Vec<String>,

    /// Of an index, copies only the images for these, such as `linux/amd64`. Without any, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 3, max = 98), regex(pattern = r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub platforms: Vec<String>,

    /// When blobs above 8 MiB are copied ahead, in UTC, such as `mon-fri 20:00-06:30` or `22:00-06:00`. Without any, at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 11, max = 19),
            regex(
                pattern = r"^((mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))? )?[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub windows: Vec<String>,
}

/// A ConfigMap of the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A mirror of this registry: one that is kept in this cluster, or one of another cluster that is let in.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.remote || has(self.storage)", "`storage` must be set: a mirror has a bucket, or a prefix, of its own"))]
#[x_kube(validation = ("!self.remote || !(has(self.storage) || has(self.placement) || has(self.expose) || has(self.replicas) || has(self.backup))", "`storage`, `placement`, `expose`, `replicas` and `backup` must not be set with `remote: true`: the other cluster's Registry says them"))]
pub struct Mirror {
    /// What it is called. With this registry's name before it, the name of its own Registry.
    #[schemars(length(min = 1, max = 38), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = ("!(self in ['beginning', 'ca', 'frontend', 'frontends', 'join', 'peer', 'peers', 'push', 'serving']) && !self.startsWith('join-')", "`name` must not be one that objects of the registry itself have: beginning, ca, frontend, frontends, join, peer, peers, push, serving"))]
    pub name: String,

    /// Its region. Without it, its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub region: Option<String>,

    /// Whether it is in another cluster. Then only the join Secret NAME-join-MIRROR is made here, for somebody to carry it
    /// there.
    #[serde(default)]
    pub remote: bool,

    /// Where the mirror reaches this registry: an https URL without a path, whose host gets into the certificate. Without it:
    /// the Service for a mirror of this cluster, the load balancer for one of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 320), regex(pattern = r"^https://[a-zA-Z0-9.:\[\]-]+/?$"))]
    #[x_kube(validation = ("isURL(self)", "`homeEndpoint` must be a URL such as https://registry.example.com:5000"))]
    pub home_endpoint: Option<String>,

    /// How many of its replicas have a vote: 1, 3, 5 or 7. Without it, as many as here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = ("self in [1, 3, 5, 7]", "`replicas` must be 1, 3, 5 or 7: an even number survives no more losses than one less"))]
    pub replicas: Option<i32>,

    /// Where it has its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// Where its pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,

    /// Where clients reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose: Option<Expose>,

    /// How often all of it is written to its own bucket, and how far back a restore of it can go. That of this registry is not
    /// taken over, since what a mirror has comes from here: without it, each day, and a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

/// Which nodes pods may run on.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Labels of the nodes that they may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that they may run on nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
}

/// What is seen of the registry that this one is a mirror of.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// Where it is.
    #[schemars(length(max = 320))]
    pub endpoint: String,

    /// How old what is shown is at most: `<5s`, `<30s`, `<2m`, `<10m`, `<1h`, `1h+`, or `unknown` before home was heard of. It
    /// is said anew only when it is clearly another one; the metric of the replicas is exact.
    #[schemars(length(max = 16))]
    pub lag: String,

    /// `InSync`, `CatchingUp`, `Comparing` with home anew, `HomeAway`, or `Blocked` until somebody sees to it.
    #[schemars(length(max = 16))]
    pub phase: String,
}

/// What is seen of a mirror.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorStatus {
    /// Of the entry in the spec.
    #[schemars(length(max = 38))]
    pub name: String,

    /// `Waiting` for what the message of `MirrorsJoined` says, `Minted` once the join Secret of a mirror of another cluster is
    /// there, and then what the mirror's own Registry says.
    #[schemars(length(max = 16))]
    pub phase: String,

    /// The join Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub join_secret: Option<String>,

    /// How far it is behind, as its own Registry says. That of another cluster is told there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub lag: Option<String>,

    /// Where its own cluster's nodes reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub endpoint: Option<String>,

    /// When it was last in contact, if it is not now: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub last_seen: Option<String>,
}

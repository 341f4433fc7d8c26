//! One registry.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Backup, Bootstrap, Expose, Frontends, MetadataVolume, Mirror, PodOverlay, RegistryStatus, Resources, SecretRef,
    Storage, Tls, Topology, Upstream,
};

/// An OCI registry: replicas that agree by Raft on what it holds, over a bucket that has the bytes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "Registry",
    plural = "registries",
    shortname = "reg",
    namespaced,
    status = "RegistryStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.frontends.replicas",
        status_replicas_path = ".status.frontends.replicas",
        label_selector_path = ".status.frontends.selector"
    ),
    doc = "An OCI registry: replicas that agree by Raft on what it holds, over a bucket that has the bytes.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40")
        .message("`metadata.name` must be a DNS label of at most 40 characters that begins with a letter"),
    validation = Rule::new("!has(self.spec.mirrors) || self.spec.mirrors.all(mirror, size(self.metadata.name) + size(mirror.name) < 40)")
        .message("`mirrors[].name` and `metadata.name` must have at most 39 characters together: both make the mirror's name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Voters", type_ = "string", json_path = ".status.consensus.voters"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.consensus.leader"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.upstream.lag"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.upstream) == has(oldSelf.upstream) || has(self.topology)", "`upstream` must not be set or taken away later, unless `topology` says which region is home: what is a mirror's is its home's"))]
#[x_kube(validation = ("has(self.topology) || !has(oldSelf.topology)", "`topology` must not be taken away: its `epoch` keeps a file of before from moving home"))]
#[x_kube(validation = ("!has(self.topology) || has(self.region)", "`region` must be set with `topology`"))]
#[x_kube(validation = ("!has(self.upstream) || has(self.region)", "`region` must be set with `upstream`"))]
#[x_kube(validation = ("!has(self.upstream) || !has(self.mirrors) || size(self.mirrors) == 0", "`mirrors` must not be set with `upstream`: they are declared at home"))]
#[x_kube(validation = ("!has(self.mirrors) || size(self.mirrors) == 0 || self.tls.provider != 'Disabled'", "`mirrors` must not be set with `tls.provider: Disabled`: their tokens would travel unprotected"))]
#[x_kube(validation = ("!has(self.mirrors) || self.mirrors.all(mirror, !has(mirror.storage) || mirror.storage.s3.bucket != self.storage.s3.bucket || mirror.storage.s3.prefix != self.storage.s3.prefix || (has(mirror.storage.s3.endpoint) ? mirror.storage.s3.endpoint : '') != (has(self.storage.s3.endpoint) ? self.storage.s3.endpoint : ''))", "`mirrors[].storage` must be another bucket or prefix than `storage`"))]
#[x_kube(validation = ("has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)", "`bootstrap` must not change: a registry begins once"))]
pub struct RegistrySpec {
    /// How many replicas have a vote: 1, 3, 5 or 7. Of 3, one may be lost at any time and nothing is; of 5, two.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = ("self in [1, 3, 5, 7]", "`replicas` must be 1, 3, 5 or 7: an even number survives no more losses than one less"))]
    pub replicas: i32,

    /// Replicas without a vote, beside those.
    #[serde(default)]
    pub frontends: Frontends,

    /// The image that the replicas run. Without it, the one that the operator brought when it first saw this registry: an
    /// upgrade of the operator restarts no replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$"))]
    pub image: Option<String>,

    /// Secrets of this namespace, of type `kubernetes.io/dockerconfigjson`, with which `image` is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretRef>,

    /// Where the bytes of blobs and manifests are.
    pub storage: Storage,

    /// The volume of each replica, for its log and its state.
    #[serde(default)]
    pub metadata_volume: MetadataVolume,

    /// What it begins with, when there are no volumes yet: nothing, or what is in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,

    /// How often all of it is written to the bucket, and how far back a restore can go. Without it, each day, and a day. Mirrors
    /// have one of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,

    /// How clients reach it: HTTPS with a certificate of the operator's making unless said otherwise.
    #[serde(default)]
    pub tls: Tls,

    /// Who may do what.
    #[serde(default)]
    pub auth: Auth,

    /// Where clients reach it.
    #[serde(default)]
    pub expose: Expose,

    /// What each replica asks of its node, and gets at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// What is added to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOverlay>,

    /// Whether the operator leaves everything as it is. The status goes on telling what is so.
    #[serde(default)]
    pub paused: bool,

    /// What this registry's region is called: a DNS label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub region: Option<String>,

    /// The registry that this one is a mirror of: what is pushed there can be pulled here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,

    /// Mirrors of this registry. For each one in this cluster, a Registry is made that neither goes with this one nor with
    /// its entry: what a region has is deleted by deleting its own Registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub mirrors: Vec<Mirror>,

    /// Which of the regions is home, the same in each region's Registry. Without it, home is where there is no `upstream`, until
    /// somebody promotes a mirror by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,

    /// What becomes of volumes, the CA and credentials when this resource is deleted. With `Retain`, another one of the
    /// same name takes them up again. The bucket's content stays in any case.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn three() -> i32 {
    3
}

/// Who may do what.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// What is allowed without a password: `None`, or to `Pull` everything. Pushing always takes the credential that the
    /// status names.
    #[serde(default)]
    pub anonymous: Anonymous,
}

/// What is allowed without a password.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anonymous {
    /// Nothing.
    #[default]
    None,
    /// To pull everything.
    Pull,
}

/// What becomes of what a registry had.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted with the resource.
    Delete,
}

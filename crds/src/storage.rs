//! Where a registry keeps what it has.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::SecretRef;

/// Where the bytes of blobs and manifests are.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// A bucket of Amazon S3 or of any server that speaks its protocol.
    pub s3: S3,
}

/// A bucket.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// The bucket's name. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    #[x_kube(validation = ("self == oldSelf", "`bucket` must not change: the registry's content is there"))]
    pub bucket: String,

    /// What all keys begin with. Two registries must not share a bucket and prefix; the second one is refused.
    #[serde(default)]
    #[schemars(length(max = 256), regex(pattern = r"^([a-zA-Z0-9][a-zA-Z0-9._/-]*)?$"))]
    #[x_kube(validation = ("self == oldSelf", "`prefix` must not change: the registry's content is there"))]
    pub prefix: String,

    /// The bucket's region.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z0-9-]+$"))]
    pub region: String,

    /// The S3 server, if it is not Amazon's: a URL with `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^\s]+$"))]
    #[x_kube(validation = (r"isURL(self) && self.matches('^https?://([a-zA-Z0-9._-]+|[[][0-9a-fA-F:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6([0-4][0-9]{3}|5([0-4][0-9]{2}|5([0-2][0-9]|3[0-5])))))?(/[a-zA-Z0-9._~/-]*)?$')", "`endpoint` must be a URL such as https://minio.example.com:9000"))]
    pub endpoint: Option<String>,

    /// Whether the bucket is named in the path rather than in the host name, as most servers other than Amazon's want it.
    /// Without it: for every `endpoint` but Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,

    /// A Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. When it changes, the replicas are restarted one after the
    /// other. Without it, the replicas find credentials as every AWS tool does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// The volume of each replica.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.storageClassName) == has(oldSelf.storageClassName)", "`storageClassName` must not be set or taken away later"))]
pub struct MetadataVolume {
    /// How large it is. It can grow, if its storage class lets volumes grow.
    #[serde(default = "ten_gibibytes")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[1-9][0-9]*(Mi|Gi|Ti|M|G|T)$"))]
    #[x_kube(validation = ("quantity(self).compareTo(quantity('512Mi')) >= 0", "`size` must be at least 512Mi"))]
    #[x_kube(validation = ("quantity(self).compareTo(quantity(oldSelf)) >= 0", "`size` must not shrink"))]
    pub size: String,

    /// The storage class. Without it, the cluster's default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    #[x_kube(validation = ("self == oldSelf", "`storageClassName` must not change"))]
    pub storage_class_name: Option<String>,
}

impl Default for MetadataVolume {
    fn default() -> Self {
        Self { size: ten_gibibytes(), storage_class_name: None }
    }
}

fn ten_gibibytes() -> String {
    "10Gi".to_owned()
}

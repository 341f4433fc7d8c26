//! What a registry begins with.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What a registry begins with.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// With what another registry has left in the bucket and prefix, which becomes this one's. Without it, with nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// What is taken of the backup in the bucket: everything, unless it says until when.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.sequence) || !has(self.time)", "`sequence` must not be set together with `time`"))]
pub struct Restore {
    /// The history that is taken, of those that `roadstead backup list` shows. Without it, the one that went on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36), regex(pattern = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    pub history: Option<String>,

    /// The last change that is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub sequence: Option<i64>,

    /// The moment until which changes are taken, such as `2026-07-01T12:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z$")
    )]
    pub time: Option<String>,
}

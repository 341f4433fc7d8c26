//! How a registry is backed up.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The backup in the registry's own bucket and prefix: every change is there within a second in any case, and a new Registry
/// with `bootstrap.restore` begins with it. A change of this restarts the replicas one after the other.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("duration(self.interval) <= duration(self.retention)", "`interval` must not be longer than `retention`"))]
pub struct Backup {
    /// How often a snapshot of all facts is written at least, if anything has changed, such as `30m` or `6h`: a restore reads
    /// the newest one, and every change since.
    #[serde(default = "a_day")]
    #[schemars(length(min = 2, max = 6), regex(pattern = r"^[1-9][0-9]*[mh]$"))]
    pub interval: String,

    /// How far back a restore can go, such as `168h`. The bytes of what is deleted stay in the bucket as long.
    #[serde(default = "a_day")]
    #[schemars(length(min = 2, max = 6), regex(pattern = r"^[1-9][0-9]*[mh]$"))]
    #[x_kube(validation = ("duration(self) <= duration('87600h')", "`retention` must be at most 87600h, which are ten years"))]
    pub retention: String,
}

fn a_day() -> String {
    "24h".to_owned()
}

/// How far the backup is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// The newest change that is in the newest snapshot: what `bootstrap.restore.sequence` takes.
    pub sequence: i64,

    /// When that was, such as `2026-07-01T12:00:00.000Z`.
    #[schemars(length(max = 32))]
    pub time: String,

    /// Where it is, below the bucket's prefix.
    #[schemars(length(max = 256))]
    pub key: String,
}

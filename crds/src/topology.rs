//! Which of the regions is home.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Which of the regions is home: the same in the Registry of each region. A change of `primary` is a promotion.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.epoch >= oldSelf.epoch", "`epoch` must not fall: home has moved since this was written; say where it is now, or raise `epoch` to move it again"))]
#[x_kube(validation = ("self.primary == oldSelf.primary || self.epoch > oldSelf.epoch", "`epoch` must be raised with each change of `primary`"))]
pub struct Topology {
    /// The region that is home, by its `region`: what is pushed anywhere is decided there.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub primary: String,

    /// Counts the changes of `primary`, and is raised with each: so a file of before, applied again, moves nothing.
    #[serde(default = "first")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epoch: i64,

    /// The `epoch` that may begin without a handover, where home does not answer: what it has acknowledged and `primary` does
    /// not have is lost there then. The condition `TopologyAsDeclared` says how much that is. Another epoch needs it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub force: Option<i64>,
}

fn first() -> i64 {
    1
}

/// What a region is among others.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopologyStatus {
    /// `Home`, `Mirror`, or `Fenced`: it was home, and takes nothing since it knows of another one.
    #[schemars(length(max = 16))]
    pub standing: String,

    /// The newest epoch that it knows of.
    pub epoch: i64,

    /// Changes that it had acknowledged as home and that its successor does not have: `roadstead aside` lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_aside: Option<i64>,
}

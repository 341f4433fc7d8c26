//! Operations on the cluster's own members.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Level, VolumeId};

/// Gives a volume its node id: the one that it has, or one that was never given to any. Asking twice is asking once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateNode {
    /// The volume.
    pub volume: VolumeId,
}

/// Says which volume the node has that began the cluster, for which nobody allocated an id. It says so at each start, and
/// is heard once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameFirstVolume {
    /// The volume.
    pub volume: VolumeId,
}

/// Says what a node's build reads. The level in force rises with it, if all members read more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceLevel {
    /// The node.
    pub node: u64,
    /// What its build reads.
    pub reads: Level,
    /// Who is in the cluster, as the leader that proposes it knows.
    pub members: BTreeSet<u64>,
}

/// Why [`AnnounceLevel`] was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AnnounceLevelRefused {
    /// The cluster uses more already.
    #[error("level {0} is in force")]
    ReadsLess(Level),
}

//! Operations on the cluster's own members.

use serde::{Deserialize, Serialize};

use crate::VolumeId;

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

//! What can be done, and what can be waited for.

use std::fmt;

use uuid::Uuid;

use super::Begun;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// This is to be done, and nothing else.
    Do(Step),
    /// The world is on its way, or somebody has to help.
    Wait(Wait),
    /// All is as it should be.
    Done,
}

/// One thing that is done, in one request. Doing it again does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Makes the StatefulSet.
    Create { replicas: u32 },
    /// Changes how many replicas the StatefulSet has.
    Resize { replicas: u32 },
    /// Notes where the cluster begins, if nothing is noted: under a new id, unless it is there already.
    Note { volume: Uuid, cluster: Option<Uuid> },
    /// Lets a blank replica begin the cluster.
    Begin { ordinal: u32, begun: Begun },
    /// Gives a learner a vote.
    Promote { node: u64 },
    /// Puts a learner in the place of a voter that is lost for good.
    Replace { lost: u64, by: u64 },
    /// Takes a node out of the cluster.
    Remove { node: u64 },
    /// Lets another voter lead.
    HandOver { from: u64, to: u64 },
    /// Evicts a pod, so that it starts with the inputs of now.
    Evict { ordinal: u32 },
    /// Deletes a pod whose process does not run, so that it starts with the inputs of now.
    Delete { ordinal: u32 },
    /// Deletes a pod with its volume, which is of no use any more, so that a blank one takes its place.
    Reset { ordinal: u32 },
    /// Deletes the volume of a replica that is no more.
    DeleteVolume { ordinal: u32 },
}

impl Step {
    /// The reason in Events and conditions.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Create { .. } => "CreatingReplicas",
            Self::Resize { .. } => "Scaling",
            Self::Note { .. } | Self::Begin { .. } => "BeginningCluster",
            Self::Promote { .. } => "AddingVoter",
            Self::Replace { .. } | Self::Reset { .. } => "ReplacingVoter",
            Self::Remove { .. } => "RemovingMember",
            Self::HandOver { .. } => "HandingOver",
            Self::Evict { .. } | Self::Delete { .. } => "Rolling",
            Self::DeleteVolume { .. } => "DeletingVolume",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { replicas } => write!(f, "makes {replicas} replicas"),
            Self::Resize { replicas } => write!(f, "scales to {replicas} replicas"),
            Self::Note { .. } => write!(f, "notes where the cluster begins"),
            Self::Begin { ordinal, begun } => write!(f, "begins cluster {} on replica {ordinal}", begun.cluster),
            Self::Promote { node } => write!(f, "gives node {node} a vote"),
            Self::Replace { lost, by } => write!(f, "puts node {by} in the place of node {lost}, whose volume is lost"),
            Self::Remove { node } => write!(f, "takes node {node} out of the cluster"),
            Self::HandOver { from, to } => write!(f, "lets node {to} lead instead of node {from}"),
            Self::Evict { ordinal } => write!(f, "restarts replica {ordinal} with what is wanted now"),
            Self::Delete { ordinal } => {
                write!(f, "starts replica {ordinal}, which does not run, with what is wanted now")
            }
            Self::Reset { ordinal } => {
                write!(f, "gives replica {ordinal} a new volume, since its own is of no use any more")
            }
            Self::DeleteVolume { ordinal } => write!(f, "deletes the volume of replica {ordinal}, which is no more"),
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A pod that is not there, does not answer, or does not serve yet.
    Pod(u32),
    /// Pods to be made or to end.
    Voters,
    /// A leader.
    Leader,
    /// A voter that the leader does not hear.
    Contact { node: u64 },
    /// A learner that has not caught up.
    CatchUp { node: u64 },
    /// A voter that could lead instead.
    Successor,
    /// The volume on which the cluster began is gone, and nobody else has its facts.
    BeginningLost,
    /// The volumes are of different clusters.
    SeveralClusters,
}

impl Wait {
    /// The reason in conditions.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Pod(_) | Self::Voters => "WaitingForReplica",
            Self::Leader => "NoLeader",
            Self::Contact { .. } => "VoterOutOfContact",
            Self::CatchUp { .. } => "CatchingUp",
            Self::Successor => "NoSuccessor",
            Self::BeginningLost => "VolumesLost",
            Self::SeveralClusters => "SeveralClusters",
        }
    }

    /// Whether it ends by itself.
    pub(crate) const fn needs_help(self) -> bool {
        matches!(self, Self::BeginningLost | Self::SeveralClusters)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(ordinal) => write!(f, "replica {ordinal} is not ready"),
            Self::Voters => write!(f, "replicas come or go"),
            Self::Leader => write!(
                f,
                "no leader answers: an election is under way, or most voters are lost. If they are lost for good with their \
                 volumes, read `roadstead recover --help`"
            ),
            Self::Contact { node } => {
                write!(f, "the leader does not hear node {node}, and a change would put the quorum at risk")
            }
            Self::CatchUp { node } => write!(f, "node {node} catches up"),
            Self::Successor => write!(f, "no other voter could lead"),
            Self::BeginningLost => write!(
                f,
                "the volume on which the cluster began is gone and no other one has its facts. Restore them with \
                 `roadstead restore`; or, if nothing was ever pushed, delete the ConfigMap that notes the beginning"
            ),
            Self::SeveralClusters => write!(
                f,
                "the volumes are of different clusters: delete the pods and volumes of those that are not wanted"
            ),
        }
    }
}

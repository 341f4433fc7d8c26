//! Which region is home, and the change of that: promotion of a mirror, fencing of the home that was.
//!
//! ```text
//!  home of epoch n --FenceRegion{n + 1, the mirror}--> fenced: no client's change is taken any more, the feed stands still
//!  mirror          --PromoteRegion{n + 1, itself}----> home of epoch n + 1: its feed goes on in an epoch of its own
//!
//!  handed over:  home --Begins--> fenced, for the mirror to catch up --Ends--> for good, then the mirror is promoted
//!                                   '--TakenBack--> home of epoch n + 2: the mirror cannot end it any more
//! ```
//!
//! Epochs are ordered, and a region that has learnt of a higher one than its own never takes changes under its own again.
//! So two regions may both believe to be home for as long as neither has heard of the other, and no longer.

use serde::{Deserialize, Serialize};

use crate::{ClusterId, LogTime, Position};

/// The reign of one home: a promotion begins the next. Ordered by number, then by cluster, so that of two mirrors that
/// were promoted without knowing of each other one is the later everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RegionEpoch {
    /// Counts promotions, from 1: the first home's.
    pub number: u64,
    /// The cluster that is home.
    pub home: ClusterId,
}

impl RegionEpoch {
    /// That of a home that never was a mirror.
    pub const fn first(home: ClusterId) -> Self {
        Self { number: 1, home }
    }

    /// The one that begins when `home` is promoted.
    #[must_use]
    pub const fn next(self, home: ClusterId) -> Self {
        Self { number: self.number + 1, home }
    }
}

/// Tells a region of a higher epoch. A home takes no client's change from then on; a mirror follows nobody lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRegion {
    /// The epoch, whose home another cluster is or will be.
    pub by: RegionEpoch,
    /// The first home of that line of epochs: others are not compared with it.
    pub origin: ClusterId,
    /// The cluster that is told.
    pub own: ClusterId,
}

/// What a region that is fenced, or knows of the epoch now, answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// The newest change of its own feed: of a home, the last one that it has acknowledged.
    pub last: Position,
}

/// Why [`FenceRegion`], or a client's change at a fenced home, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FenceRegionRefused {
    /// Of a client's change: another region is home.
    #[error("the region is fenced: cluster {:032x} is home in epoch {}", .by.home.0, .by.number)]
    IsFenced {
        /// The epoch that it knows of.
        by: RegionEpoch,
    },
    /// It is no higher than what is known.
    #[error("epoch {} of cluster {:032x} is known already", .known.number, .known.home.0)]
    NotHigher {
        /// What is known.
        known: RegionEpoch,
    },
    /// It is of another line of epochs.
    #[error("it belongs to the line of epochs that cluster {:032x} began", .origin.0)]
    OtherOrigin {
        /// The first home of this one's.
        origin: ClusterId,
    },
    /// There is no handover that could be taken back.
    #[error("there is no handover that could be taken back")]
    NotHandingOver,
}

/// A step of a handover, at the home that hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOverRegion {
    /// The epoch that begins, whose home the mirror will be.
    pub to: RegionEpoch,
    /// The first home of that line of epochs.
    pub origin: ClusterId,
    /// The cluster that hands over.
    pub own: ClusterId,
    /// Which step.
    pub step: HandoverStep,
}

/// The steps of a handover. Each may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandoverStep {
    /// Home takes no client's change any more, so that the mirror can catch up.
    Begins,
    /// The mirror has all that home has, and becomes home: from then on nothing is taken back. A mirror is promoted by a
    /// handover only after this was acknowledged.
    Ends,
    /// Home goes on as the home of the epoch after that: it has not ended, and never will.
    TakenBack,
}

/// Makes a mirror the home of an epoch, or a fenced home the home of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromoteRegion {
    /// The epoch, whose home this cluster becomes.
    pub epoch: RegionEpoch,
    /// Of a handover, the last change of the home that was: all of it must be published here.
    pub handed_over: Option<Position>,
}

/// How a region became home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// When, by its own log.
    pub at: LogTime,
    /// The cluster that was home before.
    pub from: ClusterId,
    /// The last change of that one's feed up to which all is here; before everything, if that is not known.
    pub fork: Position,
    /// How many changes had been received from it and were given up, since what they need was not here.
    pub given_up: u64,
    /// The newest change of its own feed then: those who follow it go on from there in the new epoch.
    pub before: Position,
}

/// Why [`PromoteRegion`] was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PromoteRegionRefused {
    /// It is home already.
    #[error("this region is home already, in epoch {}", .epoch.number)]
    IsHome {
        /// Its epoch.
        epoch: RegionEpoch,
    },
    /// A higher epoch is known.
    #[error("epoch {} of cluster {:032x} is known", .known.number, .known.home.0)]
    NotHigher {
        /// What is known.
        known: RegionEpoch,
    },
    /// Not all that the former home had is here.
    #[error("the mirror has received up to {cursor:?}, and {waiting} changes and {wanted} blobs of that are not here")]
    NotLevel {
        /// Up to where it has received.
        cursor: Position,
        /// Changes that wait.
        waiting: u64,
        /// Blobs that are on their way.
        wanted: u64,
    },
}

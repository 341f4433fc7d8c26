//! Bugs that are put back on purpose, to see that they are caught.
//!
//! Each comes in through a seam that the product has anyway (disk, network, bucket, clocks, randomness): no switch for them
//! is in the product, and what runs is exactly what is shipped.

use crate::world::disk::Lie;

/// What is wrong with a world.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a bug of its own, and mostly there is at most one")]
pub(crate) struct Bugs {
    /// A disk whose syncs do nothing.
    pub(crate) lie: Option<Lie>,
    /// Time that passes is read off the wall clock, so nothing keeps a jump of it out of the log.
    pub(crate) trusts_the_wall: bool,
    /// A blank volume comes back under the id of the one that was lost, and so under its node id.
    pub(crate) reuses_node_ids: bool,
    /// All replicas take each other's sessions for their own, so none of them raises the owner's epoch.
    pub(crate) never_claims: bool,
    /// Whoever repeats a completion does not look whether the first one had its effect.
    pub(crate) never_looks: bool,
    /// A leader that was cut off takes its followers' heartbeats for acknowledged.
    pub(crate) answers_for_the_absent: bool,
    /// What is proposed again is taken for something new.
    pub(crate) forgets_proposals: bool,
    /// A home that does not announce blobs, so that nothing keeps a mirror from showing what it has not got.
    pub(crate) announces_no_blobs: bool,
    /// A mirror that applies the deletion of a tag after pushes to it that are newer.
    pub(crate) hears_deletions_late: bool,
    /// A mirror that takes for applied what it was once told, also if it died before that was durable.
    pub(crate) hands_over_once: bool,
}

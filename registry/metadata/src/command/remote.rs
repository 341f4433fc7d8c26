//! What mirrors say of how far they are, where pushes wait for that.

use serde::{Deserialize, Serialize};

use crate::Position;

/// Notes how far a mirror is: all of it is durable there, and whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRemote {
    /// The mirror, by the name under which it was admitted.
    pub mirror: String,
    /// What it has of this region's feed.
    pub progress: RemoteProgress,
}

/// How far a mirror is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteProgress {
    /// The last change that it has received.
    pub received: Position,
    /// Those before it that wait for what they need, in order.
    pub waiting: Vec<u64>,
}

impl RemoteProgress {
    /// Changes that are named as waiting at most; a mirror with more of them says that it has received less.
    pub const MAX_WAITING: usize = 100;

    /// Whether a change is published there.
    pub fn has(&self, position: Position) -> bool {
        self.received.epoch == position.epoch
            && self.received.sequence >= position.sequence
            && self.waiting.binary_search(&position.sequence).is_err()
    }

    /// Whether all changes up to one are published there.
    pub fn has_all_up_to(&self, position: Position) -> bool {
        self.has(position) && self.waiting.first().is_none_or(|first| *first > position.sequence)
    }
}

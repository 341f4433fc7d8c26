//! What a home acknowledged after the histories parted, and its successor does not have.
//!
//! ```text
//!  fenced home: changes behind the fork --KeepAside--> kept aside: never served, its content never collected
//!  then it may mirror the new home; what is kept aside goes when somebody says so: DismissAside
//! ```

use serde::{Deserialize, Serialize};

use crate::Position;

/// Keeps aside what clients changed behind a place of this region's own feed, page by page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAside {
    /// The last change that the new home has.
    pub after: Position,
    /// Changes that are looked at at most.
    pub limit: u32,
}

/// What [`KeepAside`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAside {
    /// How many changes are kept aside by this entry.
    pub kept: u32,
    /// Whether there is more.
    pub more: bool,
}

/// Why [`KeepAside`] was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum KeepAsideRefused {
    /// The region is home, or a mirror already.
    #[error("the region is not fenced")]
    NotFenced,
    /// What is to be kept is older than what the feed keeps.
    #[error("the feed reaches back to {oldest:?} only")]
    Trimmed {
        /// Its oldest change.
        oldest: Position,
    },
}

/// Forgets what was kept aside, so that its content may be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DismissAside {
    /// Which change; all of them, without.
    pub position: Option<Position>,
    /// Changes that are forgotten at most.
    pub limit: u32,
}

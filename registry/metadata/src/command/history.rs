//! The name of a history: one line of facts, from the first entry of a log to its last.
//!
//! A backup is kept by the name of its history. A restore begins another one, so that what it leaves out and what comes
//! after it are never taken for each other.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::LogTime;
use crate::Position;

/// Names the history, once: by a later one the first name stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginHistory {
    /// Random.
    pub history: Uuid,
    /// That of the blob store: random too, if it has none yet.
    pub storage: Uuid,
}

/// A history of facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Its name.
    pub id: Uuid,
    /// The blob store that its facts are about, as the store's marker names it.
    pub storage: Uuid,
    /// How many histories there were of that store, this one included.
    pub incarnation: u64,
    /// What it goes on from.
    pub parent: Option<Ancestor>,
    /// When it was named or restored.
    pub begun: LogTime,
}

/// The place in another history up to which one is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// The other history.
    pub history: Uuid,
    /// How many entries of its log, from the first on.
    pub entries: u64,
    /// The newest change then, by its own count.
    pub position: Position,
}

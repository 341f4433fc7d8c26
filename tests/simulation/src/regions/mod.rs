//! Worlds of regions: a home as in the other worlds, and mirrors that follow it over ways that are far and break.
//!
//! ```text
//! clients --> home: three replicas <--feed, snapshots, blobs-- way <-- mirror m1: one replica or three <-- clients, who pull
//!                 '------------------------------------------- way <-- mirror m2: ...
//! ```
//!
//! `promises/p8_whole_or_previous.rs` and `promises/p9_ordered_history.rs` say what is checked.

mod adversary;
mod mutants;
mod run;
mod seeds;

use std::sync::Arc;

pub(crate) use self::run::puller;
use crate::run::World;
use crate::world::cluster::Cluster;

/// A home with its mirrors.
pub(crate) struct Regions {
    pub(crate) home: World,
    pub(crate) mirrors: Vec<Arc<Cluster>>,
}

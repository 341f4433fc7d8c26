//! The backup: the store alone is enough to bring a registry back.
//!
//! ```text
//!  applied entries --ship, within a second--> meta/<history>/log-<first>-<last>      what changed, in order
//!  all facts ------every so much of that----> meta/<history>/snapshot-<index>        what to begin with
//!  who may write here ----------------------> meta/marker-<incarnation>              one registry to a store
//!
//!  restore: newest snapshot before the place that is wanted, then the log up to it: exactly the facts of then
//!  recover: without any of that, every object hashed again
//! ```
//!
//! * What is shipped are the entries themselves: applying them is deterministic, so a snapshot and the entries after it
//!   are exactly the facts, at any place between them.
//! * Nothing waits in memory: what is not shipped yet is in the Raft log. If that was purged meanwhile (the store was
//!   away for long), a snapshot closes the gap.
//! * An object is deleted only when its end has been shipped and no place that a restore can go to names it.
//! * A restore begins a history of its own under the next incarnation: whoever still serves the former one finds the
//!   newer marker, and stops.

mod format;
mod inventory;
mod marker;
mod missing;
mod prune;
mod recover;
mod restore;
mod rfc3339;
mod ship;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use roadstead_metadata::{History, LogTime, Position};
use tokio::sync::watch;
use tokio::time::Instant;

use self::inventory::Inventory;
pub use self::marker::{ClaimError, claim as claim_store, newest as store_owner};
pub use self::missing::Missing;
pub use self::recover::{RecoverProgress, Recovered, recover};
pub use self::restore::{
    KeptHistory, KeptSnapshot, RestoreError, RestoreOptions, RestoreProgress, Restored, kept, restore,
};
pub use self::rfc3339::{parse_rfc3339, rfc3339};
pub use self::ship::{ShipError, Shipped};
pub use self::snapshot::SnapshotTaken;
use crate::registry::Registry;

/// A place in a history, as a backup names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The newest change.
    pub position: Position,
    /// The time of the facts.
    pub time: LogTime,
}

/// What a registry knows of its backup.
#[derive(Default)]
pub(crate) struct Backup {
    /// The history that the store's marker names, once that is known to be ours.
    owner: Mutex<Option<History>>,
    /// What the store has of it, once that has been looked at.
    inventory: Mutex<Option<Inventory>>,
    shipped: watch::Sender<Option<Shipped>>,
    /// That the data folder was set back to an earlier state: how many entries the store has, and the folder.
    set_back: Mutex<Option<(u64, u64)>>,
    /// Since when the oldest entry waits that is not shipped.
    waiting: Mutex<Option<Instant>>,
    /// Held while a snapshot is being written.
    snapshotting: tokio::sync::Mutex<()>,
    /// That the last one that was to be written was not.
    snapshot_failed: AtomicBool,
}

impl Registry {
    /// How far the backup is; `None` before the store has been looked at.
    pub fn shipped(&self) -> Option<Shipped> {
        *self.backup.shipped.borrow()
    }

    /// Whether what is applied is shipped to the store, by the replica that leads.
    pub fn backs_up(&self) -> bool {
        self.options.backup
    }

    /// How long the oldest entry has been waiting that is not in the store: nothing, where all of them are.
    pub fn backup_lag(&self) -> Duration {
        self.backup.waiting.lock().map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Says that what is applied waits for a store of which it is not known yet whose it is.
    pub fn await_store(&self) {
        self.backup.waiting.lock().get_or_insert_with(Instant::now);
    }

    /// Looks at the store anew before anything is shipped: another replica may have, meanwhile.
    pub fn forget_shipped(&self) {
        *self.backup.inventory.lock() = None;
        *self.backup.waiting.lock() = None;
        self.backup.shipped.send_replace(None);
    }

    /// Whether the store's marker was found to name this registry's history.
    pub fn owns_store(&self) -> bool {
        self.backup.owner.lock().is_some()
    }
}

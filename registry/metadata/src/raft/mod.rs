//! The Raft group that agrees on the log. This folder alone names openraft.
//!
//! ```text
//!   Group::write --> openraft core --append--> Log (segments on disk, one writer thread, fsync per group of writes)
//!        ^                 |  committed                                                           |
//!        |                 v                                                                 purged up to a
//!        '--- outcome -- Machine --one transaction per batch--> State (redb) --checkpoint--------'
//! ```
//!
//! * An entry is on disk, fsynced, before it counts towards its quorum.
//! * The state is checkpointed every so many entries; the log is purged only behind a checkpoint.

mod answer;
mod beginning;
mod config;
mod entries;
mod group;
mod index;
mod leader;
mod level;
mod log;
mod machine;
mod members;
mod messages;
mod open;
mod peers;
mod plan;
mod proposal_rounds;
mod read_rounds;
pub(crate) mod rebuild;
mod receive_snapshot;
mod records;
mod rests;
mod segment;
mod send_snapshot;
mod survivor;
mod writer;

pub use beginning::{BeginRefusal, Beginning};
pub use entries::{EntriesError, LogEntry};
pub(crate) use group::Group;
pub(crate) use machine::applied_id;
pub use members::{AnnounceError, Member, Members};
pub use messages::{ChangeRefusal, MemberChange};
pub use rebuild::{Rebuild, RebuildError, Until};
pub use survivor::{Holding, Survivor, SurvivorError};

#[cfg(test)]
mod catch_up;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod later_release;
#[cfg(test)]
mod suite;

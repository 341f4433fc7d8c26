//! The admin API: what somebody on this machine may ask of the running registry, over a Unix socket in its data folder,
//! and whoever has a certificate of the cluster, over the listener for replicas.
//!
//! ```text
//!  roadstead status --> client --> <data>/admin.sock --> listener (same user or root) --> api: /admin/v1/...
//!  operator -------mutual TLS, HTTP/2--> cluster/listener (the cluster's CA) -------------^
//! ```
//!
//! Paths have a version, answers are JSON: one value, or a value a line where there is progress to be told; what is not
//! done is a [`problem`] with a code. Whoever may open the socket may do everything; there is no other login. What only
//! the leader can do is passed on to it, whichever replica is asked.

mod api;
mod aside;
mod backup;
mod beginning;
mod client;
#[cfg(test)]
mod contract;
mod demotion;
mod drain;
mod leadership;
mod listener;
mod members;
mod mirrors;
mod problem;
mod region;
mod scrub;
mod snapshot;
mod socket;
mod status;
mod table;

pub(crate) use api::{Admin, router};
pub(crate) use aside::{Which as AsideWhich, run as aside, run_dismiss as dismiss_aside, run_push as push_aside};
pub(crate) use backup::{Taken, ask as backup, take as take_backup};
pub(crate) use beginning::router as beginning_router;
pub(crate) use demotion::{run as demote, run_cancel as cancel_handover};
pub(crate) use drain::run as drain;
pub(crate) use leadership::run as transfer_leadership;
pub(crate) use listener::AdminListener;
pub(crate) use members::{Change as MemberChange, change as change_member, run as members};
pub(crate) use mirrors::{dismiss_by_name as dismiss_mirror, run as mirrors, token as mirror_token};
pub(crate) use region::{PromoteArguments, run_promote as promote};
pub(crate) use scrub::{Request as ScrubRequest, run as scrub};
pub(crate) use snapshot::run as snapshot;
pub(crate) use socket::AdminSocket;
pub(crate) use status::run as status;
pub(crate) use table::bytes;

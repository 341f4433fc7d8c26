//! The admin API: what somebody on this machine may ask of the running registry, over a Unix socket in its data folder.
//!
//! ```text
//!  roadstead status --> client --> <data>/admin.sock --> listener (same user or root) --> api: /admin/v1/...
//! ```
//!
//! Paths have a version, answers are JSON: one value, or a value a line where there is progress to be told. Whoever may
//! open the socket may do everything; there is no other login.

mod api;
mod backup;
mod client;
mod listener;
mod scrub;
mod socket;
mod status;
mod table;

pub(crate) use api::{Admin, router};
pub(crate) use backup::{Taken, ask as backup, take as take_backup};
pub(crate) use listener::AdminListener;
pub(crate) use scrub::{Request as ScrubRequest, run as scrub};
pub(crate) use socket::AdminSocket;
pub(crate) use status::run as status;
pub(crate) use table::bytes;

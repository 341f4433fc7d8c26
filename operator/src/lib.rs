//! The operator of Roadstead: a Registry in, a replicated registry out.
//!
//! ```text
//! cli -> election (Lease) -> controller: dereference -> validate -> build -> apply -> observe -> plan -> act -> status
//!     '-> health: /livez, /readyz, /metrics                            replicas --admin API--^          |
//!                                                                                           ^-----------'
//! ```
//!
//! It keeps nothing to itself: killed between any two requests, the next one goes on from what is there.

mod admin;
mod ahead;
mod ambient;
mod apply;
mod build;
mod cache;
mod certificates;
mod cli;
mod controller;
mod health;
mod lease;
mod metrics;
mod plan;
mod requests;
mod rotation;
mod secrets;

pub use cli::run;

//! Keeps every Registry as it is wished.
//!
//! ```text
//!  a Registry or something of its changes, or a while has passed
//!    foresee      what is asked for in any case, all at once   (client)
//!    dereference  what its spec names: credentials            (client)
//!    validate     Wish, or a condition that says what is wrong
//!    build        the objects                                  (no client, cannot fail)
//!    apply        those that differ                            (client)
//!    observe      pods, volumes, and what replicas say         (client, admin API)
//!    errand       restoring or recovering, where people ask for it  (client)
//!    plan, act    or else one step                             (client, admin API)
//!    status       what is so, if that is something else        (client)
//! ```

mod act;
mod backup;
mod context;
mod dereference;
mod drain;
mod errand;
mod expose;
mod foresight;
mod frontends;
mod join;
mod lag;
mod loss;
mod mirrors;
mod node_port;
mod observe;
mod reconcile;
mod regions;
mod secure;
mod status;
mod topology;
mod trouble;
mod watch;

pub(crate) use context::Context;
pub(crate) use watch::run;

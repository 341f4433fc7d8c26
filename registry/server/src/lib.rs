//! The edge of Roadstead and its wiring: settings, TLS, authentication, HTTP, metrics, tasks and the command line.
//!
//! ```text
//! cli -> settings -> boot: metadata + blob store -> Registry
//!                      |
//!                      '-> listener -> connection -> edge (id, limits, log, metrics) -> dispatch -> handlers -> Registry
//!                      '-> admin: the API for whoever is on this machine, and its client
//! ```

mod admin;
mod ambient;
mod auth;
mod backup;
mod boot;
mod cli;
mod cluster;
mod dev;
mod failure;
mod geo;
mod health;
mod http;
mod janitor;
mod logs;
mod metered_store;
mod metrics;
mod recover;
mod restore;
mod scrub;
mod serve;
mod settings;
mod tasks;
mod tls;
mod vitals;
mod watched;

pub use cli::run;

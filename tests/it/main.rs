//! Everything that needs more than one crate or a real part. One binary, so that it is linked once; each file is about
//! one thing that is promised.
//!
//! Needs the real tools (`tests/tools/install`) and the built registry (`cargo build -p roadstead-server`);
//! `make test` sees to both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on ends by saying why"
)]

mod admin;
mod auth;
mod backup;
mod bad_input;
mod blob_stores;
mod buckets;
mod charts;
mod clients;
mod cluster;
mod conformance;
mod crash;
mod dev;
mod dockerfile;
mod faults;
mod frontends;
mod geo;
mod harness;
mod ledger;
mod limits;
mod members;
mod memory;
mod operations;
mod partitions;
mod power_cut;
mod pulls;
mod recover;
mod redirects;
mod scrub;
mod structure;
mod tls;
mod upgrade;
mod uploads;

//! What is promised of the operator, shown on a real Kubernetes: `make e2e` brings one up, runs this and takes it down.
//! The tests have the numbers of the behaviours in `BEHAVIOURS.md`, and print the time that each step took.
//!
//! They run one after the other on one cluster, each with a namespace and a bucket's prefix of its own, and any of them
//! alone: `make e2e E2E=b05`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on ends by saying why, and says what it measured"
)]

mod b01_install;
mod b02_wrong_specs;
mod b03_operator_killed;
mod b04_scale;
mod b05_volume_lost;
mod b06_roll;
mod b07_drain;
mod b08_single_drains;
mod b09_operator_upgrade;
mod b10_spec_never_written;
mod b11_steady_state;
mod b12_storage_down;
mod b13_rotation;
mod b14_paused;
mod b15_uninstall;
mod b16_restore;
mod b17_quorum_lost;
mod b18_mirror_miss;
mod b19_least_rights;
mod b20_describe;
mod charts;
mod client;
mod figures;
mod frontends;
mod hundred;
mod kubeconform;
mod kubelets;
mod ledger;
mod node_mirror;
mod node_port;
mod r01_mirror;
mod r02_operator_killed;
mod r03_two_clusters;
mod r04_nearest_first;
mod r05_promotion;
mod registry;
mod simulated;
mod stopwatch;
mod wan;
mod world;

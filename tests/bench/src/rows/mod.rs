//! The rows of the report, one a file.

mod blobs;
mod bucket_bytes;
mod catalog;
mod digest_gets;
mod eager;
mod failover;
mod garbage;
mod idle;
mod join;
mod lag_gauge;
mod large_blob;
mod link_cap;
mod manifest;
mod medium_blob;
mod memory;
mod mirror_peers;
mod mirror_retag;
mod mixed;
mod pages;
mod push_filesystem;
mod push_s3;
mod push_slow_fsync;
mod read_through;
mod region_pull;
mod replication;
mod retags;
mod rows_10m;
mod second_hop;
mod small_blob;
mod storm;
mod tag_gets;
mod tags;
mod transfer;
mod wan_proxy;

use std::pin::Pin;

use anyhow::Result;

use crate::bench::Bench;
use crate::figure::Figure;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Vec<Figure>>> + 'a>>;

/// A measurement that can be asked for by its name.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The load, in a sentence or two of the report.
    pub(crate) workload: &'static str,
    pub(crate) run: for<'a> fn(&'a Bench) -> Running<'a>,
}

/// All of them, in the order of the report.
pub(crate) const ROWS: [Row; 32] = [
    manifest::ROW,
    small_blob::ROW,
    medium_blob::ROW,
    large_blob::ROW,
    mixed::ROW,
    push_filesystem::ROW,
    push_slow_fsync::ROW,
    push_s3::ROW,
    bucket_bytes::ROW,
    memory::ROW,
    storm::ROW,
    tags::ROW,
    catalog::ROW,
    retags::ROW,
    tag_gets::ROW,
    digest_gets::ROW,
    second_hop::ROW,
    transfer::ROW,
    join::ROW,
    failover::ROW,
    rows_10m::ROW,
    garbage::ROW,
    idle::ROW,
    wan_proxy::ROW,
    mirror_retag::ROW,
    replication::ROW,
    eager::ROW,
    read_through::ROW,
    region_pull::ROW,
    lag_gauge::ROW,
    link_cap::ROW,
    mirror_peers::ROW,
];

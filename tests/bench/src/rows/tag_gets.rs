use std::sync::Arc;

use super::retags::{CLIENTS, REPOSITORY, push, rounds, tag};
use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Against, Figure, Unit};
use crate::load::Request;
use crate::systems::{Cluster, Etcd, System};

pub(super) const ROW: Row = Row {
    name: "tag-gets",
    workload: "Three replicas as three processes over one folder of blobs; 64 keep-alive clients, a third at each replica, \
               that each get a manifest (1.9 KB) by one of 64 tags in turn, which each replica answers when the leader has \
               confirmed that it leads. etcd with three members, whose own benchmark reads a value of the same size, \
               linearizably, with 64 clients.",
    run,
};

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let title = "linearizable manifest GET by tag, 3 replicas, 64 clients";
        let rate = Figure::new(title, Unit::RequestsPerSecond).at_least(1.5, Against::One(System::Etcd));
        let median = Figure::new("linearizable GET, p50", Unit::Seconds);
        let tail = Figure::new("linearizable GET, p99", Unit::Seconds);
        let Some(binary) = bench.registries.own() else { return Ok(Vec::new()) };
        let cluster = Cluster::start(binary, bench.folder()).await?;
        let etcd = Etcd::start(bench.folder()).await?;
        let image = push(bench, &cluster, CLIENTS).await?;
        let length = image.manifest().len();
        etcd.make_key(length).await?;
        let get =
            |number| Request::get(&format!("/v2/{REPOSITORY}/manifests/{}", tag(number))).expecting(length as u64);
        let requests: Arc<[Request]> = (0..CLIENTS).map(get).collect();
        let bytes: Arc<[Request]> = Arc::new([Request::get(&format!("/bytes/{length}"))]);
        let theirs = || etcd.get(CLIENTS, bench.settings.duration);
        rounds(bench, [rate, median, tail], &cluster, &requests, &bytes, theirs).await
    })
}

use std::sync::Arc;

use super::retags::{CLIENTS, REPOSITORY, push, tag};
use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Against, Figure, Unit};
use crate::load::{Reading, Request, closed_loop, spread_loop};
use crate::systems::{Cluster, Etcd, Server, System};

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
        let mut rate = Figure::new(title, Unit::RequestsPerSecond).at_least(1.5, Against::One(System::Etcd));
        let mut median = Figure::new("linearizable GET, p50", Unit::Seconds);
        let mut tail = Figure::new("linearizable GET, p99", Unit::Seconds);
        let Some(binary) = bench.registries.own() else { return Ok(Vec::new()) };
        let cluster = Cluster::start(binary, bench.folder()).await?;
        let etcd = Etcd::start(bench.folder()).await?;
        let ceiling = Server::ceiling(bench.folder()).await?;
        let image = push(bench, &cluster, CLIENTS).await?;
        let length = image.manifest().len();
        etcd.make_key(length).await?;
        let get =
            |number| Request::get(&format!("/v2/{REPOSITORY}/manifests/{}", tag(number))).expecting(length as u64);
        let requests: Arc<[Request]> = (0..CLIENTS).map(get).collect();
        let bytes: Arc<[Request]> = Arc::new([Request::get(&format!("/bytes/{length}"))]);
        let duration = bench.settings.duration;
        for round in 0..bench.settings.rounds {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
            let own = spread_loop(&cluster.addresses(), Reading::Copying, &requests, CLIENTS, duration).await?;
            rate.sample(System::Roadstead, own.rate());
            median.sample(System::Roadstead, own.latency(0.5));
            tail.sample(System::Roadstead, own.latency(0.99));
            let other = etcd.get(CLIENTS, duration)?;
            rate.sample(System::Etcd, other.rate);
            median.sample(System::Etcd, other.p50);
            tail.sample(System::Etcd, other.p99);
            let most = closed_loop(ceiling.address, Reading::Copying, &bytes, CLIENTS, duration).await?;
            rate.sample(System::Ceiling, most.rate());
        }
        Ok(vec![rate, median, tail])
    })
}

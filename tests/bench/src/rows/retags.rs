use std::sync::Arc;

use anyhow::Result;

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Against, Figure, Unit};
use crate::load::{Image, Reading, Request, closed_loop, spread_loop};
use crate::systems::{Cluster, Etcd, Measured, Server, System};

pub(super) const ROW: Row = Row {
    name: "retags",
    workload: "Three replicas as three processes over one folder of blobs; 64 keep-alive clients, a third at each replica, \
               that each put a manifest that is held already (1.9 KB) under a tag of their own again and again. etcd with \
               three members, whose own benchmark puts values of the same size with 64 clients.",
    run,
};

pub(super) const CLIENTS: usize = 64;
pub(super) const REPOSITORY: &str = "bench/tagged";
pub(super) const LAYERS: [u64; 8] = [1_000; 8];

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let against = Against::One(System::Etcd);
        let rate =
            Figure::new("durable retags, 3 replicas, 64 clients", Unit::RequestsPerSecond).at_least(1.5, against);
        let median = Figure::new("durable retag, p50", Unit::Seconds);
        let tail = Figure::new("durable retag, p99", Unit::Seconds).below(0.025);
        let Some(binary) = bench.registries.own() else { return Ok(Vec::new()) };
        let cluster = Cluster::start(binary, bench.folder()).await?;
        let etcd = Etcd::start(bench.folder()).await?;
        let image = push(bench, &cluster, CLIENTS).await?;
        let put = |number| put(&image, number);
        let requests: Arc<[Request]> = (0..CLIENTS).map(put).collect();
        let theirs = || etcd.put(CLIENTS, image.manifest().len(), bench.settings.duration);
        rounds(bench, [rate, median, tail], &cluster, &requests, &requests, theirs).await
    })
}

/// Measures `requests` spread over a cluster, what etcd does likewise, and what the generator can do at most with
/// `answered`, in alternating rounds: a rate, its median latency and its p99.
pub(super) async fn rounds(
    bench: &Bench,
    [mut rate, mut median, mut tail]: [Figure; 3],
    cluster: &Cluster,
    requests: &Arc<[Request]>,
    answered: &Arc<[Request]>,
    etcd: impl Fn() -> Result<Measured>,
) -> Result<Vec<Figure>> {
    let ceiling = Server::ceiling(bench.folder()).await?;
    let duration = bench.settings.duration;
    for round in 0..bench.settings.rounds {
        say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
        let own = spread_loop(&cluster.addresses(), Reading::Copying, requests, CLIENTS, duration).await?;
        rate.sample(System::Roadstead, own.rate());
        median.sample(System::Roadstead, own.latency(0.5));
        tail.sample(System::Roadstead, own.latency(0.99));
        let other = etcd()?;
        rate.sample(System::Etcd, other.rate);
        median.sample(System::Etcd, other.p50);
        tail.sample(System::Etcd, other.p99);
        let most = closed_loop(ceiling.address, Reading::Copying, answered, CLIENTS, duration).await?;
        rate.sample(System::Ceiling, most.rate());
    }
    Ok(vec![rate, median, tail])
}

/// Pushes an image with as many tags to a cluster.
pub(super) async fn push(bench: &Bench, cluster: &Cluster, tags: usize) -> Result<Image> {
    let image = Image::new(bench.fresh_seed(), &LAYERS);
    let mut connection = crate::load::Connection::open(cluster.addresses()[0], Reading::Copying).await?;
    image.push(&mut connection, REPOSITORY, &tag(0)).await?;
    for number in 0..tags {
        connection.exchange(&put(&image, number)).await?;
    }
    Ok(image)
}

pub(super) fn put(image: &Image, number: usize) -> Request {
    let target = format!("/v2/{REPOSITORY}/manifests/{}", tag(number));
    Request::with_body("PUT", &target, Image::MEDIA_TYPE, image.manifest())
}

pub(super) fn tag(number: usize) -> String {
    format!("v{number:02}")
}

use std::time::Duration;

use tokio::time::Instant;

use super::retags::{push, put};
use super::{Row, Running, rows_10m};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Request, Steady, go_on};
use crate::systems::{Cluster, System};

pub(super) const ROW: Row = Row {
    name: "join",
    workload: "Two replicas whose facts are a million rows (490,000 tags), of which the log has the last ones only; four keep-alive clients that each put a manifest \
               that is held already under a tag of their own every 10 ms. A third replica is started on an empty folder: \
               until it has a vote, and how long the clients waited meanwhile over how long they did before.",
    run,
};

/// As [`rows_10m`] loads them, 9,800 rows each: with so many PUTs that the log does not reach back to the first ones.
const REPOSITORIES: u32 = 100;
const TAGS: rows_10m::Tags = rows_10m::Tags { puts: 700, of_one_put: 7 };
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(10);

/// The pushes before, which those meanwhile are compared with, are measured for so long.
const BEFORE: Duration = Duration::from_secs(10);

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let repositories = bench.settings.scaled(REPOSITORIES, 2);
        let mut joined = Figure::new("a new replica with 1 million rows: join to voter", Unit::Seconds).below(30.0);
        let mut before = Figure::new("push p99 before a replica joins", Unit::Seconds);
        let mut meanwhile = Figure::new("push p99 while a replica joins", Unit::Seconds);
        let mut ratio = Figure::new("push p99 while a replica joins, over that before", Unit::Ratio).below(2.0);
        let mut failed = Figure::new("failed pushes while a replica joins", Unit::Count).below(0.0);
        let Some(binary) = bench.registries.own() else { return Ok(Vec::new()) };
        // Each needs its million rows made: some rounds are enough.
        for round in 0..bench.settings.rounds.min(3) {
            say(&format!("  round {}", round + 1));
            let mut cluster = Cluster::start_some(binary, bench.folder(), 2).await?;
            rows_10m::load(cluster.addresses()[0], repositories, TAGS).await?;
            let image = push(bench, &cluster, CLIENTS).await?;
            let requests: Vec<Request> = (0..CLIENTS).map(|number| put(&image, number)).collect();
            let clients = Steady::start(&cluster.addresses(), &requests, PACE);
            go_on(BEFORE).await;
            let (usual, _) = clients.stop().await?;
            let clients = Steady::start(&cluster.addresses(), &requests, PACE);
            let started = Instant::now();
            cluster.add().await?;
            cluster.until_all_vote().await?;
            joined.sample(System::Roadstead, started.elapsed().as_secs_f64());
            let (slowed, failures) = clients.stop().await?;
            before.sample(System::Roadstead, usual.latency(0.99));
            meanwhile.sample(System::Roadstead, slowed.latency(0.99));
            ratio.sample(System::Roadstead, slowed.latency(0.99) / usual.latency(0.99));
            failed.sample(System::Roadstead, failures as f64);
        }
        Ok(vec![joined, before, meanwhile, ratio, failed])
    })
}

use std::time::Duration;

use super::retags::{push, put};
use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Request, Steady, go_on};
use crate::systems::{Cluster, System};
use anyhow::Result;

pub(super) const ROW: Row = Row {
    name: "transfer",
    workload: "Three replicas as three processes over one folder of blobs; nine keep-alive clients, three at each replica, \
               that each put a manifest that is held already under a tag of their own every 10 ms. Leadership is handed \
               over, 20 times a round: the longest that any request took, and how many failed.",
    run,
};

const CLIENTS: usize = 9;
const PACE: Duration = Duration::from_millis(10);
const TRANSFERS: u32 = 20;

/// Between two transfers, so that each is measured by itself.
const APART: Duration = Duration::from_millis(300);

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut failed = Figure::new("leadership transferred: failed requests", Unit::Count).below(0.0);
        let mut stall = Figure::new("leadership transferred: longest stall", Unit::Seconds).below(0.1);
        let mut undisturbed = Figure::new("the longest request without a transfer", Unit::Seconds);
        let Some(binary) = bench.registries.own() else { return Ok(Vec::new()) };
        let cluster = Cluster::start(binary, bench.folder()).await?;
        let image = push(bench, &cluster, CLIENTS).await?;
        let requests: Vec<Request> = (0..CLIENTS).map(|number| put(&image, number)).collect();
        for round in 0..bench.settings.rounds {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
            let clients = Steady::start(&cluster.addresses(), &requests, PACE);
            go_on(bench.settings.duration).await;
            undisturbed.sample(System::Roadstead, clients.stop().await?.0.latency(1.0));
            let clients = Steady::start(&cluster.addresses(), &requests, PACE);
            let moved = transfers(bench, &cluster).await;
            let (tally, failures) = clients.stop().await?;
            moved?;
            failed.sample(System::Roadstead, failures as f64);
            stall.sample(System::Roadstead, tally.latency(1.0));
        }
        Ok(vec![failed, stall, undisturbed])
    })
}

async fn transfers(bench: &Bench, cluster: &Cluster) -> Result<()> {
    for _ in 0..bench.settings.scaled(TRANSFERS, 2) {
        go_on(APART).await;
        cluster.transfer().await?;
    }
    Ok(())
}

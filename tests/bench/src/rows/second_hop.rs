use std::sync::Arc;

use super::retags::{push, put};
use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Reading, Request, closed_loop};
use crate::systems::{Cluster, System};

pub(super) const ROW: Row = Row {
    name: "second-hop",
    workload: "Three replicas as three processes over one folder of blobs; one keep-alive client that puts a manifest that \
               is held already (1.9 KB) under a tag again and again, at the leader and then at a replica that forwards \
               each to it: how much longer the median takes there.",
    run,
};

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut direct = Figure::new("retag at the leader, one client, p50", Unit::Seconds);
        let mut forwarded = Figure::new("retag at a follower, one client, p50", Unit::Seconds);
        let mut hop = Figure::new("the second hop of a forwarded write, p50", Unit::Seconds).below(0.002);
        let Some(binary) = bench.registries.own() else { return Ok(Vec::new()) };
        let cluster = Cluster::start(binary, bench.folder()).await?;
        let requests: Arc<[Request]> = Arc::new([put(&push(bench, &cluster, 1).await?, 0)]);
        for round in 0..bench.settings.rounds {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
            let leader = cluster.leader().await?;
            let follower = (leader + 1) % Cluster::REPLICAS;
            let mut medians = [0.0; 2];
            for (median, replica) in medians.iter_mut().zip([leader, follower]) {
                let (address, duration) = (cluster.addresses()[replica], bench.settings.duration);
                *median = closed_loop(address, Reading::Copying, &requests, 1, duration).await?.latency(0.5);
            }
            direct.sample(System::Roadstead, medians[0]);
            forwarded.sample(System::Roadstead, medians[1]);
            hop.sample(System::Roadstead, medians[1] - medians[0]);
        }
        Ok(vec![direct, forwarded, hop])
    })
}

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Against, Figure, Unit};
use crate::load::{Client, push_blob};
use crate::payload::Payload;
use crate::systems::{Server, Storage, System};

pub(super) const ROW: Row = Row {
    name: "push-filesystem",
    workload: "A layer of 100 MB that the registry has never seen, pushed to files by one client: as docker does (POST, \
               one streamed PATCH, an empty PUT) and as containerd does (POST, PUT of the whole). Each registry syncs it \
               as it does by default. Four pushes a sample; before each, what is still to be written back is written, and its pages are given up.",
    run,
};

pub(super) const LENGTH: u64 = 100_000_000;
const PUSHES: u32 = 4;
pub(super) const REPOSITORY: &str = "bench/pushed";

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut servers = Vec::new();
        for system in bench.registries.with(Storage::Filesystem) {
            servers.push(bench.registries.start(system, Storage::Filesystem).await?);
        }
        servers.push(Server::ceiling(bench.folder()).await?);
        let figure = |client| {
            let title = format!("push of a 100 MB layer, filesystem, {client}");
            Figure::new(title, Unit::Throughput).at_least(1.5, Against::BestPeer)
        };
        let (mut docker, mut containerd) = (figure("as docker"), figure("as containerd"));
        let mut work = Figure::new("push of a 100 MB layer, the server's processor time", Unit::CpuSecondsPerGigabyte);
        bench
            .alternate(bench.settings.rounds, &mut servers, async |server: &mut Server| {
                for (figure, client) in [(&mut docker, Client::Docker), (&mut containerd, Client::Containerd)] {
                    let before = server.process.cpu();
                    let took = pushes(bench, server, client, PUSHES).await?;
                    figure.sample(server.system, f64::from(PUSHES) * LENGTH as f64 / took.as_secs_f64());
                    if client == Client::Docker && server.system != System::Ceiling {
                        let used = server.process.cpu() - before;
                        work.sample(server.system, used / (f64::from(PUSHES) * LENGTH as f64 / 1e9));
                    }
                }
                Ok(())
            })
            .await?;
        Ok(vec![docker, containerd, work])
    })
}

/// How long some pushes of fresh bytes took together.
pub(super) async fn pushes(bench: &Bench, server: &Server, client: Client, count: u32) -> Result<Duration> {
    let mut connection = server.connect().await?;
    let mut took = Duration::ZERO;
    for _ in 0..count {
        let payload = Payload::new(bench.fresh_seed(), LENGTH);
        server.settle()?;
        let start = Instant::now();
        push_blob(&mut connection, REPOSITORY, &payload, client).await?;
        took += start.elapsed();
    }
    Ok(took)
}

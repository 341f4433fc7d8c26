use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, timeout};

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Spread, Unit};
use crate::load::{Connection, Image, Reading};
use crate::systems::{Cluster, System};

pub(super) const ROW: Row = Row {
    name: "failover",
    workload: "Three replicas as three processes over one folder of blobs, a heartbeat each 100 ms, a lease of 800 ms and \
               then an election timeout of 400 to 800 ms. The leader is killed with SIGKILL, 100 times; a client that \
               goes to the next replica when a connection breaks or is refused pushes an image of one layer of 1 KB: from \
               the kill to its end.",
    run,
};

const KILLS: u32 = 100;

/// How long one attempt may take: longer than the registry lets a request wait.
const ATTEMPT: Duration = Duration::from_secs(10);

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut median = Figure::new("leader killed: to the first accepted push, p50", Unit::Seconds).below(2.0);
        let mut worst = Figure::new("leader killed: to the first accepted push, worst", Unit::Seconds).below(4.0);
        let Some(binary) = bench.registries.own() else { return Ok(Vec::new()) };
        let mut cluster = Cluster::start(binary, bench.folder()).await?;
        let kills = bench.settings.scaled(KILLS, 3);
        let mut waits = Vec::new();
        for kill in 0..kills {
            cluster.until_all_vote().await?;
            let leader = cluster.leader().await?;
            let image = Image::new(bench.fresh_seed(), &[1_000]);
            cluster.kill(leader);
            let killed = Instant::now();
            push(&cluster.addresses(), leader, &image).await?;
            waits.push(killed.elapsed().as_secs_f64());
            say(&format!("  kill {} of {kills}: {:.2} s", kill + 1, killed.elapsed().as_secs_f64()));
            cluster.restart(leader).await?;
        }
        let spread = Spread::of(&waits).context("at least one kill")?;
        median.sample(System::Roadstead, spread.median);
        worst.sample(System::Roadstead, spread.most);
        worst.note(format!("Of {kills} kills; the least was {}.", Unit::Seconds.show(spread.least)));
        Ok(vec![median, worst])
    })
}

/// Pushes as soon as somebody takes it, the dead one asked first.
async fn push(replicas: &[SocketAddr], first: usize, image: &Image) -> Result<()> {
    let mut last = None;
    for address in replicas.iter().cycle().skip(first).take(10 * replicas.len()) {
        let attempt = async {
            let mut connection = Connection::open(*address, Reading::Copying).await?;
            image.push(&mut connection, "bench/failover", "latest").await
        };
        match timeout(ATTEMPT, attempt).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => last = Some(error),
            Err(elapsed) => last = Some(elapsed.into()),
        }
    }
    Err(last.context("there are replicas")?.context("no replica takes a push"))
}

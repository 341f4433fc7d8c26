use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Against, Figure, Unit};
use crate::load::{Image, Reading};
use crate::systems::{Server, Storage, System};

pub(super) const ROW: Row = Row {
    name: "storm",
    workload: "3,000 images, each with a layer of 5 MB of its own and a repository of its own, pushed as docker does by 300 \
               clients at once, without a second try. One round: it is 15 GB for each registry.",
    run,
};

const IMAGES: u32 = 3_000;
const CLIENTS: u32 = 300;
const LAYER: u64 = 5_000_000;
const MIB: f64 = 1024.0 * 1024.0;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let images = bench.settings.scaled(IMAGES, 30);
        let title = |what: &str| format!("push storm of {images} x 5 MB, {what}");
        let mut errors = Figure::new(title("failed pushes"), Unit::Count).below(0.0);
        let mut peak = Figure::new(title("peak RSS"), Unit::Bytes).below(256.0 * MIB);
        let mut wall = Figure::new(title("all of it"), Unit::Seconds).at_most(1.0, Against::BestPeer);
        let mut systems = bench.registries.with(Storage::Filesystem);
        bench
            .alternate(1, &mut systems, async |system: &mut System| {
                let server = bench.registries.start(*system, Storage::Filesystem).await?;
                rustix::fs::sync();
                let (failed, took) = storm(bench, &server, images).await?;
                errors.sample(*system, failed as f64);
                peak.sample(*system, server.process.peak_resident()? as f64);
                wall.sample(*system, took.as_secs_f64());
                Ok(())
            })
            .await?;
        Ok(vec![errors, peak, wall])
    })
}

/// Returns how many pushes failed, and how long all took.
async fn storm(bench: &Bench, server: &Server, images: u32) -> Result<(u64, Duration)> {
    let seeds: Arc<[u64]> = (0..images).map(|_| bench.fresh_seed()).collect();
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS.min(images) {
        clients.spawn(client(server.address, Arc::clone(&seeds), Arc::clone(&next)));
    }
    let (mut failed, mut first_error) = (0, None);
    while let Some(ended) = clients.join_next().await {
        let errors = ended?;
        failed += errors.len() as u64;
        first_error = first_error.or(errors.into_iter().next());
    }
    if let Some(error) = first_error {
        say(&format!("  {}: {failed} pushes failed, the first one: {error:#}", server.system.name()));
    }
    Ok((failed, start.elapsed()))
}

async fn client(address: std::net::SocketAddr, seeds: Arc<[u64]>, next: Arc<AtomicU64>) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let seed = usize::try_from(number).ok().and_then(|number| seeds.get(number));
        let Some(seed) = seed else { return errors };
        // Hashing it here costs each of the registries the same.
        let image = Image::new(*seed, &[LAYER]);
        let pushed = async {
            let mut connection = crate::load::Connection::open(address, Reading::Copying).await?;
            image.push(&mut connection, &format!("bench/storm-{number}"), "latest").await
        };
        if let Err(error) = pushed.await {
            errors.push(error);
        }
    }
}

use std::sync::Arc;
use std::time::Duration;

use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Figure, Unit};
use crate::load::{Due, Image, Operation, Request, open_loop};
use crate::payload::Noise;
use crate::systems::{Server, Storage};

pub(super) const ROW: Row = Row {
    name: "mixed",
    workload: "93 of 100 are reads: 45 % GET or HEAD of a manifest by tag, 15 % by digest, 40 % blobs; the rest pushes of \
               small images. 64 images, asked for as Zipf's law has it; 65 % of the layers are below 1 MB, 15 % up to \
               10 MB, 15 % up to 50 MB, 5 % of 100 MB (where real registries hold larger ones, they are cut to that). 40 \
               operations a second for three times the measuring time, with a rollout of 400 a second for one second.",
    run,
};

const IMAGES: usize = 64;
const CLIENTS: usize = 64;
const RATE: f64 = 40.0;
const BURST: f64 = 10.0;
const BURST_LENGTH: Duration = Duration::from_secs(1);

/// The groups whose latencies are told apart.
const MANIFESTS: usize = 0;
const SMALL_BLOBS: usize = 1;
const OTHERS: usize = 2;
const MB: u64 = 1_000_000;

struct Stored {
    repository: String,
    image: Image,
    layer: u64,
}

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut noise = Noise::new(bench.fresh_seed());
        let stored: Vec<_> = (0..IMAGES)
            .map(|number| {
                let layer = layer_length(&mut noise);
                let image = Image::new(bench.fresh_seed(), &[layer]);
                Stored { repository: format!("bench/mixed-{number}"), image, layer }
            })
            .collect();
        let mut servers = Vec::new();
        for system in bench.registries.with(Storage::Filesystem) {
            let server = bench.registries.start(system, Storage::Filesystem).await?;
            let mut connection = server.connect().await?;
            for Stored { repository, image, .. } in &stored {
                image.push(&mut connection, repository, "latest").await?;
            }
            servers.push(server);
        }
        let figure = |what: &str| Figure::new(format!("mixed load with a rollout, {what}"), Unit::Seconds);
        let mut figures = [
            figure("manifests, p50"),
            figure("manifests, p99"),
            figure("blobs below 1 MB, p50"),
            figure("blobs below 1 MB, p99"),
        ];
        bench
            .alternate(bench.settings.rounds, &mut servers, async |server: &mut Server| {
                let plan = plan(bench, &stored, &mut noise);
                rustix::fs::sync();
                let tallies = open_loop(server.address, &plan, CLIENTS, OTHERS + 1).await?;
                let quantiles = [(MANIFESTS, 0.5), (MANIFESTS, 0.99), (SMALL_BLOBS, 0.5), (SMALL_BLOBS, 0.99)];
                for (figure, (group, quantile)) in figures.iter_mut().zip(quantiles) {
                    figure.sample(server.system, tallies[group].latency(quantile));
                }
                Ok(())
            })
            .await?;
        Ok(figures.into())
    })
}

fn layer_length(noise: &mut Noise) -> u64 {
    let between = |from: u64, to: u64, fraction: f64| {
        // From `from` to `to`.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of a length")]
        let more = ((to - from) as f64 * fraction) as u64;
        from + more
    };
    let (class, within) = (noise.fraction(), noise.fraction());
    match class {
        ..0.65 => between(10_000, MB, within),
        0.65..0.8 => between(MB, 10 * MB, within),
        0.8..0.95 => between(10 * MB, 50 * MB, within),
        _ => 100 * MB,
    }
}

/// The operations of one round and when each is due.
fn plan(bench: &Bench, stored: &[Stored], noise: &mut Noise) -> Arc<[Due]> {
    let end = 3 * bench.settings.duration;
    let burst = end / 3..end / 3 + BURST_LENGTH;
    let (mut plan, mut at) = (Vec::new(), Duration::ZERO);
    while at < end {
        let (operation, group) = operation(bench, stored, noise);
        plan.push(Due { at, operation, group });
        at += Duration::from_secs_f64(1.0 / if burst.contains(&at) { BURST * RATE } else { RATE });
    }
    plan.into()
}

fn operation(bench: &Bench, stored: &[Stored], noise: &mut Noise) -> (Operation, usize) {
    if noise.fraction() < 0.07 {
        let repository = "bench/mixed-pushed".to_owned();
        return (Operation::Push { repository, seed: bench.fresh_seed(), layers: vec![MB / 2] }, OTHERS);
    }
    let Stored { repository, image, layer } = &stored[zipf(stored.len(), noise)];
    let by_tag = format!("/v2/{repository}/manifests/latest");
    match noise.fraction() {
        ..0.225 => (Operation::Ask(Request::get(&by_tag)), MANIFESTS),
        0.225..0.45 => (Operation::Ask(Request::head(&by_tag)), MANIFESTS),
        0.45..0.6 => {
            (Operation::Ask(Request::get(&format!("/v2/{repository}/manifests/{}", image.digest()))), MANIFESTS)
        }
        _ => {
            let blob = Request::get(&format!("/v2/{repository}/blobs/{}", image.layer_digest())).expecting(*layer);
            (Operation::Ask(blob), if *layer < MB { SMALL_BLOBS } else { OTHERS })
        }
    }
}

/// An index that is drawn in inverse proportion to its rank.
fn zipf(count: usize, noise: &mut Noise) -> usize {
    let weight = |rank: usize| 1.0 / (rank + 1) as f64;
    let mut left = noise.fraction() * (0..count).map(weight).sum::<f64>();
    for rank in 0..count {
        left -= weight(rank);
        if left <= 0.0 {
            return rank;
        }
    }
    count - 1
}

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Connection, Image, Reading, Request};
use crate::machine::how_busy;
use crate::systems::{Distance, Regions, System};

pub(super) const ROW: Row = Row {
    name: "mirror-retag",
    workload: "A home and its mirror, 1 Gb/s. A tag is moved to and fro between two images that are at both, 20 times a round: \
               from the answer of home until a client of the mirror, who asks without a pause, sees it.",
    run,
};

const ROUND_TRIPS: [u64; 3] = [20, 80, 150];
const REPOSITORY: &str = "bench/retagged";
const TAG: &str = "latest";
const MOVES: u32 = 20;

/// What it may take beside a round trip.
const OVERHEAD: f64 = 0.1;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut figures = Vec::new();
        if bench.registries.own().is_none() {
            return Ok(figures);
        }
        for round_trip in ROUND_TRIPS {
            figures.extend(measure(bench, Distance::new(round_trip, 1_000)).await?);
        }
        Ok(figures)
    })
}

async fn measure(bench: &Bench, distance: Distance) -> Result<[Figure; 2]> {
    let goal = distance.round_trip().as_secs_f64() + OVERHEAD;
    let figure = |what: &str| {
        Figure::new(format!("{} ms: retag seen at the mirror, {what}", distance.round_trip_ms), Unit::Seconds)
    };
    let (mut median, mut worst) = (figure("p50").below(goal), figure("longest").below(goal));
    median.note(how_busy().await);
    let regions = Regions::start(&bench.registries, distance.link(), &[]).await?;
    let images = [Image::new(bench.fresh_seed(), &[1_000; 8]), Image::new(bench.fresh_seed(), &[1_000; 8])];
    let mut home = regions.home.connect().await?;
    for image in &images {
        image.push(&mut home, REPOSITORY, image.digest().trim_start_matches("sha256:")).await?;
        regions.until_whole(REPOSITORY, image.digest().trim_start_matches("sha256:")).await?;
    }
    let target = format!("/v2/{REPOSITORY}/manifests/{TAG}");
    let mut mirror = Connection::open(regions.mirror.address, Reading::Copying).await?;
    for round in 0..bench.settings.rounds {
        say(&format!("  {}, round {} of {}", distance.name(), round + 1, bench.settings.rounds));
        let mut seen = Vec::new();
        for number in 0..bench.settings.scaled(MOVES, 4) {
            let image = &images[number as usize % 2];
            home.exchange(&Request::with_body("PUT", &target, Image::MEDIA_TYPE, image.manifest())).await?;
            let began = Instant::now();
            let request = Request::head(&target);
            loop {
                let (status, _) = mirror.fetch(&request).await?;
                if status == 200 && mirror.header("docker-content-digest") == Some(image.digest()) {
                    break;
                }
                ensure!(began.elapsed().as_secs() < 60, "the tag has not moved after a minute");
            }
            seen.push(began.elapsed().as_secs_f64());
        }
        seen.sort_by(f64::total_cmp);
        median.sample(System::Roadstead, seen[seen.len() / 2]);
        worst.sample(System::Roadstead, seen[seen.len() - 1]);
    }
    Ok([median, worst])
}

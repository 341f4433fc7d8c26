use anyhow::Result;

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Image, download};
use crate::machine::how_busy;
use crate::systems::{Distance, Regions, System};

pub(super) const ROW: Row = Row {
    name: "replication",
    workload: "A home and its mirror, with a link between them on which each connection has a window of 6 MB at most and begins \
               with 14.6 KB. Images with one layer of five seconds of the link are pushed at home as fast as it goes, four a \
               round: from the answer to a manifest until the mirror lists the tag, which it does when all is there. The \
               floor is one and a half round trips and the layer over what eight connections bring of it directly over the \
               same link in that round. The 99th of a hundred is taken over all distances. (Claim 4 of the regions.)",
    run,
};

/// Those of the goals; a layer at 1 Gb/s is 625 MB, hashed on both sides by processes that share the processors.
const DISTANCES: [Distance; 5] = [
    Distance::new(20, 200),
    Distance::new(80, 200),
    Distance::new(150, 200),
    Distance::new(20, 1_000),
    Distance::new(150, 1_000),
];
const SECONDS: f64 = 5.0;
/// With five rounds, there are a hundred over all distances.
const TRANSFERS: u32 = 4;
pub(super) const WINDOW: usize = 6 << 20;
const REPOSITORY: &str = "bench/replicated";

/// What the longest may take beside twice the floor, in seconds.
const BESIDE: f64 = 1.0;

/// Seconds that a transfer took, and the least that it could have.
struct Transfer {
    lag: f64,
    floor: f64,
}

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut figures = Vec::new();
        if bench.registries.own().is_none() {
            return Ok(figures);
        }
        let mut all = Vec::new();
        for distance in DISTANCES {
            let (transfers, measured) = measure(bench, distance).await?;
            figures.extend(measured);
            all.extend(transfers);
        }
        figures.extend(longest(&all));
        Ok(figures)
    })
}

async fn measure(bench: &Bench, distance: Distance) -> Result<(Vec<Transfer>, [Figure; 2])> {
    let title = |what: &str| format!("{}: {what}", distance.name());
    let mut ratio = Figure::new(title("replication lag over the floor, p50"), Unit::Ratio).below(1.25);
    let mut carried = Figure::new(title("what the link carries for eight direct connections"), Unit::Throughput);
    ratio.note(how_busy().await);
    let mut transfers = Vec::new();
    for round in 0..bench.settings.rounds {
        say(&format!("  {}, round {} of {}", distance.name(), round + 1, bench.settings.rounds));
        let (measured, rate) = one_round(bench, distance).await?;
        carried.sample(System::Roadstead, rate);
        transfers.extend(measured);
    }
    for Transfer { lag, floor } in &transfers {
        ratio.sample(System::Roadstead, lag / floor);
    }
    let worst = transfers.iter().map(|transfer| transfer.lag).fold(0.0, f64::max);
    ratio.note(format!(
        "{} transfers of {:.0} MB; the longest took {worst:.2} s.",
        transfers.len(),
        bytes_of(bench, distance) as f64 / 1e6
    ));
    Ok((transfers, [ratio, carried]))
}

/// Some transfers, and what the link carries. Each round has a home and a mirror of its own, so that the disk holds no more
/// than one round.
async fn one_round(bench: &Bench, distance: Distance) -> Result<(Vec<Transfer>, f64)> {
    let bytes = bytes_of(bench, distance);
    let regions = Regions::start(&bench.registries, distance.link().with_window(WINDOW), &[]).await?;
    let mut lags = Vec::new();
    let mut last = String::new();
    for number in 0..bench.settings.scaled(TRANSFERS, 1) {
        let (image, tag) = (Image::new(bench.fresh_seed(), &[bytes]), format!("v{number}"));
        image.push(&mut regions.home.connect().await?, REPOSITORY, &tag).await?;
        lags.push(regions.until_whole(REPOSITORY, &tag).await?.as_secs_f64());
        image.layer_digest().clone_into(&mut last);
    }
    let direct = download(regions.far(), &format!("/v2/{REPOSITORY}/blobs/{last}"), bytes, 8).await?;
    let rate = bytes as f64 / direct.saturating_sub(distance.round_trip()).as_secs_f64();
    let floor =
        distance.round_trip().mul_f64(1.5).as_secs_f64() + bytes as f64 / rate.min(distance.bytes_per_second() as f64);
    Ok((lags.into_iter().map(|lag| Transfer { lag, floor }).collect(), rate))
}

fn bytes_of(bench: &Bench, distance: Distance) -> u64 {
    let seconds = SECONDS * bench.settings.scale;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred megabytes")]
    let bytes = (distance.bytes_per_second() as f64 * seconds) as u64;
    bytes
}

/// The 99th of a hundred, against twice its floor and a second.
fn longest(transfers: &[Transfer]) -> Option<Figure> {
    let mut parts: Vec<f64> = transfers.iter().map(|Transfer { lag, floor }| lag / (2.0 * floor + BESIDE)).collect();
    parts.sort_by(f64::total_cmp);
    // The nearest rank: of less than a hundred, the largest.
    let place = (parts.len() * 99).div_ceil(100);
    let title = "all distances: replication lag, p99, of twice the floor and a second";
    let mut figure = Figure::new(title, Unit::Ratio).below(1.0);
    figure.sample(System::Roadstead, *parts.get(place.checked_sub(1)?)?);
    figure.note(format!("The {place}th of {} transfers; the worst is at {:.4}.", parts.len(), parts.last()?));
    Some(figure)
}

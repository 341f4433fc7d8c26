use std::time::Duration;

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
               with 14.6 KB. An image with one layer of six seconds of the link is pushed at home as fast as it goes: from the \
               answer to its manifest until the mirror lists the tag, which it does when all is there. The floor is one and a \
               half round trips and the layer over what eight connections bring of it directly over the same link. \
               (Claim 4 of the regions.)",
    run,
};

/// Those of the goals; a layer at 1 Gb/s is 750 MB, hashed on both sides by processes that share the processors.
const DISTANCES: [Distance; 5] = [
    Distance::new(20, 200),
    Distance::new(80, 200),
    Distance::new(150, 200),
    Distance::new(20, 1_000),
    Distance::new(150, 1_000),
];
const SECONDS: f64 = 6.0;
pub(super) const WINDOW: usize = 6 << 20;
const REPOSITORY: &str = "bench/replicated";

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut figures = Vec::new();
        if bench.registries.own().is_none() {
            return Ok(figures);
        }
        for distance in DISTANCES {
            figures.extend(measure(bench, distance).await?);
        }
        Ok(figures)
    })
}

async fn measure(bench: &Bench, distance: Distance) -> Result<[Figure; 2]> {
    let title = |what: &str| format!("{}: {what}", distance.name());
    // The worst of them may be twice the floor and a second; a transfer of six seconds and more.
    let mut ratio = Figure::new(title("replication lag over the floor"), Unit::Ratio).below(1.25);
    let mut carried = Figure::new(title("what the link carries for eight direct connections"), Unit::Throughput);
    ratio.note(how_busy().await);
    let regions = Regions::start(&bench.registries, distance.link().with_window(WINDOW), &[]).await?;
    let seconds = SECONDS * bench.settings.scale;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred megabytes")]
    let bytes = (distance.bytes_per_second() as f64 * seconds) as u64;
    let mut worst = Duration::ZERO;
    for round in 0..bench.settings.rounds {
        say(&format!("  {}, round {} of {}", distance.name(), round + 1, bench.settings.rounds));
        let (image, tag) = (Image::new(bench.fresh_seed(), &[bytes]), format!("v{round}"));
        image.push(&mut regions.home.connect().await?, REPOSITORY, &tag).await?;
        let lag = regions.until_whole(REPOSITORY, &tag).await?;
        let target = format!("/v2/{REPOSITORY}/blobs/{}", image.layer_digest());
        let direct = download(regions.far(), &target, bytes, 8).await?;
        let rate = bytes as f64 / direct.saturating_sub(distance.round_trip()).as_secs_f64();
        let floor = distance.round_trip().mul_f64(1.5).as_secs_f64()
            + bytes as f64 / rate.min(distance.bytes_per_second() as f64);
        ratio.sample(System::Roadstead, lag.as_secs_f64() / floor);
        carried.sample(System::Roadstead, rate);
        worst = worst.max(lag);
    }
    ratio.note(format!("{:.0} MB; the longest took {:.2} s.", bytes as f64 / 1e6, worst.as_secs_f64()));
    Ok([ratio, carried])
}

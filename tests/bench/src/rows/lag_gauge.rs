use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, interval};

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Connection, Image, Reading, Request};
use crate::machine::how_busy;
use crate::systems::{Distance, Regions, System, lists};

pub(super) const ROW: Row = Row {
    name: "lag-gauge",
    workload: "A home and its mirror, 80 ms and 40 Mb/s. Eight images of 10 MB are pushed at home one after the other as fast as \
               it goes, which the link takes 16 seconds for. An observer asks the mirror each 250 ms which tags it lists, and \
               holds the age of the oldest push that it does not list against the mirror's lag gauge: the largest difference, \
               in parts of what it may be, which is a tenth or 1.5 s. \
               (Claim 20 of the regions.)",
    run,
};

const DISTANCE: Distance = Distance::new(80, 40);
const REPOSITORY: &str = "bench/gauge";
const IMAGES: usize = 8;
const LAYER: u64 = 10_000_000;
const LOOK: Duration = Duration::from_millis(250);
const ALLOWED_PART: f64 = 0.1;
const ALLOWED_SECONDS: f64 = 1.5;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut worst =
            Figure::new("lag gauge: largest difference from an observer, of what it may be", Unit::Ratio).below(1.0);
        let mut largest = Figure::new("lag gauge: the largest lag that the observer saw", Unit::Seconds);
        if bench.registries.own().is_none() {
            return Ok(Vec::new());
        }
        worst.note(how_busy().await);
        for round in 0..bench.settings.rounds.min(3) {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds.min(3)));
            let regions = Regions::start(&bench.registries, DISTANCE.link(), &[]).await?;
            let (difference, lag) = observe(bench, &regions).await?;
            worst.sample(System::Roadstead, difference);
            largest.sample(System::Roadstead, lag);
        }
        Ok(vec![worst, largest])
    })
}

/// The largest difference, in parts of what it may be, and the largest lag.
async fn observe(bench: &Bench, regions: &Regions) -> Result<(f64, f64)> {
    let images: Vec<_> = (0..IMAGES).map(|_| Image::new(bench.fresh_seed(), &[LAYER])).collect();
    let mut home = regions.home.connect().await?;
    let mut pushed = Vec::new();
    for (number, image) in images.iter().enumerate() {
        // From here on home has something of it that the mirror has not.
        pushed.push((format!("v{number}"), Instant::now()));
        image.push(&mut home, REPOSITORY, &format!("v{number}")).await?;
    }
    let mut mirror = Connection::open(regions.mirror.address, Reading::Copying).await?;
    let listing = Request::get(&format!("/v2/{REPOSITORY}/tags/list"));
    let (mut worst, mut largest, mut tick) = (0.0_f64, 0.0_f64, interval(LOOK));
    loop {
        tick.tick().await;
        let (_, body) = mirror.fetch(&listing).await?;
        let oldest = pushed.iter().find(|(tag, _)| !lists(&body, tag)).map(|(_, since)| since.elapsed().as_secs_f64());
        let gauge = regions.gauge("roadstead_mirror_lag_seconds").await?;
        let lag = oldest.unwrap_or_default();
        worst = worst.max((gauge - lag).abs() / (lag * ALLOWED_PART).max(ALLOWED_SECONDS));
        largest = largest.max(lag);
        if oldest.is_none() {
            return Ok((worst, largest));
        }
    }
}

use anyhow::Result;
use tokio::time::{Instant, sleep_until};

use super::replication::WINDOW;
use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Client, Image, push_blob, put_manifest};
use crate::machine::how_busy;
use crate::systems::{Distance, Regions, System};

pub(super) const ROW: Row = Row {
    name: "eager",
    workload: "A home and its mirror. An image of 16 layers of 16 MB, 256 MB together, is pushed at home at half the link's rate, \
               one layer after the other: from the answer to its manifest until the mirror lists the tag, which it does when \
               all is there. \
               (Claim 5 of the regions.)",
    run,
};

const DISTANCES: [Distance; 4] =
    [Distance::new(20, 200), Distance::new(80, 200), Distance::new(150, 200), Distance::new(80, 1_000)];
const REPOSITORY: &str = "bench/eager";
const LAYERS: u32 = 16;
const LAYER: u64 = 16_000_000;

/// What it may take beside two round trips and the last layer over the link.
const OVERHEAD: f64 = 0.2;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut figures = Vec::new();
        if bench.registries.own().is_none() {
            return Ok(figures);
        }
        for distance in DISTANCES {
            figures.push(measure(bench, distance).await?);
        }
        Ok(figures)
    })
}

async fn measure(bench: &Bench, distance: Distance) -> Result<Figure> {
    let goal = 2.0 * distance.round_trip().as_secs_f64() + OVERHEAD + distance.time_of(LAYER).as_secs_f64();
    let title = format!("{}: image whole at the mirror after its manifest", distance.name());
    let mut figure = Figure::new(title, Unit::Seconds).below(goal);
    figure.note(how_busy().await);
    let layers = bench.settings.scaled(LAYERS, 4);
    figure.note(format!("{layers} layers of 16 MB; a layer is shipped from when home has all of it."));
    let regions = Regions::start(&bench.registries, distance.link().with_window(WINDOW), &[]).await?;
    let mut home = regions.home.connect().await?;
    for round in 0..bench.settings.rounds.min(3) {
        say(&format!("  {}, round {} of {}", distance.name(), round + 1, bench.settings.rounds.min(3)));
        let sizes = vec![LAYER; usize::try_from(layers)?];
        let (image, tag) = (Image::new(bench.fresh_seed(), &sizes), format!("v{round}"));
        let began = Instant::now();
        let mut sent = 0;
        for blob in image.blobs() {
            sent += blob.length();
            // As if its bytes had come at half the rate, the last of them now.
            sleep_until(began + distance.time_of(2 * sent)).await;
            push_blob(&mut home, REPOSITORY, blob, Client::Docker).await?;
        }
        put_manifest(&mut home, REPOSITORY, &tag, Image::MEDIA_TYPE, image.manifest()).await?;
        figure.sample(System::Roadstead, regions.until_whole(REPOSITORY, &tag).await?.as_secs_f64());
    }
    Ok(figure)
}

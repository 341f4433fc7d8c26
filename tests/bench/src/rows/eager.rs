use anyhow::Result;

use super::replication::WINDOW;
use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Image, push_streamed, put_manifest};
use crate::machine::how_busy;
use crate::systems::{Distance, Regions, System};

pub(super) const ROW: Row = Row {
    name: "eager",
    workload: "A home and its mirror. An image of 1 GB is pushed at home as docker does, at half the link's rate from its first \
               byte to its last: from the answer to its manifest until the mirror lists the tag, which it does when all is \
               there. It may take two round trips, 0.2 s and a part of 8 MiB over the link. \
               (Claim 5 of the regions.)",
    run,
};

const DISTANCES: [Distance; 4] =
    [Distance::new(20, 200), Distance::new(80, 200), Distance::new(150, 200), Distance::new(80, 1_000)];
const REPOSITORY: &str = "bench/eager";

/// Megabytes of the image, and of each layer where there are many.
const SIZE: u32 = 1_000;
const LAYER: u32 = 16;
const MEGABYTE: u64 = 1_000_000;

/// Bytes of a part as home stores it: what comes of a layer when its client has sent the last of it.
const PART: u64 = 8 << 20;

/// What it may take beside two round trips and the last part over the link.
const OVERHEAD: f64 = 0.2;

/// A push takes more than a minute over the slower links.
const MAX_ROUNDS: usize = 2;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut figures = Vec::new();
        if bench.registries.own().is_none() {
            return Ok(figures);
        }
        let size = bench.settings.scaled(SIZE, 4 * LAYER);
        for distance in DISTANCES {
            figures.push(measure(bench, distance, &[size]).await?);
        }
        let layers = vec![LAYER; usize::try_from(size / LAYER)?];
        figures.push(measure(bench, Distance::new(80, 200), &layers).await?);
        Ok(figures)
    })
}

/// An image of layers of so many megabytes.
async fn measure(bench: &Bench, distance: Distance, layers: &[u32]) -> Result<Figure> {
    let goal = 2.0 * distance.round_trip().as_secs_f64() + OVERHEAD + distance.time_of(PART).as_secs_f64();
    let (count, megabytes) = (layers.len(), layers.first().copied().unwrap_or_default());
    let title = match count {
        1 => format!("{}: one layer of {megabytes} MB, whole at the mirror after its manifest", distance.name()),
        _ => format!("{}: {count} layers of {megabytes} MB, the same", distance.name()),
    };
    let mut figure = Figure::new(title, Unit::Seconds).below(goal);
    figure.note(how_busy().await);
    let regions = Regions::start(&bench.registries, distance.link().with_window(WINDOW), &[]).await?;
    let mut home = regions.home.connect().await?;
    let sizes: Vec<u64> = layers.iter().map(|layer| u64::from(*layer) * MEGABYTE).collect();
    let rounds = bench.settings.rounds.min(MAX_ROUNDS);
    for round in 0..rounds {
        say(&format!("  {}, {count} layers, round {} of {rounds}", distance.name(), round + 1));
        let (image, tag) = (Image::new(bench.fresh_seed(), &sizes), format!("v{round}"));
        let before = regions.carried();
        for blob in image.blobs() {
            push_streamed(&mut home, REPOSITORY, blob, Some(distance.bytes_per_second() / 2)).await?;
        }
        let ahead = regions.carried() - before;
        put_manifest(&mut home, REPOSITORY, &tag, Image::MEDIA_TYPE, image.manifest()).await?;
        figure.sample(System::Roadstead, regions.until_whole(REPOSITORY, &tag).await?.as_secs_f64());
        let all = regions.carried() - before;
        figure.note(format!("{} MB of {} had come when the last layer was closed.", ahead / MEGABYTE, all / MEGABYTE));
    }
    Ok(figure)
}

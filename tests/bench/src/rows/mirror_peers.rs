use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use super::region_pull::pull;
use super::replication::WINDOW;
use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Against, Figure, Unit};
use crate::load::{Client, Connection, Image, Reading, Request, go_on, push_blob};
use crate::machine::how_busy;
use crate::payload::Payload;
use crate::systems::{Distance, Regions, Storage, System};

pub(super) const ROW: Row = Row {
    name: "mirror-peers",
    workload: "A home and its mirror, 80 ms and 200 Mb/s, of Roadstead, and of distribution, whose mirror is its pull-through \
               cache; each connection has a window of 6 MB at most and begins with 14.6 KB. Images of five layers of 5 MB are \
               pushed at home. One is pulled at the mirror at once: from the answer to its manifest until the client has all \
               bytes. One is pulled for the first time when there was time for it to come. One is pulled by sixteen clients \
               at once that come as soon as it is pushed: bytes over the link for each byte of the image. And the first byte \
               of a blob of 5 MB that is asked for at once. (Claim 19 of the regions.)",
    run,
};

const DISTANCE: Distance = Distance::new(80, 200);
const REPOSITORY: &str = "bench/mirrored";
const LAYERS: [u64; 5] = [LAYER; 5];
const LAYER: u64 = 5_000_000;
const PULLERS: usize = 16;

/// The mirror need not have more of it than this, over a copy that is perfect.
const BYTES_RATIO: f64 = 1.02;

/// How long an image is left alone after its push, in times of what the link takes for it, and besides.
const TIMES: u32 = 2;
const BESIDES: Duration = Duration::from_secs(2);

/// What is measured of each system.
struct Figures {
    published: Figure,
    arrived: Figure,
    carried: Figure,
    first_byte: Figure,
}

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let seconds = |what: &str| {
            let figure = Figure::new(format!("at 80 ms, {what}"), Unit::Seconds);
            figure.at_most(1.0, Against::One(System::Distribution))
        };
        let mut figures = Figures {
            published: seconds("from a push at home until a client of the mirror has all of it"),
            arrived: seconds("the first pull at the mirror, after there was time for it to come"),
            carried: Figure::new(
                "at 80 ms, bytes over the link for each of the image, sixteen cold pulls",
                Unit::Ratio,
            )
            .below(BYTES_RATIO),
            first_byte: seconds("first byte at the mirror of a blob that it has not"),
        };
        figures.published.note(how_busy().await);
        let present = bench.registries.with(Storage::Filesystem);
        let mut systems: Vec<System> =
            present.into_iter().filter(|system| matches!(system, System::Roadstead | System::Distribution)).collect();
        bench
            .alternate(bench.settings.rounds, &mut systems, async |system| {
                say(&format!("    {}", system.name()));
                measure(bench, *system, &mut figures).await
            })
            .await?;
        let Figures { published, arrived, carried, first_byte } = figures;
        Ok(vec![published, arrived, carried, first_byte])
    })
}

async fn measure(bench: &Bench, system: System, figures: &mut Figures) -> Result<()> {
    let link = DISTANCE.link().with_window(WINDOW);
    let regions = match system {
        System::Roadstead => Regions::start(&bench.registries, link, &[]).await?,
        _ => Regions::start_distribution(&bench.registries, link).await?,
    };
    figures.published.sample(system, publish(bench, &regions, "at-once", Duration::ZERO).await?);
    let left_alone = DISTANCE.time_of(LAYERS.iter().sum()) * TIMES + BESIDES;
    figures.arrived.sample(system, publish(bench, &regions, "later", left_alone).await?);
    figures.carried.sample(system, cold_pulls(bench, &regions, system).await?);
    figures.first_byte.sample(system, first_byte(bench, &regions).await?);
    Ok(())
}

/// Seconds that a pull at the mirror takes that begins so long after the push at home.
async fn publish(bench: &Bench, regions: &Regions, tag: &str, after: Duration) -> Result<f64> {
    let image = Image::new(bench.fresh_seed(), &LAYERS);
    image.push(&mut regions.home.connect().await?, REPOSITORY, tag).await?;
    go_on(after).await;
    pull(regions.mirror.address, REPOSITORY, tag, &image).await
}

/// Bytes that cross the link for each byte of an image that many pull at once.
async fn cold_pulls(bench: &Bench, regions: &Regions, system: System) -> Result<f64> {
    let image = std::sync::Arc::new(Image::new(bench.fresh_seed(), &LAYERS));
    let before = regions.carried();
    image.push(&mut regions.home.connect().await?, REPOSITORY, "crowd").await?;
    let mut pulls = JoinSet::new();
    for _ in 0..PULLERS {
        let (place, image) = (regions.mirror.address, std::sync::Arc::clone(&image));
        pulls.spawn(async move { pull(place, REPOSITORY, "crowd", &image).await });
    }
    while let Some(ended) = pulls.join_next().await {
        ended.context("a pull ends")??;
    }
    if system == System::Roadstead {
        // What it brings besides for itself counts.
        regions.until_gauge("roadstead_mirror_lag_bytes", |bytes| bytes < 1.0).await?;
    }
    let unique: u64 = image.blobs().iter().map(Payload::length).sum::<u64>() + image.manifest().len() as u64;
    Ok((regions.carried() - before) as f64 / unique as f64)
}

/// Seconds until the first byte of a blob comes, from before the connection is opened.
async fn first_byte(bench: &Bench, regions: &Regions) -> Result<f64> {
    let payload = Payload::new(bench.fresh_seed(), LAYER);
    push_blob(&mut regions.home.connect().await?, REPOSITORY, &payload, Client::Docker).await?;
    let began = Instant::now();
    let mut connection = Connection::open(regions.mirror.address, Reading::Copying).await?;
    let opened = began.elapsed();
    let request = Request::get(&format!("/v2/{REPOSITORY}/blobs/{}", payload.digest())).expecting(LAYER);
    let (first, _) = connection.first_byte(&request).await?;
    Ok((opened + first).as_secs_f64())
}

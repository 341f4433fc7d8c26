use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep_until};

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Client, Connection, Reading, Request, push_blob};
use crate::machine::how_busy;
use crate::payload::Payload;
use crate::systems::{Distance, Regions, System};

pub(super) const ROW: Row = Row {
    name: "link-cap",
    workload: "A home and its mirror, 80 ms and 200 Mb/s, with `upstream-rate` 5 MB/s and without. While a blob of 1 GB is copied \
               ahead: what the link carries in ten seconds, against the cap; then a blob of 60 MB is pulled at the mirror: what \
               part of all that the link carries from a second after the request on until its end is the pull's. \
               (Claim 16 of the regions.)",
    run,
};

const DISTANCE: Distance = Distance::new(80, 200);
const CAP: u64 = 5_000_000;
const REPOSITORY: &str = "bench/capped";
const COPIED: u64 = 1_000_000_000;
const PULLED: u64 = 60_000_000;
const MEASURED: Duration = Duration::from_secs(10);

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut cap = Figure::new("link with a cap: carried / cap", Unit::Ratio).below(1.05).above(0.95);
        let mut capped = Figure::new("link with a cap: a pull's part of it after a second", Unit::Ratio).above(0.95);
        let mut open = Figure::new("link without a cap: a pull's part of it after a second", Unit::Ratio).above(0.95);
        if bench.registries.own().is_none() {
            return Ok(Vec::new());
        }
        cap.note(how_busy().await);
        for round in 0..bench.settings.rounds.min(3) {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds.min(3)));
            let rate = format!("{CAP}B");
            let regions = Regions::start(&bench.registries, DISTANCE.link(), &["--upstream-rate", &rate]).await?;
            copy_ahead(bench, &regions).await?;
            let (before, began) = (regions.carried(), Instant::now());
            sleep_until(began + MEASURED).await;
            let carried = (regions.carried() - before) as f64 / began.elapsed().as_secs_f64();
            cap.sample(System::Roadstead, carried / CAP as f64);
            capped.sample(System::Roadstead, share(bench, &regions).await?);
            let regions = Regions::start(&bench.registries, DISTANCE.link(), &[]).await?;
            copy_ahead(bench, &regions).await?;
            open.sample(System::Roadstead, share(bench, &regions).await?);
        }
        Ok(vec![cap, capped, open])
    })
}

/// Has the mirror copy much, and returns when it does.
async fn copy_ahead(bench: &Bench, regions: &Regions) -> Result<()> {
    let payload = Payload::new(bench.fresh_seed(), COPIED);
    push_blob(&mut regions.home.connect().await?, REPOSITORY, &payload, Client::Docker).await?;
    let begun = (COPIED - PULLED) as f64;
    regions.until_gauge("roadstead_mirror_lag_bytes", |bytes| bytes > begun).await?;
    let before = regions.carried();
    while regions.carried() < before + 5_000_000 {
        sleep_until(Instant::now() + Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A pull's part of what the link carries, from a second after it was asked for.
async fn share(bench: &Bench, regions: &Regions) -> Result<f64> {
    let payload = Payload::new(bench.fresh_seed(), PULLED);
    push_blob(&mut regions.home.connect().await?, REPOSITORY, &payload, Client::Docker).await?;
    let mut connection = Connection::open(regions.mirror.address, Reading::Copying).await?;
    let target = format!("/v2/{REPOSITORY}/blobs/{}", payload.digest());
    let (began, mut after_a_second) = (Instant::now(), None);
    for start in (0..PULLED).step_by(1_000_000) {
        connection.exchange(&Request::range(&target, &(start..start + 1_000_000))).await?;
        if began.elapsed() >= Duration::from_secs(1) {
            after_a_second.get_or_insert((regions.carried(), start + 1_000_000));
        }
    }
    let (carried, pulled) = after_a_second.context("the pull took less than a second")?;
    Ok((PULLED - pulled) as f64 / (regions.carried() - carried).max(1) as f64)
}

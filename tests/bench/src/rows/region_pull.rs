use std::net::SocketAddr;

use anyhow::Result;
use tokio::time::Instant;

use super::replication::WINDOW;
use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Connection, Image, Reading, Request};
use crate::machine::how_busy;
use crate::systems::{Distance, Regions, System};

pub(super) const ROW: Row = Row {
    name: "region-pull",
    workload: "A home and its mirror, 80 ms and 200 Mb/s. An image of five layers of 10 MB that both have is pulled from the \
               mirror beside the client and from home, ten times a round: manifest by tag, then all blobs over three new \
               connections; the longest of each.",
    run,
};

const DISTANCE: Distance = Distance::new(80, 200);
const REPOSITORY: &str = "bench/near";
const PULLS: u32 = 10;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut near = Figure::new("pull of 50 MB from the mirror beside the client, longest", Unit::Seconds);
        let mut far = Figure::new("pull of 50 MB from home at 80 ms, longest", Unit::Seconds);
        let mut ratio =
            Figure::new("pull of 50 MB: from the mirror / from home, longest of each", Unit::Ratio).below(0.1);
        if bench.registries.own().is_none() {
            return Ok(Vec::new());
        }
        near.note(how_busy().await);
        let regions = Regions::start(&bench.registries, DISTANCE.link().with_window(WINDOW), &[]).await?;
        let image = Image::new(bench.fresh_seed(), &[10_000_000; 5]);
        image.push(&mut regions.home.connect().await?, REPOSITORY, "v1").await?;
        regions.until_whole(REPOSITORY, "v1").await?;
        for round in 0..bench.settings.rounds {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
            let mut longest = [0.0_f64; 2];
            for (longest, place) in longest.iter_mut().zip([regions.mirror.address, regions.far()]) {
                for _ in 0..bench.settings.scaled(PULLS, 2) {
                    *longest = longest.max(pull(place, REPOSITORY, "v1", &image).await?);
                }
            }
            near.sample(System::Roadstead, longest[0]);
            far.sample(System::Roadstead, longest[1]);
            ratio.sample(System::Roadstead, longest[0] / longest[1]);
        }
        Ok(vec![near, far, ratio])
    })
}

/// Seconds that a pull takes, as containerd pulls: three blobs at once.
pub(super) async fn pull(place: SocketAddr, repository: &str, tag: &str, image: &Image) -> Result<f64> {
    let began = Instant::now();
    let mut first = Connection::open(place, Reading::Dropping).await?;
    first.exchange(&Request::get(&format!("/v2/{repository}/manifests/{tag}"))).await?;
    let requests: Vec<Request> = image
        .blobs()
        .iter()
        .map(|blob| Request::get(&format!("/v2/{repository}/blobs/{}", blob.digest())).expecting(blob.length()))
        .collect();
    let mut running = tokio::task::JoinSet::new();
    for connection in 0..3 {
        let requests: Vec<Request> = requests.iter().skip(connection).step_by(3).cloned().collect();
        running.spawn(async move {
            let mut connection = Connection::open(place, Reading::Dropping).await?;
            for request in &requests {
                connection.exchange(request).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(began.elapsed().as_secs_f64())
}

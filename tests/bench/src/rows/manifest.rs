use std::sync::Arc;

use anyhow::Result;

use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Against, Figure, Unit};
use crate::load::{Image, Reading, Request, closed_loop, evenly, open_loop};
use crate::systems::{Server, Storage, System};

pub(super) const ROW: Row = Row {
    name: "manifest",
    workload: "32 images of 8 layers in 8 repositories, whose manifests (1.9 KB) are asked for in turn by 16 keep-alive \
               clients that each wait for their answer; then at 500 requests a second whether or not they were answered.",
    run,
};

const REPOSITORIES: u64 = 8;
const TAGS: u64 = 4;
const LAYERS: [u64; 8] = [1_000; 8];
const CLIENTS: usize = 16;
/// Requests a second of the open loop: below what the slowest of the systems can answer.
const OPEN_RATE: u32 = 500;

struct Subject {
    server: Server,
    by_tag: Arc<[Request]>,
    by_digest: Arc<[Request]>,
    heads: Arc<[Request]>,
}

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut subjects = subjects(bench).await?;
        let distribution = Against::One(System::Distribution);
        let rate = |title: &str| Figure::new(format!("manifest {title}, 16 connections"), Unit::RequestsPerSecond);
        let mut by_tag = rate("GET by tag").at_least(4.0, distribution);
        let mut by_digest = rate("GET by digest").at_least(4.0, distribution);
        let mut heads = rate("HEAD by tag").at_least(4.0, distribution);
        let mut median = Figure::new("manifest GET by tag, 500 a second, p50", Unit::Seconds);
        let mut tail = Figure::new("manifest GET by tag, 500 a second, p99", Unit::Seconds);
        bench
            .alternate(bench.settings.rounds, &mut subjects, async |subject: &mut Subject| {
                let Subject { server, .. } = &*subject;
                for (figure, requests) in
                    [(&mut by_tag, &subject.by_tag), (&mut by_digest, &subject.by_digest), (&mut heads, &subject.heads)]
                {
                    let duration = bench.settings.duration;
                    let tally = closed_loop(server.address, Reading::Copying, requests, CLIENTS, duration).await?;
                    figure.sample(server.system, tally.rate());
                }
                let count = OPEN_RATE as usize * usize::try_from(bench.settings.duration.as_secs().max(1))?;
                let plan = evenly(subject.by_tag.iter().cycle().take(count), OPEN_RATE.into());
                let tallies = open_loop(server.address, &plan, CLIENTS, 1).await?;
                median.sample(server.system, tallies[0].latency(0.5));
                tail.sample(server.system, tallies[0].latency(0.99));
                Ok(())
            })
            .await?;
        Ok(vec![by_tag, by_digest, heads, median, tail])
    })
}

async fn subjects(bench: &Bench) -> Result<Vec<Subject>> {
    let mut images = Vec::new();
    for repository in 0..REPOSITORIES {
        for tag in 0..TAGS {
            let image = Image::new(bench.fresh_seed(), &LAYERS);
            images.push((format!("bench/app-{repository}"), format!("v{tag}"), image));
        }
    }
    let mut subjects = Vec::new();
    for system in bench.registries.with(Storage::Filesystem) {
        let server = bench.registries.start(system, Storage::Filesystem).await?;
        let mut connection = server.connect().await?;
        for (repository, tag, image) in &images {
            image.push(&mut connection, repository, tag).await?;
            let by_tag = Request::get(&format!("/v2/{repository}/manifests/{tag}"));
            let (status, body) = connection.fetch(&by_tag).await?;
            anyhow::ensure!(status == 200 && body == image.manifest(), "{} returned another manifest", system.name());
        }
        let requests = |request: &dyn Fn(&str) -> Request, tagged: bool| -> Arc<[Request]> {
            let reference = |tag: &String, image: &Image| if tagged { tag.clone() } else { image.digest().to_owned() };
            let targets = images.iter().map(|(repository, tag, image)| {
                let target = format!("/v2/{repository}/manifests/{}", reference(tag, image));
                request(&target).expecting(image.manifest().len() as u64)
            });
            targets.collect()
        };
        subjects.push(Subject {
            by_tag: requests(&Request::get, true),
            by_digest: requests(&Request::get, false),
            heads: requests(&Request::head, true),
            server,
        });
    }
    let length = images[0].2.manifest().len();
    let target = format!("/bytes/{length}");
    let get: Arc<[Request]> = Arc::new([Request::get(&target)]);
    subjects.push(Subject {
        server: Server::ceiling(bench.folder()).await?,
        by_tag: Arc::clone(&get),
        by_digest: get,
        heads: Arc::new([Request::head(&target)]),
    });
    Ok(subjects)
}

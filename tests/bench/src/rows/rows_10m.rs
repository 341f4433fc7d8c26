use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinSet;

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Connection, Image, Reading, put_manifest};
use crate::systems::{Storage, System};

pub(super) const ROW: Row = Row {
    name: "rows-10m",
    workload: "A registry whose facts are ten million rows: 5,000,000 tags in 1,000 repositories, each with a row of its own \
               and one by its manifest. It is stopped and started again (and, once at the end, killed and started again): \
               from starting the process to `/readyz`, and the memory that is resident then and after a page of each of \
               1,000 repositories was read.",
    run,
};

const REPOSITORIES: u32 = 1_000;
/// Times the repositories: 5,000,000 tags.
const TAGS: Tags = Tags { puts: 100, of_one_put: 50 };
const ROWS_OF_A_TAG: u32 = 2;
/// Pushes at once while the tags are made.
const CLIENTS: u32 = 64;
const MIB: f64 = 1024.0 * 1024.0;

/// The tags of a repository: PUTs of its image, and tags that each gives it.
#[derive(Clone, Copy)]
pub(super) struct Tags {
    pub(super) puts: u32,
    pub(super) of_one_put: u32,
}

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let repositories = bench.settings.scaled(REPOSITORIES, 10);
        let tags = repositories * TAGS.puts * TAGS.of_one_put;
        let title = |what: &str| format!("{} metadata rows, {what}", tags * ROWS_OF_A_TAG);
        let mut open = Figure::new(title("open to ready"), Unit::Seconds).below(2.0);
        let mut killed = Figure::new(title("open to ready after a kill"), Unit::Seconds);
        let mut memory = Figure::new(title("RSS when ready"), Unit::Bytes).below(600.0 * MIB);
        let mut used = Figure::new(title("RSS after reading"), Unit::Bytes).below(600.0 * MIB);
        if !bench.registries.with(Storage::Filesystem).contains(&System::Roadstead) {
            return Ok(Vec::new());
        }
        let mut server = bench.registries.start(System::Roadstead, Storage::Filesystem).await?;
        load(server.address, repositories, TAGS).await?;
        for round in 0..bench.settings.rounds {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
            server = bench.registries.start_on(System::Roadstead, server.stop().await?).await?;
            open.sample(System::Roadstead, server.start.as_secs_f64());
            memory.sample(System::Roadstead, server.process.resident()? as f64);
            read(server.address, repositories).await?;
            used.sample(System::Roadstead, server.process.resident()? as f64);
        }
        // With something in the log that has to be applied again.
        load(server.address, repositories.min(10), TAGS).await?;
        server = bench.registries.start_on(System::Roadstead, server.kill()).await?;
        killed.sample(System::Roadstead, server.start.as_secs_f64());
        Ok(vec![open, killed, memory, used])
    })
}

fn repository(number: u32) -> String {
    format!("bench/rows-{number:04}")
}

/// Gives each repository an image with its share of the tags.
pub(super) async fn load(address: SocketAddr, repositories: u32, tags: Tags) -> Result<()> {
    let image = Arc::new(Image::new(u64::from(u32::MAX), &[1_000]));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let image = Arc::clone(&image);
        clients.spawn(async move {
            let mut connection = Connection::open(address, Reading::Copying).await?;
            for number in (client..repositories).step_by(CLIENTS as usize) {
                let repository = repository(number);
                image.push(&mut connection, &repository, "latest").await?;
                for put in 0..tags.puts {
                    let first = put * tags.of_one_put;
                    let query = (first..first + tags.of_one_put).map(|tag| format!("tag=v{tag:07}"));
                    let reference = format!("{}?{}", image.digest(), query.collect::<Vec<_>>().join("&"));
                    put_manifest(&mut connection, &repository, &reference, Image::MEDIA_TYPE, image.manifest()).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

/// Reads a page of tags of each repository, from its middle.
async fn read(address: SocketAddr, repositories: u32) -> Result<()> {
    let mut connection = Connection::open(address, Reading::Copying).await?;
    let middle = TAGS.puts * TAGS.of_one_put / 2;
    for number in 0..repositories {
        let target = format!("/v2/{}/tags/list?n=100&last=v{middle:07}", repository(number));
        connection.exchange(&crate::load::Request::get(&target)).await?;
    }
    Ok(())
}

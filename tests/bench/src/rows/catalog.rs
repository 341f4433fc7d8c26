use std::net::SocketAddr;

use anyhow::Result;
use tokio::task::JoinSet;

use super::pages::{PAGE, Pages, measure};
use super::{Row, Running};
use crate::bench::Bench;
use crate::load::{Connection, Reading, put_manifest};
use crate::systems::{Storage, System};

pub(super) const ROW: Row = Row {
    name: "catalog",
    workload: "A registry of 500,000 repositories, each with an empty index, listed in pages of 100 as the tags are. \
               distribution walks its folders for each page and is given a tenth as many repositories, at most 5,000.",
    run,
};

const REPOSITORIES: u32 = 500_000;
/// Above this, one page of distribution takes longer than all that is measured of the others.
const REPOSITORIES_OF_DISTRIBUTION: u32 = 5_000;
/// Pushes at once while the repositories are made.
const CLIENTS: u32 = 64;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let all = bench.settings.scaled(REPOSITORIES, 10 * PAGE);
        let mut pages = Pages::new(&format!("catalog page of {all} repositories"));
        for system in [System::Roadstead, System::Distribution] {
            if !bench.registries.with(Storage::Filesystem).contains(&system) {
                continue;
            }
            let peers = (all / 10).clamp(10 * PAGE, REPOSITORIES_OF_DISTRIBUTION);
            let repositories = if system == System::Roadstead { all } else { peers };
            let server = bench.registries.start(system, Storage::Filesystem).await?;
            load(server.address, repositories).await?;
            let before = name((repositories - 1).saturating_sub(PAGE));
            let first = format!("/v2/_catalog?n={PAGE}");
            measure(bench, &server, &mut pages, &first, &format!("{first}&last={before}"), repositories).await?;
        }
        Ok(pages.into_figures())
    })
}

fn name(number: u32) -> String {
    format!("bench/r{number:07}")
}

/// Makes that many repositories.
async fn load(address: SocketAddr, repositories: u32) -> Result<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(async move {
            let mut connection = Connection::open(address, Reading::Copying).await?;
            for number in (client..repositories).step_by(CLIENTS as usize) {
                put_manifest(&mut connection, &name(number), "latest", INDEX_TYPE, INDEX.as_bytes()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

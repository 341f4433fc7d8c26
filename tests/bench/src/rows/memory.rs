use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinSet;

use super::push_filesystem::{LENGTH, REPOSITORY};
use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Figure, Unit};
use crate::load::{Client, push_blob};
use crate::payload::Payload;
use crate::systems::{Minio, Server, Storage, System};

pub(super) const ROW: Row = Row {
    name: "memory",
    workload: "8, then 64 layers of 100 MB pushed at once as docker does, each number to a freshly started registry; the \
               most memory that was resident at once (VmHWM). Two rounds at most, for each store.",
    run,
};

const FEW: u32 = 8;
const MANY: u32 = 64;
const MIB: f64 = 1024.0 * 1024.0;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut figures = Vec::new();
        for store in ["filesystem", "MinIO"] {
            let figure = |what: &str| Figure::new(format!("{what}, {store}"), Unit::Bytes);
            let mut few = figure("peak RSS, 8 pushes of 100 MB at once");
            let mut many = figure("peak RSS, 64 pushes of 100 MB at once").below(256.0 * MIB);
            let mut more = figure("peak RSS, 64 pushes more than 8").below(20.0 * MIB);
            let mut systems = [System::Roadstead, System::Distribution];
            bench
                .alternate(bench.settings.rounds.min(2), &mut systems, async |system: &mut System| {
                    let minio = if store == "MinIO" { Some(Minio::start(bench.folder()).await?) } else { None };
                    let storage = minio.as_ref().map_or(Storage::Filesystem, Storage::Bucket);
                    if !bench.registries.with(storage).contains(system) {
                        return Ok(());
                    }
                    let with_few = peak(bench, *system, storage, FEW).await?;
                    let with_many = peak(bench, *system, storage, bench.settings.scaled(MANY, FEW)).await?;
                    few.sample(*system, with_few);
                    many.sample(*system, with_many);
                    more.sample(*system, with_many - with_few);
                    Ok(())
                })
                .await?;
            figures.extend([few, many, more]);
        }
        Ok(figures)
    })
}

async fn peak(bench: &Bench, system: System, storage: Storage<'_>, pushes: u32) -> Result<f64> {
    let server = bench.registries.start(system, storage).await?;
    let payloads: Arc<[_]> = (0..pushes).map(|_| Payload::new(bench.fresh_seed(), LENGTH)).collect();
    push_all(&server, &payloads).await?;
    Ok(server.process.peak_resident()? as f64)
}

async fn push_all(server: &Server, payloads: &Arc<[Payload]>) -> Result<()> {
    let mut running = JoinSet::new();
    for number in 0..payloads.len() {
        let mut connection = server.connect().await?;
        let payloads = Arc::clone(payloads);
        running.spawn(async move { push_blob(&mut connection, REPOSITORY, &payloads[number], Client::Docker).await });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

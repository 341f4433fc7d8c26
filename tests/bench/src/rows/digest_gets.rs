use std::net::SocketAddr;
use std::sync::Arc;

use super::retags::{CLIENTS, LAYERS, REPOSITORY};
use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Against, Figure, Unit};
use crate::load::{Connection, Image, Reading, Request, spread_loop};
use crate::systems::{Cluster, Storage, System};

pub(super) const ROW: Row = Row {
    name: "digest-gets",
    workload: "Three replicas as three processes over one folder of blobs; 64 keep-alive clients, a third at each replica, \
               that each get a manifest (1.9 KB) by its digest again and again. Beside that three registries of one \
               replica each, which know nothing of each other, on the same cores.",
    run,
};

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let title = "manifest GET by digest, 3 replicas, 64 clients";
        let mut rate = Figure::new(title, Unit::RequestsPerSecond).at_least(0.95, Against::One(System::ThreeSingles));
        let Some(binary) = bench.registries.own() else { return Ok(Vec::new()) };
        let image = Image::new(bench.fresh_seed(), &LAYERS);
        let push = async |address: SocketAddr| {
            let mut connection = Connection::open(address, Reading::Copying).await?;
            image.push(&mut connection, REPOSITORY, "latest").await
        };
        let cluster = Cluster::start(binary, bench.folder()).await?;
        push(cluster.addresses()[0]).await?;
        let mut singles = Vec::new();
        for _ in 0..Cluster::REPLICAS {
            let single = bench.registries.start(System::Roadstead, Storage::Filesystem).await?;
            push(single.address).await?;
            singles.push(single);
        }
        let get = Request::get(&format!("/v2/{REPOSITORY}/manifests/{}", image.digest()));
        let requests: Arc<[Request]> = Arc::new([get.expecting(image.manifest().len() as u64)]);
        let addresses = singles.iter().map(|single| single.address).collect::<Vec<_>>();
        for round in 0..bench.settings.rounds {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
            let places = [(System::Roadstead, cluster.addresses()), (System::ThreeSingles, addresses.clone())];
            for (system, addresses) in places {
                let duration = bench.settings.duration;
                let tally = spread_loop(&addresses, Reading::Copying, &requests, CLIENTS, duration).await?;
                rate.sample(system, tally.rate());
            }
        }
        Ok(vec![rate])
    })
}

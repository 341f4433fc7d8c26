use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Client, Connection, Reading, download, push_blob};
use crate::machine::how_busy;
use crate::payload::Payload;
use crate::systems::{Distance, Storage, System, carried};

pub(super) const ROW: Row = Row {
    name: "wan-proxy",
    workload: "The link of the rows about regions by itself: a blob of two seconds of it (at most 100 MB), had from a registry \
               behind it over connections that are open before, against its bytes over the rate and a round trip.",
    run,
};

const DISTANCES: [(Distance, u64); 6] = [
    (Distance::new(20, 200), 1),
    (Distance::new(80, 200), 8),
    (Distance::new(150, 200), 8),
    (Distance::new(20, 1_000), 1),
    (Distance::new(80, 1_000), 8),
    (Distance::new(150, 1_000), 8),
];
const REPOSITORY: &str = "bench/wan";

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut figures = Vec::new();
        if bench.registries.own().is_none() {
            return Ok(figures);
        }
        let home = bench.registries.start(System::Roadstead, Storage::Filesystem).await?;
        for (distance, connections) in DISTANCES {
            let title =
                format!("link of {}, {connections} connections: time over bytes / rate + round trip", distance.name());
            let mut figure = Figure::new(title, Unit::Ratio).below(1.1);
            figure.note(how_busy().await);
            let bytes = (distance.bytes_per_second() * 2).min(100_000_000);
            let payload = Payload::new(bench.fresh_seed(), bytes);
            push_blob(&mut home.connect().await?, REPOSITORY, &payload, Client::Docker).await?;
            let target = format!("/v2/{REPOSITORY}/blobs/{}", payload.digest());
            let mut link = distance.link();
            (link.window, link.first_window) = (64 << 20, 64 << 20);
            let (carrier, wan) = carried(home.address, link).await?;
            // What is read first of a file is read by all that follow.
            Connection::open(home.address, Reading::Dropping)
                .await?
                .exchange(&crate::load::Request::get(&target))
                .await?;
            for round in 0..bench.settings.rounds {
                say(&format!("  {}, round {} of {}", distance.name(), round + 1, bench.settings.rounds));
                let took = download(wan.address(), &target, bytes, connections).await?;
                let floor = distance.time_of(bytes) + distance.round_trip();
                figure.sample(System::Roadstead, took.as_secs_f64() / floor.as_secs_f64());
            }
            carrier.shutdown_background();
            figures.push(figure);
        }
        Ok(figures)
    })
}

use anyhow::Result;

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Client, Connection, Reading, Request, download, push_blob};
use crate::machine::how_busy;
use crate::payload::Payload;
use crate::systems::{Distance, Regions, System};

pub(super) const ROW: Row = Row {
    name: "read-through",
    workload: "A home and its mirror, 150 ms and 200 Mb/s, each connection with a window of 1.5 MB at most (10 MB/s) that begins \
               with 14.6 KB. A blob of 600 MB is pushed at home and asked for at the mirror at once, before it has heard of \
               it; then one of 150 MB at home over the same link. Each over a new connection. And 150 MB over eight connections \
               that are open before, without a mirror: the most that this link can be seen to carry. \
               (Claim 7 of the regions.)",
    run,
};

const DISTANCE: Distance = Distance::new(150, 200);
const WINDOW: usize = 1_500_000;
/// Of what the mirror is asked for, long enough that connections have grown to their windows for most of it; of the others.
const LENGTH: u64 = 600_000_000;
const DIRECT_LENGTH: u64 = 150_000_000;
/// Connections that fill the link together.
const CONNECTIONS: u64 = 8;
const REPOSITORY: &str = "bench/streamed";

/// How much later the first byte may come.
const LATER: f64 = 0.010;

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut first =
            Figure::new("read-through at 150 ms: first byte later than directly", Unit::Seconds).below(LATER);
        let mut part = Figure::new("read-through at 150 ms: part of the link's rate", Unit::Ratio).above(0.9);
        let mut times = Figure::new("read-through at 150 ms: times one direct stream", Unit::Ratio).above(2.0);
        let mut ceiling = Figure::new("eight plain connections at 150 ms: part of the link's rate", Unit::Ratio);
        if bench.registries.own().is_none() {
            return Ok(Vec::new());
        }
        first.note(how_busy().await);
        let regions = Regions::start(&bench.registries, DISTANCE.link().with_window(WINDOW), &[]).await?;
        for round in 0..bench.settings.rounds {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
            let mut took = [(0.0, 0.0); 2];
            let places = [(regions.mirror.address, LENGTH), (regions.far(), DIRECT_LENGTH)];
            for (took, (place, length)) in took.iter_mut().zip(places) {
                let payload = Payload::new(bench.fresh_seed(), length);
                push_blob(&mut regions.home.connect().await?, REPOSITORY, &payload, Client::Docker).await?;
                *took = pull(place, &payload).await?;
                // What the mirror brings of the other one is not on the link when the next round begins.
                regions.until_gauge("roadstead_mirror_lag_bytes", |bytes| bytes < 1.0).await?;
                if place == regions.far() {
                    let target = format!("/v2/{REPOSITORY}/blobs/{}", payload.digest());
                    let took = download(place, &target, length, CONNECTIONS).await?;
                    ceiling.sample(System::Roadstead, DISTANCE.time_of(length).as_secs_f64() / took.as_secs_f64());
                }
            }
            let [(first_byte, rate), (directly, direct_rate)] = took;
            first.sample(System::Roadstead, first_byte - directly);
            part.sample(System::Roadstead, rate / DISTANCE.bytes_per_second() as f64);
            times.sample(System::Roadstead, rate / direct_rate);
        }
        Ok(vec![first, part, times, ceiling])
    })
}

/// Seconds to the first byte, from before the connection is opened, and bytes a second from then on.
async fn pull(place: std::net::SocketAddr, payload: &Payload) -> Result<(f64, f64)> {
    let began = tokio::time::Instant::now();
    let mut connection = Connection::open(place, Reading::Copying).await?;
    let request = Request::get(&format!("/v2/{REPOSITORY}/blobs/{}", payload.digest())).expecting(payload.length());
    let opened = began.elapsed();
    let (first, length) = connection.first_byte(&request).await?;
    let first = (opened + first).as_secs_f64();
    Ok((first, length as f64 / (began.elapsed().as_secs_f64() - first)))
}

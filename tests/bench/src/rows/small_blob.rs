use std::sync::Arc;

use super::blobs::{self, Subject};
use super::{Row, Running};
use crate::figure::{Against, Figure, Unit};
use crate::load::{Reading, closed_loop};
use crate::systems::System;

pub(super) const ROW: Row = Row {
    name: "small-blob",
    workload: "16 blobs of 10 KB, asked for in turn by one keep-alive client that waits for each answer.",
    run,
};

const LENGTH: u64 = 10_000;
const BLOBS: u64 = 16;

fn run(bench: &crate::bench::Bench) -> Running<'_> {
    Box::pin(async {
        let mut subjects = blobs::subjects(bench, LENGTH, BLOBS).await?;
        let mut median = Figure::new("10 KB blob, one keep-alive client, p50", Unit::Seconds)
            .at_most(0.25, Against::One(System::Distribution));
        let mut tail = Figure::new("10 KB blob, one keep-alive client, p99", Unit::Seconds);
        bench
            .alternate(bench.settings.rounds, &mut subjects, async |Subject { server, requests }: &mut Subject| {
                let requests = Arc::clone(requests);
                let tally =
                    closed_loop(server.address, Reading::Copying, &requests, 1, bench.settings.duration).await?;
                median.sample(server.system, tally.latency(0.5));
                tail.sample(server.system, tally.latency(0.99));
                Ok(())
            })
            .await?;
        Ok(vec![median, tail])
    })
}

use super::blobs::{self, Subject};
use super::{Row, Running};
use crate::figure::{Against, Figure, Unit};
use crate::load::{Reading, closed_loop};

pub(super) const ROW: Row = Row {
    name: "medium-blob",
    workload: "16 blobs of 1 MB, asked for in turn by 16 keep-alive clients that each wait for their answer. The clients \
               have the kernel drop what they read, so that copying it takes nothing from the servers.",
    run,
};

const LENGTH: u64 = 1_000_000;
const BLOBS: u64 = 16;
const CLIENTS: usize = 16;

fn run(bench: &crate::bench::Bench) -> Running<'_> {
    Box::pin(async {
        let mut subjects = blobs::subjects(bench, LENGTH, BLOBS).await?;
        let mut rate =
            Figure::new("1 MB blob GET, 16 connections", Unit::RequestsPerSecond).at_least(2.0, Against::BestPeer);
        bench
            .alternate(bench.settings.rounds, &mut subjects, async |Subject { server, requests }: &mut Subject| {
                let duration = bench.settings.duration;
                let tally = closed_loop(server.address, Reading::Dropping, requests, CLIENTS, duration).await?;
                rate.sample(server.system, tally.rate());
                Ok(())
            })
            .await?;
        Ok(vec![rate])
    })
}

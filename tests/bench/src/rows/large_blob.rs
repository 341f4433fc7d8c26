use super::blobs::{self, Subject};
use super::{Row, Running};
use crate::figure::{Against, Figure, Unit};
use crate::load::{Reading, closed_loop};
use crate::systems::System;

pub(super) const ROW: Row = Row {
    name: "large-blob",
    workload: "A blob of 100 MB, fetched again and again by one keep-alive client; from the page cache. Once with a client \
               that copies what it reads, as every client does, and once with one that has the kernel drop it, so that \
               only the server's work is left.",
    run,
};

const LENGTH: u64 = 100_000_000;

fn run(bench: &crate::bench::Bench) -> Running<'_> {
    Box::pin(async {
        let mut subjects = blobs::subjects(bench, LENGTH, 1).await?;
        let nginx = Against::One(System::Nginx);
        let mut read = Figure::new("100 MB blob GET, filesystem", Unit::Throughput).at_least(0.9, nginx);
        let mut dropped = Figure::new("100 MB blob GET, filesystem, by a client that drops it", Unit::Throughput);
        let mut work = Figure::new("100 MB blob GET, the server's processor time", Unit::CpuSecondsPerGigabyte)
            .at_most(1.1, nginx);
        bench
            .alternate(bench.settings.rounds, &mut subjects, async |Subject { server, requests }: &mut Subject| {
                for (figure, reading) in [(&mut read, Reading::Copying), (&mut dropped, Reading::Dropping)] {
                    let before = server.process.cpu();
                    let tally = closed_loop(server.address, reading, requests, 1, bench.settings.duration).await?;
                    figure.sample(server.system, tally.throughput());
                    // Of the client that reads: beside one that drops, a server waits less and works no less.
                    if reading == Reading::Copying && server.system != System::Ceiling {
                        let used = server.process.cpu() - before;
                        work.sample(server.system, used / (tally.bytes as f64 / 1e9));
                    }
                }
                Ok(())
            })
            .await?;
        Ok(vec![read, dropped, work])
    })
}

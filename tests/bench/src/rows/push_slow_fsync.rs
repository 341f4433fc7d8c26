use std::collections::BTreeMap;
use std::time::Duration;

use super::push_filesystem::{LENGTH, pushes};
use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Against, Figure, Unit};
use crate::load::Client;
use crate::systems::{Server, SlowFsync, Storage, System};

pub(super) const ROW: Row = Row {
    name: "push-slow-fsync",
    workload: "The same push as docker does it, with 2 ms added to every fsync, fdatasync, sync_file_range and msync of the \
               registry by a tracer (strace, which stops it at these calls only). Being traced costs by itself, and not \
               each of them the same, so what the delay adds under the tracer is added to the time of an untraced push of \
               the same round.",
    run,
};

const DELAY: Duration = Duration::from_millis(2);
const PUSHES: u32 = 4;

/// How a registry is run: each push is measured in all three ways.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Plain,
    Traced,
    Slowed,
}

struct Subject {
    server: Server,
    way: Way,
}

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let systems = bench.registries.with(Storage::Filesystem);
        let mut subjects = Vec::new();
        for system in &systems {
            for way in [Way::Plain, Way::Traced, Way::Slowed] {
                let server = match way {
                    Way::Plain => bench.registries.start(*system, Storage::Filesystem).await?,
                    Way::Traced => bench.registries.start_slowed(*system, SlowFsync { delay: Duration::ZERO }).await?,
                    Way::Slowed => bench.registries.start_slowed(*system, SlowFsync { delay: DELAY }).await?,
                };
                subjects.push(Subject { server, way });
            }
        }
        let mut calls = Figure::new("calls that wait for the disk, a push", Unit::Count);
        let mut took: BTreeMap<(System, Way), Vec<f64>> = BTreeMap::new();
        bench
            .alternate(bench.settings.rounds, &mut subjects, async |Subject { server, way }: &mut Subject| {
                let before = if *way == Way::Slowed { SlowFsync::calls(server.folder())? } else { 0 };
                let seconds = pushes(bench, server, Client::Docker, PUSHES).await?.as_secs_f64();
                took.entry((server.system, *way)).or_default().push(seconds / f64::from(PUSHES));
                if *way == Way::Slowed {
                    let made = SlowFsync::calls(server.folder())? - before;
                    calls.sample(server.system, made as f64 / f64::from(PUSHES));
                }
                Ok(())
            })
            .await?;
        let [slow, added, tracing] = figures(&systems, &took);
        Ok(vec![slow, added, tracing, calls])
    })
}

/// From the seconds of a push, round by round.
fn figures(systems: &[System], took: &BTreeMap<(System, Way), Vec<f64>>) -> [Figure; 3] {
    let title = "push of a 100 MB layer, filesystem, 2 ms added to each fsync";
    let mut slow = Figure::new(title, Unit::Throughput).at_least(1.5, Against::BestPeer);
    let mut added = Figure::new("what the delay adds to a push", Unit::Seconds);
    let mut tracing = Figure::new("what being traced adds to a push (not counted)", Unit::Seconds);
    for system in systems {
        let of = |way| took.get(&(*system, way)).map(Vec::as_slice).unwrap_or_default();
        for ((plain, traced), slowed) in of(Way::Plain).iter().zip(of(Way::Traced)).zip(of(Way::Slowed)) {
            // Where the delay drowns in noise, it adds nothing.
            let delay = (slowed - traced).max(0.0);
            slow.sample(*system, LENGTH as f64 / (plain + delay));
            added.sample(*system, delay);
            tracing.sample(*system, traced - plain);
        }
    }
    [slow, added, tracing]
}

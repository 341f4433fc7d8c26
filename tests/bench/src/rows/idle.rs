use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Row, Running};
use crate::bench::Bench;
use crate::figure::{Figure, Unit};
use crate::systems::{Storage, System};

pub(super) const ROW: Row = Row {
    name: "idle",
    workload: "A registry started on an empty folder: from starting the process to its first answer, and the memory that is \
               resident two seconds later.",
    run,
};

/// By then, what a start needs has been given back.
const SETTLED: Duration = Duration::from_secs(2);

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut start = Figure::new("start to ready, empty", Unit::Seconds).below(0.3);
        let mut memory = Figure::new("idle RSS", Unit::Bytes).below(40.0 * 1024.0 * 1024.0);
        let mut systems = bench.registries.with(Storage::Filesystem);
        bench
            .alternate(bench.settings.rounds, &mut systems, async |system: &mut System| {
                let server = bench.registries.start(*system, Storage::Filesystem).await?;
                start.sample(*system, server.start.as_secs_f64());
                sleep_until(Instant::now() + SETTLED).await;
                memory.sample(*system, server.process.resident()? as f64);
                Ok(())
            })
            .await?;
        Ok(vec![start, memory])
    })
}

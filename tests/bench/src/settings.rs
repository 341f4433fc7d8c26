//! What a run is told by its environment.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::rows::{ROWS, Row};

/// How much of the benchmark is run, and where.
pub(crate) struct Settings {
    /// The rows, in the order of the report.
    pub(crate) rows: Vec<&'static Row>,
    /// Alternating rounds of each measurement.
    pub(crate) rounds: usize,
    /// How long one measurement of a rate or a latency runs.
    pub(crate) duration: Duration,
    /// What the numbers of pushes, tags and repositories are multiplied with; below 1 it is a quick look, and the
    /// report says so.
    pub(crate) scale: f64,
    /// Where temporary folders are made. On the disk that is to be measured, not in memory.
    pub(crate) folder: PathBuf,
}

impl Settings {
    /// Reads `BENCH_ROWS`, `BENCH_ROUNDS`, `BENCH_SECONDS`, `BENCH_SCALE` and `BENCH_DIR`.
    pub(crate) fn from_environment() -> Result<Self> {
        let rounds = variable("BENCH_ROUNDS", 5)?;
        let seconds: f64 = variable("BENCH_SECONDS", 4.0)?;
        let scale: f64 = variable("BENCH_SCALE", 1.0)?;
        ensure!(rounds > 0, "BENCH_ROUNDS is the number of rounds, at least 1");
        ensure!(seconds > 0.0 && seconds <= 60.0, "BENCH_SECONDS is above 0 and at most 60");
        ensure!(scale > 0.0 && scale <= 1.0, "BENCH_SCALE is above 0 and at most 1");
        let folder = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Ok(Self {
            rows: selected(&std::env::var("BENCH_ROWS").unwrap_or_default())?,
            rounds,
            duration: Duration::from_secs_f64(seconds),
            scale,
            folder,
        })
    }

    /// `count`, scaled, but at least `minimum`.
    pub(crate) fn scaled(&self, count: u32, minimum: u32) -> u32 {
        let scaled = (f64::from(count) * self.scale).round();
        // Between 0 and `count`, so it fits.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "scaled down from a u32")]
        let scaled = scaled as u32;
        scaled.max(minimum)
    }
}

fn variable<T: FromStr>(name: &str, default: T) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("{name}={text} is not a number")),
        _ => Ok(default),
    }
}

fn selected(names: &str) -> Result<Vec<&'static Row>> {
    let names: Vec<&str> = names.split([',', ' ']).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = names.iter().find(|name| !ROWS.iter().any(|row| row.name == **name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("BENCH_ROWS names {unknown:?}; the rows are {}", known.join(", "));
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.contains(&row.name)).collect())
}

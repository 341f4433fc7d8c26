//! Measures Roadstead and its peers on the same machine in the same run.
//!
//! ```text
//!   settings -> rows: start systems -> alternate(rounds) { load -> samples } -> figures -> report.{md,json,html}
//! ```
//!
//! Ratios within a round are the result; absolute numbers are those of the machine. All traffic stays on loopback,
//! every load ends by itself, every process is stopped by its id, and temporary folders go with their systems.

#![forbid(unsafe_code)]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three or four digits")]

mod bench;
mod figure;
mod load;
mod machine;
mod payload;
mod report;
mod rows;
mod settings;
mod systems;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::bench::{Bench, say};
use crate::machine::Machine;
use crate::report::{Outcome, Report};
use crate::settings::Settings;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The generator shares the machine with what it measures: one thread leaves them the rest.
    let one_thread = || runtime::Builder::new_current_thread().enable_all().build();
    // As servers run.
    let threads = || runtime::Builder::new_multi_thread().enable_all().build();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => one_thread()?.block_on(run()),
        ["respond", address] => {
            threads()?.block_on(systems::respond(address.parse()?))?;
            Ok(ExitCode::SUCCESS)
        }
        ["upload", endpoint, seed, length] => {
            let took = threads()?.block_on(systems::upload(endpoint, seed.parse()?, length.parse()?))?;
            writeln!(std::io::stdout(), "{}", took.as_secs_f64())?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("usage: roadstead-bench (its settings are in the environment: see tests/bench/README.md)"),
    }
}

/// Runs the rows, and succeeds if all of them ran, whether or not their goals were reached.
async fn run() -> Result<ExitCode> {
    let bench = Bench::new(Settings::from_environment()?)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        // What runs is stopped as it is dropped.
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to end"),
        ran = rows(&bench) => ran,
    }
}

async fn rows(bench: &Bench) -> Result<ExitCode> {
    let mut report = Report {
        machine: Machine::describe(bench.folder()),
        remarks: remarks(bench),
        rounds: bench.settings.rounds,
        outcomes: Vec::new(),
    };
    let mut failed = false;
    for row in &bench.settings.rows {
        say(&format!("{}: {}", row.name, row.workload));
        let figures = (row.run)(bench).await;
        if let Err(error) = &figures {
            say(&format!("  failed: {error:#}"));
            failed = true;
        }
        report.outcomes.push(Outcome { row, figures });
        // After each row, so that a run that is ended early leaves what it has.
        report.write().context("the report cannot be written")?;
    }
    say("The report is in results/bench: report.md, report.json, report.html.");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn remarks(bench: &Bench) -> Vec<String> {
    let mut remarks = Vec::new();
    for (system, variable) in bench.registries.absent() {
        remarks.push(format!("{} is absent: no binary is named in {variable}.", system.name()));
    }
    if bench.settings.scale < 1.0 {
        remarks.push(format!(
            "A quick look: numbers of pushes, tags and repositories are scaled by {}.",
            bench.settings.scale
        ));
    }
    if bench.settings.rounds < 5 {
        remarks.push(format!("A quick look: {} rounds instead of 5.", bench.settings.rounds));
    }
    remarks
}

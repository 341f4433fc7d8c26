use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{Report, markdown};
use crate::figure::Verdict;
use crate::machine::Machine;
use crate::systems::System;

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    rounds: usize,
    remarks: &'a [String],
    rows: Vec<RowDocument<'a>>,
}

#[derive(Serialize)]
struct RowDocument<'a> {
    name: &'a str,
    workload: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    figures: Vec<FigureDocument<'a>>,
}

#[derive(Serialize)]
struct FigureDocument<'a> {
    title: &'a str,
    /// Requests, bytes, seconds (a second or a gigabyte), or a plain number.
    unit: String,
    samples: &'a BTreeMap<System, Vec<f64>>,
    verdicts: Vec<Verdict>,
    notes: Vec<String>,
}

/// The report for programs: every sample in its base unit.
pub(super) fn render(report: &Report) -> Result<String> {
    let rows = report.outcomes.iter().map(|outcome| RowDocument {
        name: outcome.row.name,
        workload: outcome.row.workload,
        failed: outcome.figures.as_ref().err().map(|error| format!("{error:#}")),
        figures: outcome
            .figures
            .iter()
            .flatten()
            .map(|figure| FigureDocument {
                title: &figure.title,
                unit: format!("{:?}", figure.unit),
                samples: &figure.samples,
                verdicts: figure.verdicts(),
                notes: markdown::notes(figure),
            })
            .collect(),
    });
    let document =
        Document { machine: &report.machine, rounds: report.rounds, remarks: &report.remarks, rows: rows.collect() };
    Ok(serde_json::to_string_pretty(&document)?)
}

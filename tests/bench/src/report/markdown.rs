use std::fmt::Write as _;

use super::{Outcome, Report};
use crate::figure::{Figure, Spread, Verdict};
use crate::systems::System;

/// The report as a table for people.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::from("# Roadstead beside its peers\n\n");
    let machine = &report.machine;
    let _ = writeln!(
        text,
        "{}, commit {}. {}, {} cores, {:.1} GiB, Linux {}, data on {}. {}. Median of {} alternating rounds, with the \
         range; loopback only.\n",
        machine.date,
        machine.commit,
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.disk,
        machine.programs.join("; "),
        report.rounds
    );
    for remark in &report.remarks {
        let _ = writeln!(text, "* {remark}");
    }
    text.push_str("\n## Goals\n\n| | goal | measured | holds |\n|---|---|---|---|\n");
    for (_, figure) in report.figures() {
        for verdict in figure.verdicts() {
            let holds = if verdict.holds { "yes" } else { "**no**" };
            let _ =
                writeln!(text, "| {} | {} | {} | {holds} |", figure.title, verdict.goal, measured(figure, &verdict));
        }
    }
    text.push_str("\n## All figures\n\n| | system | median | range | Roadstead / it |\n|---|---|---|---|---|\n");
    for (_, figure) in report.figures() {
        lines(&mut text, figure);
    }
    text.push_str("\n## Workloads\n\n");
    report.outcomes.iter().for_each(|outcome| workload(&mut text, outcome));
    text
}

/// What was held against a goal.
pub(super) fn measured(figure: &Figure, verdict: &Verdict) -> String {
    let Spread { median, least, most } = verdict.measured;
    if verdict.against.is_some() {
        return format!("{median:.2} × ({least:.2} – {most:.2})");
    }
    let show = |value| figure.unit.show(value);
    format!("{} ({} – {})", show(median), show(least), show(most))
}

fn lines(text: &mut String, figure: &Figure) {
    let mut title = figure.title.as_str();
    for system in figure.samples.keys() {
        let Some(Spread { median, least, most }) = figure.spread(*system) else { continue };
        let show = |value| figure.unit.show(value);
        let ratio = if *system == System::Roadstead { None } else { Spread::of(&figure.ratios(*system)) };
        // Nothing divided by nothing says nothing.
        let ratio = ratio.filter(|ratio| ratio.median.is_finite());
        let ratio = ratio.map(|Spread { median, least, most }| format!("{median:.2} ({least:.2} – {most:.2})"));
        let _ = writeln!(
            text,
            "| {title} | {} | {} | {} – {} | {} |",
            system.name(),
            show(median),
            show(least),
            show(most),
            ratio.unwrap_or_default()
        );
        title = "";
    }
}

fn workload(text: &mut String, outcome: &Outcome) {
    let _ = writeln!(text, "* **{}**: {}", outcome.row.name, outcome.row.workload);
    match &outcome.figures {
        Ok(figures) => figures.iter().flat_map(notes).for_each(|note| {
            let _ = writeln!(text, "  * {note}");
        }),
        Err(error) => {
            let _ = writeln!(text, "  * **It failed:** {error:#}");
        }
    }
}

/// A figure's notes, and whom the load generator may have held back.
pub(super) fn notes(figure: &Figure) -> Vec<String> {
    let near = figure.near_ceiling().into_iter().map(|(system, part)| {
        let percent = part * 100.0;
        format!("{}: {} came to {percent:.0} % of what the load generator can measure.", figure.title, system.name())
    });
    figure.notes.iter().cloned().chain(near).collect()
}

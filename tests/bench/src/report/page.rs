use std::fmt::Write as _;

use super::plot::plot;
use super::{Report, markdown};

const STYLE: &str = "\
:root { color-scheme: light dark; --text: #1c2430; --dim: #5b6675; --page: #ffffff; --line: #d9dee6; --own: #1f6feb; \
--peer: #9aa5b4; --reference: #c9a227; --ceiling: #e4e8ee; --good: #1a7f37; --bad: #c93c37 }
@media (prefers-color-scheme: dark) { :root { --text: #e3e8ef; --dim: #98a3b3; --page: #12161c; --line: #2c343f; \
--own: #4c8dff; --peer: #66717f; --reference: #b8952f; --ceiling: #2a313b; --good: #3fb950; --bad: #f85149 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 820px; \
margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem } h3 { font-size: 1rem; margin: 1.6rem 0 .3rem }
p.dim, li { color: var(--dim) } .good { color: var(--good) } .bad { color: var(--bad); font-weight: 600 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .25rem .5rem; border-bottom: 1px \
solid var(--line) }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif } svg text { fill: var(--text) }
svg line { stroke: var(--text); stroke-width: 1 } svg circle { fill: var(--text); opacity: .55 }
rect.own { fill: var(--own) } rect.peer { fill: var(--peer) } rect.reference { fill: var(--reference) } \
rect.ceiling { fill: var(--ceiling) }
";

/// The report as a page that needs nothing else.
pub(super) fn render(report: &Report) -> String {
    let machine = &report.machine;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Roadstead beside its peers</title><style>{STYLE}</style></head><body>\n\
         <h1>Roadstead beside its peers</h1><p class=\"dim\">{}, commit {}. {}, {} cores, {:.1} GiB, Linux {}, data on {}. \
         {}. Bars are medians of {} alternating rounds, dots are rounds.</p><ul>",
        escaped(&machine.date),
        escaped(&machine.commit),
        escaped(&machine.processor),
        machine.cores,
        machine.memory_gib,
        escaped(&machine.kernel),
        escaped(&machine.disk),
        escaped(&machine.programs.join("; ")),
        report.rounds
    );
    for remark in &report.remarks {
        let _ = write!(page, "<li>{}</li>", escaped(remark));
    }
    page.push_str("</ul><h2>Goals</h2><table><tr><th></th><th>goal</th><th>measured</th><th>holds</th></tr>");
    for (_, figure) in report.figures() {
        for verdict in figure.verdicts() {
            let (class, holds) = if verdict.holds { ("good", "yes") } else { ("bad", "no") };
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{holds}</td></tr>",
                escaped(&figure.title),
                escaped(&verdict.goal),
                escaped(&markdown::measured(figure, &verdict))
            );
        }
    }
    page.push_str("</table>");
    for outcome in &report.outcomes {
        let _ = write!(page, "<h2>{}</h2><p class=\"dim\">{}</p>", outcome.row.name, escaped(outcome.row.workload));
        match &outcome.figures {
            Ok(figures) => {
                for figure in figures {
                    let _ = write!(page, "<h3>{}</h3>{}", escaped(&figure.title), plot(figure));
                    for note in markdown::notes(figure) {
                        let _ = write!(page, "<p class=\"dim\">{}</p>", escaped(&note));
                    }
                }
            }
            Err(error) => {
                let _ = write!(page, "<p class=\"bad\">It failed: {}</p>", escaped(&format!("{error:#}")));
            }
        }
    }
    page.push_str("</body></html>\n");
    page
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

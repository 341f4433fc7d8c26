use std::fmt::Write as _;

use super::page::escaped;
use crate::figure::{Figure, Spread};
use crate::systems::System;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 150.0;
const VALUES: f64 = 130.0;
const LINE: f64 = 26.0;

/// A bar a system: its median, the range of the rounds as a line, each round as a dot.
pub(super) fn plot(figure: &Figure) -> String {
    let most = figure.samples.values().flatten().copied().fold(0.0, f64::max);
    let room = WIDTH - LABELS - VALUES;
    let at = |value: f64| if most > 0.0 { LABELS + value / most * room } else { LABELS };
    let height = LINE * figure.samples.len() as f64 + 4.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">",
        escaped(&figure.title)
    );
    for (line, (system, samples)) in figure.samples.iter().enumerate() {
        let Some(Spread { median, least, most }) = Spread::of(samples) else { continue };
        let top = LINE * line as f64 + 4.0;
        let middle = top + LINE / 2.0 - 3.0;
        let baseline = middle + 4.0;
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\" class=\"{}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>",
            LABELS - 8.0,
            system.name(),
            at(median) - LABELS,
            LINE - 8.0,
            class(*system),
            at(least),
            at(most)
        );
        for sample in samples {
            let _ = write!(svg, "<circle cx=\"{:.1}\" cy=\"{middle}\" r=\"2.5\"/>", at(*sample));
        }
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{baseline}\">{}</text>", at(most) + 8.0, figure.unit.show(median));
    }
    svg.push_str("</svg>");
    svg
}

fn class(system: System) -> &'static str {
    match system {
        System::Roadstead => "own",
        System::Ceiling => "ceiling",
        System::ThreeSingles | System::Etcd | System::Nginx | System::Uploader => "reference",
        System::Distribution | System::Zot | System::Angos | System::Trow => "peer",
    }
}

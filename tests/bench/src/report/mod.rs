//! What a run leaves behind, in `results/bench`: a table for people, the same for programs, and a page with plots.

mod json;
mod markdown;
mod page;
mod plot;

use std::fs;

use anyhow::Result;

use crate::figure::Figure;
use crate::machine::{Machine, repository};
use crate::rows::Row;

/// A row that was run, and what it came to.
pub(crate) struct Outcome {
    pub(crate) row: &'static Row,
    pub(crate) figures: Result<Vec<Figure>>,
}

/// Everything that the report tells.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// How this run differs from the full one, and who was absent.
    pub(crate) remarks: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Report {
    /// Writes the three files, over those of an earlier run.
    pub(crate) fn write(&self) -> Result<()> {
        let folder = repository().join("results/bench");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("report.md"), markdown::render(self))?;
        fs::write(folder.join("report.json"), json::render(self)?)?;
        fs::write(folder.join("report.html"), page::render(self))?;
        Ok(())
    }

    /// All figures, with the row that they belong to.
    fn figures(&self) -> impl Iterator<Item = (&'static Row, &Figure)> {
        self.outcomes.iter().flat_map(|outcome| outcome.figures.iter().flatten().map(|figure| (outcome.row, figure)))
    }
}

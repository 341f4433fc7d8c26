//! What a row has at hand.

use std::cell::Cell;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::settings::Settings;
use crate::systems::Registries;

/// One run of the benchmark.
pub(crate) struct Bench {
    pub(crate) settings: Settings,
    pub(crate) registries: Registries,
    next_seed: Cell<u64>,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let registries = Registries::find(&settings.folder)?;
        Ok(Self { settings, registries, next_seed: Cell::new(1) })
    }

    /// The folder below which systems keep their data.
    pub(crate) fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// A seed of bytes that this run has not used yet.
    pub(crate) fn fresh_seed(&self) -> u64 {
        self.next_seed.replace(self.next_seed.get() + 1)
    }

    /// Measures each of `subjects` once a round. Each round begins with another of them, so that none always runs on
    /// what the same other one has left behind.
    pub(crate) async fn alternate<S>(
        &self,
        rounds: usize,
        subjects: &mut [S],
        mut measure: impl AsyncFnMut(&mut S) -> Result<()>,
    ) -> Result<()> {
        for round in 0..rounds {
            say(&format!("  round {} of {rounds}", round + 1));
            for turn in 0..subjects.len() {
                let subject = (round + turn) % subjects.len();
                measure(&mut subjects[subject]).await?;
            }
        }
        Ok(())
    }
}

/// Tells whoever watches how far the run is.
pub(crate) fn say(what: &str) {
    // Nobody may be watching.
    let _ = writeln!(std::io::stderr(), "{what}");
}

use tokio::time::Instant;

/// Says how long each step of a behaviour took.
pub(crate) struct Stopwatch {
    behaviour: &'static str,
    lap: Instant,
}

impl Stopwatch {
    pub(crate) fn start(behaviour: &'static str) -> Self {
        println!("\n{behaviour}");
        Self { behaviour, lap: Instant::now() }
    }

    /// Says what was done since the last step.
    pub(crate) fn lap(&mut self, step: &str) {
        let number = self.behaviour.split(' ').next().unwrap_or_default();
        println!("  {number:>3} {:6.1} s  {step}", self.lap.elapsed().as_secs_f64());
        self.lap = Instant::now();
    }
}

/// Fails with why, in one line.
#[track_caller]
pub(crate) fn report(outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        panic!("{error:#}");
    }
}

//! What a row comes to: samples of each system, round by round, and the goals that they are held against.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::systems::System;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    RequestsPerSecond,
    /// The samples are bytes a second.
    Throughput,
    Seconds,
    CpuSecondsPerGigabyte,
    Bytes,
    Ratio,
    Count,
}

impl Unit {
    /// A sample as people read it.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::RequestsPerSecond => format!("{value:.0} req/s"),
            Self::Throughput => format!("{:.0} MB/s", value / 1e6),
            Self::Seconds if value < 0.001 => format!("{:.0} µs", value * 1e6),
            Self::Seconds if value < 1.0 => format!("{:.2} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::CpuSecondsPerGigabyte => format!("{value:.3} CPU s/GB"),
            Self::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
            Self::Ratio => format!("{value:.4}"),
            Self::Count => format!("{value:.0}"),
        }
    }

    /// Whether more of it is better.
    pub(crate) const fn more_is_better(self) -> bool {
        matches!(self, Self::RequestsPerSecond | Self::Throughput)
    }
}

/// Whom a ratio is taken against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    One(System),
    /// The registry of others whose median is the best.
    BestPeer,
}

/// A bound of the issue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

/// What Roadstead is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Its samples divided by those of another system in the same round; the median of that is held against the bound.
    Ratio(Against, Bound),
    /// The median of its samples.
    Value(Bound),
}

/// The median of some numbers and their range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` without a number.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, least, most })
    }
}

/// Whether a goal was reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// The goal in words.
    pub(crate) goal: String,
    /// The system that the ratio was taken against.
    pub(crate) against: Option<System>,
    /// What was held against the goal, over the rounds.
    pub(crate) measured: Spread,
    pub(crate) holds: bool,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// By system, in the order of the rounds.
    pub(crate) samples: BTreeMap<System, Vec<f64>>,
    goals: Vec<Goal>,
    /// What a reader has to know beside the numbers.
    pub(crate) notes: Vec<String>,
}

/// Above this part of what the generator can measure at most, the generator may be what was measured.
const NEAR_CEILING: f64 = 0.8;

impl Figure {
    pub(crate) fn new(title: impl Into<String>, unit: Unit) -> Self {
        Self { title: title.into(), unit, samples: BTreeMap::new(), goals: Vec::new(), notes: Vec::new() }
    }

    /// Adds a goal of at least this ratio.
    pub(crate) fn at_least(mut self, ratio: f64, against: Against) -> Self {
        self.goals.push(Goal::Ratio(against, Bound::AtLeast(ratio)));
        self
    }

    /// Adds a goal of at most this ratio.
    pub(crate) fn at_most(mut self, ratio: f64, against: Against) -> Self {
        self.goals.push(Goal::Ratio(against, Bound::AtMost(ratio)));
        self
    }

    /// Adds a goal of at most this much.
    pub(crate) fn below(mut self, value: f64) -> Self {
        self.goals.push(Goal::Value(Bound::AtMost(value)));
        self
    }

    /// Adds a goal of at least this much.
    pub(crate) fn above(mut self, value: f64) -> Self {
        self.goals.push(Goal::Value(Bound::AtLeast(value)));
        self
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds the sample of the next round.
    pub(crate) fn sample(&mut self, system: System, value: f64) {
        self.samples.entry(system).or_default().push(value);
    }

    pub(crate) fn spread(&self, system: System) -> Option<Spread> {
        Spread::of(self.samples.get(&system)?)
    }

    /// Roadstead's samples divided by another system's, round by round.
    pub(crate) fn ratios(&self, other: System) -> Vec<f64> {
        let samples = |system| self.samples.get(&system).map(Vec::as_slice).unwrap_or_default();
        samples(System::Roadstead).iter().zip(samples(other)).map(|(own, other)| own / other).collect()
    }

    /// The peer with the best median.
    pub(crate) fn best_peer(&self) -> Option<System> {
        let peers = self.samples.keys().copied().filter(|system| system.is_peer());
        let medians = peers.filter_map(|peer| Some((peer, self.spread(peer)?.median)));
        let order = |(_, one): &(System, f64), (_, other): &(System, f64)| one.total_cmp(other);
        let best = if self.unit.more_is_better() { medians.max_by(order) } else { medians.min_by(order) };
        best.map(|(peer, _)| peer)
    }

    /// What became of the goals; of one that lacks its samples, nothing.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        self.goals.iter().filter_map(|goal| self.verdict(*goal)).collect()
    }

    fn verdict(&self, goal: Goal) -> Option<Verdict> {
        let (bound, against, values, said) = match goal {
            Goal::Ratio(against, bound) => {
                let other = match against {
                    Against::One(system) => system,
                    Against::BestPeer => self.best_peer()?,
                };
                let said = match bound {
                    Bound::AtLeast(ratio) => format!("≥ {ratio} × {}", other.name()),
                    Bound::AtMost(ratio) => format!("≤ {ratio} × {}", other.name()),
                };
                (bound, Some(other), self.ratios(other), said)
            }
            Goal::Value(bound) => {
                let said = match bound {
                    Bound::AtLeast(value) => format!("≥ {}", self.unit.show(value)),
                    Bound::AtMost(value) => format!("≤ {}", self.unit.show(value)),
                };
                (bound, None, self.samples.get(&System::Roadstead)?.clone(), said)
            }
        };
        let measured = Spread::of(&values)?;
        Some(Verdict { goal: said, against, measured, holds: bound.holds(measured.median) })
    }

    /// The systems that came so near to what the generator can measure that it may be what was measured.
    pub(crate) fn near_ceiling(&self) -> Vec<(System, f64)> {
        let Some(ceiling) = self.spread(System::Ceiling).map(|ceiling| ceiling.median) else { return Vec::new() };
        // nginx has files sent by the kernel, which may be quicker than answering from memory.
        let nginx = self.spread(System::Nginx).map_or(ceiling, |nginx| nginx.median);
        let best = if self.unit.more_is_better() { ceiling.max(nginx) } else { ceiling.min(nginx) };
        let registries = self.samples.keys().copied().filter(|system| *system == System::Roadstead || system.is_peer());
        let parts = registries.filter_map(|system| {
            let median = self.spread(system)?.median;
            Some((system, if self.unit.more_is_better() { median / best } else { best / median }))
        });
        parts.filter(|(_, part)| *part >= NEAR_CEILING).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(unit: Unit, samples: &[(System, &[f64])]) -> Figure {
        let mut figure = Figure::new("something", unit);
        for (system, values) in samples {
            values.iter().for_each(|value| figure.sample(*system, *value));
        }
        figure
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let samples: [(System, &[f64]); 2] =
            [(System::Roadstead, &[10.0, 40.0, 90.0]), (System::Distribution, &[5.0, 10.0, 30.0])];
        let figure = figure(Unit::RequestsPerSecond, &samples).at_least(3.0, Against::One(System::Distribution));
        let [verdict] = figure.verdicts().try_into().unwrap();
        assert_eq!(verdict.measured, Spread { median: 3.0, least: 2.0, most: 4.0 });
        assert!(verdict.holds);
    }

    #[test]
    fn the_best_peer_is_the_fastest_or_the_one_that_takes_least() {
        let samples: [(System, &[f64]); 3] =
            [(System::Roadstead, &[2.0]), (System::Distribution, &[1.0]), (System::Zot, &[4.0])];
        assert_eq!(figure(Unit::RequestsPerSecond, &samples).best_peer(), Some(System::Zot));
        let seconds = figure(Unit::Seconds, &samples).at_most(0.5, Against::BestPeer);
        assert_eq!(seconds.best_peer(), Some(System::Distribution));
        assert!(!seconds.verdicts()[0].holds);
    }

    #[test]
    fn a_goal_without_samples_has_no_verdict() {
        let figure = figure(Unit::Seconds, &[(System::Roadstead, &[1.0])]);
        assert_eq!(figure.at_most(1.0, Against::One(System::Nginx)).verdicts(), []);
    }

    #[test]
    fn who_is_near_the_ceiling_is_named() {
        let samples: [(System, &[f64]); 3] =
            [(System::Roadstead, &[90.0]), (System::Distribution, &[20.0]), (System::Ceiling, &[100.0])];
        assert_eq!(figure(Unit::RequestsPerSecond, &samples).near_ceiling(), [(System::Roadstead, 0.9)]);
        let samples: [(System, &[f64]); 2] = [(System::Roadstead, &[4.0]), (System::Ceiling, &[1.0])];
        assert_eq!(figure(Unit::Seconds, &samples).near_ceiling(), []);
    }
}

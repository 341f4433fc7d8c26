//! How far a mirror is behind, in steps: what changes all the time would be written all the time.

/// The seconds at which the steps begin, and what they are called.
const STEPS: [(f64, &str); 6] =
    [(0.0, IN_SYNC), (5.0, "<30s"), (30.0, "<2m"), (120.0, "<10m"), (600.0, "<1h"), (3_600.0, "1h+")];

/// The lowest step: as close as a home that speaks each second lets a mirror be.
pub(super) const IN_SYNC: &str = "<5s";

/// Before home was heard of.
pub(super) const UNKNOWN: &str = "unknown";

/// Of where a step begins: a lag has to fall below so much of it before a lower step is said, so that one that keeps to
/// the border between two is not said anew with each look.
const BACK: f64 = 0.6;

/// The step of a lag, for whoever said `before` last.
pub(super) fn step(seconds: Option<f64>, before: Option<&str>) -> &'static str {
    let Some(seconds) = seconds else { return UNKNOWN };
    let reached = |share: f64| STEPS.iter().rposition(|(begin, _)| seconds >= begin * share).unwrap_or(0);
    let (up, down) = (reached(1.0), reached(BACK));
    let said = before.and_then(|before| STEPS.iter().position(|(_, name)| *name == before));
    let step = said.map_or(up, |said| said.clamp(up, down));
    STEPS.get(step).map_or(UNKNOWN, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_has_the_step_that_it_is_in() {
        for (seconds, expected) in [
            (0.0, "<5s"),
            (4.9, "<5s"),
            (5.0, "<30s"),
            (31.0, "<2m"),
            (599.0, "<10m"),
            (3_599.0, "<1h"),
            (86_400.0, "1h+"),
        ] {
            assert_eq!(step(Some(seconds), None), expected, "{seconds}");
        }
        assert_eq!(step(None, Some("<5s")), UNKNOWN);
    }

    #[test]
    fn one_that_keeps_to_a_border_is_said_once() {
        let mut said = None;
        let mut changes = 0;
        for look in 0..1_000 {
            let now = step(Some(if look % 2 == 0 { 4.5 } else { 5.5 }), said);
            changes += u32::from(said != Some(now));
            said = Some(now);
        }
        assert_eq!((said, changes), (Some("<30s"), 2));
        assert_eq!(step(Some(2.9), said), "<5s");
        assert_eq!(step(Some(3.1), said), "<30s");
        assert_eq!(step(Some(700.0), said), "<1h");
        assert_eq!(step(Some(1.0), Some("1h+")), "<5s");
    }
}

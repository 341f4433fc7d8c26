//! Figures of the operator.

use prometheus::{Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// The bounds between which looks are counted, in seconds: close to each other around the 100 ms that one may take, and up to a
/// look at replicas that are asked to do something and do not answer.
const LOOKS: [f64; 15] = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.5, 1.0, 5.0, 20.0];

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    pub reconciles: IntCounterVec,
    pub reconcile_seconds: Histogram,
    pub steps: IntCounterVec,
    pub api_requests: IntCounterVec,
    pub leader: IntGauge,
    resident_memory: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconciles = IntCounterVec::new(
            Opts::new("roadstead_operator_reconciles_total", "Looks at a Registry, by how they ended"),
            &["result"],
        )?;
        let reconcile_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "roadstead_operator_reconcile_seconds",
                "How long a look at a Registry took, in seconds",
            )
            .buckets(LOOKS.to_vec()),
        )?;
        let steps = IntCounterVec::new(
            Opts::new(
                "roadstead_operator_steps_total",
                "Steps for replicas, by what they were and whether they were done",
            ),
            &["step", "result"],
        )?;
        let api_requests = IntCounterVec::new(
            Opts::new("roadstead_operator_api_requests_total", "Requests to the API server, by verb and resource"),
            &["verb", "resource"],
        )?;
        let resident_memory = IntGauge::new("process_resident_memory_bytes", "Memory that the process has, in bytes")?;
        let leader = IntGauge::new("roadstead_operator_leader", "1 if this operator is the one that acts")?;
        registry.register(Box::new(reconciles.clone()))?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(steps.clone()))?;
        registry.register(Box::new(api_requests.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(resident_memory.clone()))?;
        Ok(Self { registry, reconciles, reconcile_seconds, steps, api_requests, leader, resident_memory })
    }

    /// As Prometheus reads them.
    pub(crate) fn text(&self) -> Vec<u8> {
        if let Some(bytes) = std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
            self.resident_memory.set(bytes);
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(reason = %error, "the metrics cannot be written: {error}");
        }
        text
    }
}

/// The resident memory, in bytes, that `/proc/self/status` tells.
fn resident(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_up_to_the_longest_that_they_are_to_take() {
        let metrics = Metrics::new().unwrap();
        metrics.reconcile_seconds.observe(0.1);
        metrics.reconcile_seconds.observe(0.101);
        let text = String::from_utf8(metrics.text()).unwrap();
        let within = r#"roadstead_operator_reconcile_seconds_bucket{le="0.1"} 1"#;
        assert!(text.lines().any(|line| line == within), "{text}");
    }

    #[test]
    fn the_memory_of_the_process_is_told() {
        assert_eq!(resident("VmPeak:\t  9 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2 << 20));
        assert_eq!(resident("Threads:\t1\n"), None);
        let text = String::from_utf8(Metrics::new().unwrap().text()).unwrap();
        let line = text.lines().find(|line| line.starts_with("process_resident_memory_bytes ")).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
}

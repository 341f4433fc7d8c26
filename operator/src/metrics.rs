//! Figures of the operator.

use prometheus::{Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    pub reconciles: IntCounterVec,
    pub reconcile_seconds: Histogram,
    pub steps: IntCounterVec,
    pub leader: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconciles = IntCounterVec::new(
            Opts::new("roadstead_operator_reconciles_total", "Looks at a Registry, by how they ended"),
            &["result"],
        )?;
        let reconcile_seconds = Histogram::with_opts(HistogramOpts::new(
            "roadstead_operator_reconcile_seconds",
            "How long a look at a Registry took",
        ))?;
        let steps = IntCounterVec::new(
            Opts::new(
                "roadstead_operator_steps_total",
                "Steps for replicas, by what they were and whether they were done",
            ),
            &["step", "result"],
        )?;
        let leader = IntGauge::new("roadstead_operator_leader", "1 if this operator is the one that acts")?;
        registry.register(Box::new(reconciles.clone()))?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(steps.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        Ok(Self { registry, reconciles, reconcile_seconds, steps, leader })
    }

    /// As Prometheus reads them.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(reason = %error, "the metrics cannot be written: {error}");
        }
        text
    }
}

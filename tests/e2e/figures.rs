use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::world::{OPERATOR, World};

/// What the operator says of itself, at one moment or between two.
pub(crate) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// As they are now.
    pub(crate) async fn now(world: &World) -> Result<Self> {
        let pods = world.pods(OPERATOR, "app.kubernetes.io/component=operator").await?;
        let address =
            pods.iter().find_map(|pod| pod["status"]["podIP"].as_str()).context("the operator has an address")?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        let request = http.get(format!("http://{address}:8080/metrics"));
        let text = request.send().await?.error_for_status()?.text().await?;
        let line = |line: &str| {
            let (what, value) = line.rsplit_once(' ')?;
            Some((what.to_owned(), value.parse().ok()?))
        };
        Ok(Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()))
    }

    /// What has been counted since. What is no count is of no use then.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = |(what, now): (&String, &f64)| (what.clone(), now - before.0.get(what).copied().unwrap_or_default());
        Self(self.0.iter().map(more).collect())
    }

    fn sum(&self, is_it: impl Fn(&str) -> bool) -> f64 {
        self.0.iter().filter(|(what, _)| is_it(what)).map(|(_, value)| value).sum()
    }

    /// How often a Registry was looked at.
    pub(crate) fn looks(&self) -> f64 {
        self.sum(|what| what.starts_with("roadstead_operator_reconciles_total"))
    }

    /// What was asked of the API server for that, reads and writes: but for watches, which last, and the Lease.
    pub(crate) fn calls(&self) -> f64 {
        self.sum(|what| {
            what.starts_with("roadstead_operator_api_requests_total")
                && !what.contains("verb=\"watch\"")
                && !what.contains("resource=\"leases\"")
        })
    }

    /// Bytes of memory that the process has.
    pub(crate) fn memory(&self) -> f64 {
        self.sum(|what| what == "process_resident_memory_bytes")
    }

    /// The time that this share of all looks took at most: the bound of a bucket of the histogram.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let bucket = |(what, count): (&String, &f64)| {
            let bound = what.strip_prefix("roadstead_operator_reconcile_seconds_bucket{le=\"")?.strip_suffix("\"}")?;
            Some((bound.parse::<f64>().ok().filter(|bound| bound.is_finite())?, *count))
        };
        let mut buckets: Vec<(f64, f64)> = self.0.iter().filter_map(bucket).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted = share * self.sum(|what| what == "roadstead_operator_reconcile_seconds_count");
        let (bound, _) = buckets.into_iter().find(|(_, count)| *count >= wanted)?;
        Some(Duration::from_secs_f64(bound))
    }
}

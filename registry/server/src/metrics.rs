//! Every metric of the process, defined once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use roadstead_domain::Tally;
use roadstead_geo::Lag;

/// From an answer out of memory to a layer of gigabytes, each bound about three times the one before.
const DURATION_BUCKETS_SECONDS: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];

/// See the module.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    pub requests_in_flight: IntGauge,
    pub received_bytes: IntCounter,
    pub sent_bytes: IntCounter,
    pub connections: IntGauge,
    pub blob_store_errors: IntCounterVec,
    pub login_failures: IntCounterVec,
    pub collected_blobs: IntCounter,
    pub deleted_objects: IntCounter,
    pub scrub: ScrubMetrics,
    pub backup_segments: IntCounter,
    pub backup_snapshots: IntCounter,
    pub backup_bytes: IntCounter,
    pub backup_failures: IntCounter,
    pub gauges: Gauges,
}

/// What scrubs do, all of them together.
pub(crate) struct ScrubMetrics {
    contents: IntCounter,
    bytes: IntCounter,
    percent: IntGauge,
    finished: IntGauge,
    found: IntGaugeVec,
}

/// Figures that others keep, copied when somebody asks for the metrics.
pub(crate) struct Gauges {
    pub uploads_open: IntGauge,
    pub memory_budget_used: IntGauge,
    pub memory_budget: IntGauge,
    certificate_expiry: IntGaugeVec,
    pub raft_is_leader: IntGauge,
    pub raft_has_leader: IntGauge,
    pub raft_term: IntGauge,
    pub raft_last_log_index: IntGauge,
    pub raft_applied_index: IntGauge,
    pub raft_checkpoint_index: IntGauge,
    pub raft_log_bytes: IntGauge,
    pub backup_lag: Gauge,
    pub backup_shipped_index: IntGauge,
    pub backup_shipped_sequence: IntGauge,
    pub mirror: MirrorGauges,
}

/// Whom a certificate is shown to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShownTo {
    Clients,
    Replicas,
}

/// How far this mirror is behind its home. All at zero where there is none.
pub(crate) struct MirrorGauges {
    lag_seconds: Gauge,
    overdue_seconds: Gauge,
    lag_changes: IntGauge,
    lag_blobs: IntGauge,
    lag_bytes: IntGauge,
    home_up: IntGauge,
}

/// Registers what it makes.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.keep(IntGauge::new(name, help)?)
    }
}

impl Metrics {
    /// All of them at zero.
    pub(crate) fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let duration = HistogramOpts::new(
            "roadstead_http_request_duration_seconds",
            "Time from the head of a request to the last byte of its answer, by route.",
        );
        let build_info: IntGaugeVec = make.keep(IntGaugeVec::new(
            Opts::new("roadstead_build_info", "Always 1; the labels say what runs."),
            &["version"],
        )?)?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: make.counters(
                "roadstead_http_requests_total",
                "Requests that have ended, by route, method and class of status; status `none` if the client gave up before an answer.",
                &["route", "method", "status"],
            )?,
            request_duration: make.keep(HistogramVec::new(
                duration.buckets(DURATION_BUCKETS_SECONDS.to_vec()),
                &["route"],
            )?)?,
            requests_in_flight: make
                .gauge("roadstead_http_requests_in_flight", "Requests whose answer has not ended.")?,
            received_bytes: make
                .counter("roadstead_http_received_bytes_total", "Bytes of request bodies that were read.")?,
            sent_bytes: make
                .counter("roadstead_http_sent_bytes_total", "Bytes of answers' bodies that were handed to connections.")?,
            connections: make.gauge("roadstead_http_connections", "Open connections.")?,
            blob_store_errors: make.counters(
                "roadstead_blob_store_errors_total",
                "Calls to the blob store that failed, by call and kind of failure.",
                &["call", "kind"],
            )?,
            login_failures: make.counters(
                "roadstead_login_failures_total",
                "Requests whose credentials were not taken, by why: `wrong` user or password, `malformed` header, or `overloaded`, \
                 for too many logins at once.",
                &["reason"],
            )?,
            collected_blobs: make.counter(
                "roadstead_collected_blobs_total",
                "Blobs that nothing named any more and whose objects were given up for deletion.",
            )?,
            deleted_objects: make.counter(
                "roadstead_deleted_objects_total",
                "Objects deleted from the blob store: of collected blobs, and of pushes that failed.",
            )?,
            scrub: ScrubMetrics::new(&make)?,
            backup_segments: make.counter(
                "roadstead_backup_segments_total",
                "Objects with entries of the log that were written to the blob store.",
            )?,
            backup_snapshots: make.counter(
                "roadstead_backup_snapshots_total",
                "Snapshots of the facts that were written to the blob store.",
            )?,
            backup_bytes: make
                .counter("roadstead_backup_bytes_total", "Bytes of segments and snapshots that were written.")?,
            backup_failures: make
                .counter("roadstead_backup_failures_total", "Attempts to write to the backup that failed.")?,
            gauges: Gauges::new(&make)?,
            registry,
        })
    }

    /// A request has ended.
    pub(crate) fn request(&self, route: &'static str, method: &Method, status: Option<StatusCode>, elapsed: Duration) {
        self.requests.with_label_values(&[route, method_label(method), status_label(status)]).inc();
        self.request_duration.with_label_values(&[route]).observe(elapsed.as_secs_f64());
    }

    /// All of them in Prometheus' text format, the gauges as they were last set.
    pub(crate) fn render(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl ScrubMetrics {
    fn new(make: &Maker<'_>) -> Result<Self, Error> {
        Ok(Self {
            contents: make
                .counter("roadstead_scrubbed_contents_total", "Blobs and manifests that scrubs compared with their digests.")?,
            bytes: make.counter("roadstead_scrubbed_bytes_total", "Bytes that scrubs read for that.")?,
            percent: make.gauge(
                "roadstead_scrub_progress_percent",
                "About how many of a hundred blobs the scrub under way has examined; 100 when it is over.",
            )?,
            finished: make.gauge(
                "roadstead_scrub_finished_timestamp_seconds",
                "When a scrub of everything finished last, as Unix time; 0 if none has since the start.",
            )?,
            found: make.gauges(
                "roadstead_scrub_found",
                "What the scrub that finished last found, by kind. All but `orphan`, `multipart` and `released` need somebody.",
                &["kind"],
            )?,
        })
    }

    /// A pass has come from `before` to `now`.
    pub(crate) fn advanced(&self, before: &Tally, now: &Tally) {
        self.contents.inc_by(now.contents - before.contents);
        self.bytes.inc_by(now.bytes - before.bytes);
        self.percent.set(now.percent.into());
    }

    /// A pass is over.
    pub(crate) fn finished(&self, tally: &Tally, at: SystemTime) {
        let Tally { damaged, missing, unreadable, miscounted, released, orphans, multiparts, .. } = *tally;
        let found = [
            ("damaged", damaged),
            ("missing", missing),
            ("unreadable", unreadable),
            ("miscounted", miscounted),
            ("released", released),
            ("orphan", orphans),
            ("multipart", multiparts),
        ];
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (kind, count) in found {
            self.found.with_label_values(&[kind]).set(whole(count));
        }
        self.finished.set(whole(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()));
    }
}

impl Gauges {
    fn new(make: &Maker<'_>) -> Result<Self, Error> {
        Ok(Self {
            uploads_open: make.gauge("roadstead_uploads_open", "Upload sessions that are open.")?,
            memory_budget_used: make
                .gauge("roadstead_memory_budget_used_bytes", "Memory that content in transit holds.")?,
            memory_budget: make.gauge("roadstead_memory_budget_bytes", "Memory that content in transit may hold.")?,
            certificate_expiry: make.gauges(
                "roadstead_certificate_expiry_timestamp_seconds",
                "When the first certificate of the chain that is shown expires, as Unix time, by to whom: `clients` or `replicas`.",
                &["shown_to"],
            )?,
            raft_is_leader: make.gauge("roadstead_raft_is_leader", "1 if this replica leads its Raft group.")?,
            raft_has_leader: make.gauge("roadstead_raft_has_leader", "1 if this replica knows a leader.")?,
            raft_term: make.gauge("roadstead_raft_term", "The Raft term that this replica is in.")?,
            raft_last_log_index: make
                .gauge("roadstead_raft_last_log_index", "The newest entry of this replica's log.")?,
            raft_applied_index: make
                .gauge("roadstead_raft_applied_index", "The newest entry that this replica has applied.")?,
            raft_checkpoint_index: make.gauge(
                "roadstead_raft_checkpoint_index",
                "The newest entry that this replica's state holds durably.",
            )?,
            backup_lag: make.keep(Gauge::new(
                "roadstead_backup_lag_seconds",
                "How long the oldest applied entry has been waiting that is not in the backup.",
            )?)?,
            backup_shipped_index: make
                .gauge("roadstead_backup_shipped_index", "The newest entry of the log that is in the backup.")?,
            backup_shipped_sequence: make.gauge(
                "roadstead_backup_shipped_sequence",
                "The newest change of the feed that is in the backup: what a restore goes back to.",
            )?,
            raft_log_bytes: make.gauge("roadstead_raft_log_bytes", "Size of this replica's log on disk.")?,
            mirror: MirrorGauges::new(make)?,
        })
    }
}

impl Gauges {
    /// Says when what is shown to somebody expires, as Unix time in seconds.
    pub(crate) fn certificate_expires(&self, shown_to: ShownTo, at: u64) {
        let label = match shown_to {
            ShownTo::Clients => "clients",
            ShownTo::Replicas => "replicas",
        };
        self.certificate_expiry.with_label_values(&[label]).set(i64::try_from(at).unwrap_or(i64::MAX));
    }
}

impl MirrorGauges {
    fn new(make: &Maker<'_>) -> Result<Self, Error> {
        Ok(Self {
            lag_seconds: make.keep(Gauge::new(
                "roadstead_mirror_lag_seconds",
                "How old what this mirror shows is against its home; -1 before home was heard of, 0 where this is no mirror.",
            )?)?,
            overdue_seconds: make.keep(Gauge::new(
                "roadstead_mirror_overdue_seconds",
                "The same without the time outside of the windows in which large blobs are copied, while one is wanted.",
            )?)?,
            lag_changes: make.gauge(
                "roadstead_mirror_lag_changes",
                "Changes at home that this mirror has not published, as far as it knows.",
            )?,
            lag_blobs: make.gauge("roadstead_mirror_lag_blobs", "Blobs that home has and this mirror has not.")?,
            lag_bytes: make.gauge("roadstead_mirror_lag_bytes", "Their bytes.")?,
            home_up: make.gauge("roadstead_mirror_home_up", "1 if this mirror has heard of its home lately.")?,
        })
    }

    /// Says how far it is.
    pub(crate) fn set(&self, lag: &Lag) {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.lag_seconds.set(lag.seconds.unwrap_or(-1.0));
        self.overdue_seconds.set(lag.overdue.unwrap_or(-1.0));
        self.lag_changes.set(lag.seconds.map_or(-1, |_| whole(lag.changes)));
        self.lag_blobs.set(whole(lag.blobs));
        self.lag_bytes.set(whole(lag.bytes));
        self.home_up.set(lag.home_is_there.into());
    }
}

/// A closed set, since a client chooses the method.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn status_label(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        None => "none",
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(_) => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_help_and_a_unit_and_no_label_is_the_clients() {
        let metrics = Metrics::new().unwrap();
        let method = Method::from_bytes(b"EVIL\xff".get(..4).unwrap()).unwrap();
        metrics.request("base", &method, Some(StatusCode::OK), Duration::from_millis(2));
        metrics.request("base", &Method::GET, None, Duration::from_millis(2));
        metrics.blob_store_errors.with_label_values(&["get", "unavailable"]).inc();
        metrics.login_failures.with_label_values(&["wrong"]).inc();
        metrics.gauges.certificate_expires(ShownTo::Clients, 1_900_000_000);
        let text = metrics.render().unwrap();
        assert!(
            text.contains("roadstead_http_requests_total{method=\"other\",route=\"base\",status=\"2xx\"} 1"),
            "{text}"
        );
        assert!(text.contains("roadstead_http_requests_total{method=\"GET\",route=\"base\",status=\"none\"} 1"));
        assert!(text.contains("roadstead_http_request_duration_seconds_bucket{route=\"base\",le=\"0.003\"} 2"));
        assert!(text.contains("roadstead_certificate_expiry_timestamp_seconds{shown_to=\"clients\"} 1900000000"));
        for line in text.lines().filter(|line| line.starts_with("# HELP ")) {
            assert!(line.starts_with("# HELP roadstead_") && line.ends_with('.'), "{line}");
        }
    }
}

//! When the registry is scrubbed, and who is told. What that means is in `domain`.
//!
//! ```text
//!  every scrub-interval: a pass at scrub-rate --.--> log, metrics
//!  roadstead scrub: a pass of its own -----------'--> lines of the admin API
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use roadstead_domain::{Clock as _, Fault, Finding, FindingKind, Registry, ScrubOptions, ScrubWatch, Tally};
use roadstead_metadata::Role;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::ambient::SystemClock;
use crate::metrics::Metrics;
use crate::tasks::TaskResult;

/// From the start of the process to its first pass, so that a start is not slowed down.
const FIRST: Duration = Duration::from_mins(1);

/// From a pass that failed, since the store was away for one, to the next.
const AFTER_FAILURE: Duration = Duration::from_hours(1);

/// Objects that no fact knows are told of when they are a day old, as with left-over multipart uploads.
pub(crate) const ORPHAN_AGE: Duration = Duration::from_hours(24);

/// How often it is told how far a pass is.
const TELL: Duration = Duration::from_secs(1);

/// What happens in a pass.
#[derive(Debug)]
pub(crate) enum Event {
    Found(Finding),
    /// Every second.
    Progress(Tally),
    /// The last one.
    Ended(Result<Tally, Fault>),
}

/// A pass under way. It goes on while its events are taken.
struct Pass {
    work: BoxFuture<'static, Result<Tally, Fault>>,
    watch: Arc<ScrubWatch>,
    found: mpsc::Receiver<Finding>,
    ticks: Interval,
    metrics: Arc<Metrics>,
    /// What the metrics have of it.
    counted: Tally,
    result: Option<Result<Tally, Fault>>,
    over: bool,
}

/// A pass, which ends when this is dropped.
pub(crate) fn pass(
    registry: &Arc<Registry>,
    metrics: &Arc<Metrics>,
    options: ScrubOptions,
) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
    let (watch, found) = ScrubWatch::new();
    let watch = Arc::new(watch);
    let (registry, watched) = (Arc::clone(registry), Arc::clone(&watch));
    let work = async move { registry.scrub(&options, &watched).await }.boxed();
    let mut ticks = interval(TELL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let metrics = Arc::clone(metrics);
    let pass = Pass { work, watch, found, ticks, metrics, counted: Tally::default(), result: None, over: false };
    stream::unfold(pass, Pass::next).boxed()
}

impl Pass {
    async fn next(mut self) -> Option<(Event, Self)> {
        if self.over {
            return None;
        }
        let event = loop {
            // What was found before the end is told before it.
            if let Ok(finding) = self.found.try_recv() {
                break Event::Found(finding);
            }
            if let Some(result) = self.result.take() {
                self.over = true;
                break Event::Ended(result);
            }
            tokio::select! {
                Some(finding) = self.found.recv() => break Event::Found(finding),
                result = &mut self.work => self.result = Some(result),
                _ = self.ticks.tick() => break Event::Progress(self.watch.tally()),
            }
        };
        let tally = self.watch.tally();
        self.metrics.scrub.advanced(&self.counted, &tally);
        self.counted = tally;
        self.tell(&event);
        Some((event, self))
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::Found(finding) => log(finding),
            Event::Progress(_) => {}
            Event::Ended(Ok(tally)) => {
                self.metrics.scrub.finished(tally, SystemClock::start().now());
                let Tally { contents, bytes, damaged, missing, unreadable, miscounted, released, orphans, .. } = *tally;
                info!(
                    contents,
                    bytes,
                    damaged,
                    missing,
                    unreadable,
                    miscounted,
                    released,
                    orphans,
                    "scrubbed everything: {damaged} damaged, {missing} missing, {unreadable} unreadable"
                );
            }
            Event::Ended(Err(error)) => warn!(reason = %error, "a scrub could not go on: {error}"),
        }
    }
}

fn log(finding: &Finding) {
    let Finding { kind, digest, repository, key, reason } = finding;
    let text = |value: Option<String>| value.unwrap_or_default();
    let digest = text(digest.as_ref().map(ToString::to_string));
    let repository = text(repository.as_ref().map(ToString::to_string));
    let key = text(key.as_ref().map(ToString::to_string));
    let kind_name = kind.as_str();
    match kind {
        FindingKind::Damaged | FindingKind::Missing => {
            warn!(
                kind = kind_name,
                digest, repository, key, "{kind_name}: {digest}: {reason}; push it again to mend it"
            );
        }
        FindingKind::Unreadable | FindingKind::Miscounted => {
            warn!(kind = kind_name, digest, repository, key, "{kind_name}: {digest}: {reason}");
        }
        FindingKind::Released | FindingKind::Orphan => {
            info!(kind = kind_name, digest, repository, key, "{kind_name}: {digest}{key}: {reason}");
        }
    }
}

/// Makes a pass every `every`, until `stop`.
pub(crate) async fn run(
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    rate: u64,
    every: Duration,
    stop: CancellationToken,
) -> TaskResult {
    let mut next = Instant::now() + FIRST.min(every);
    loop {
        if timeout(next.saturating_duration_since(Instant::now()), stop.cancelled()).await.is_ok() {
            return Ok(());
        }
        let began = Instant::now();
        // One replica is enough: all of them read the same store.
        if registry.metadata().status().role != Role::Leader {
            next = began + FIRST.min(every);
            continue;
        }
        let options = ScrubOptions { rate, orphan_age: ORPHAN_AGE, delete_orphans: false };
        let mut events = pass(&registry, &metrics, options);
        let mut failed = false;
        while let Some(event) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            event = events.next() => event,
        } {
            failed = matches!(event, Event::Ended(Err(_)));
        }
        next = if failed { Instant::now() + AFTER_FAILURE.min(every) } else { began + every };
    }
}

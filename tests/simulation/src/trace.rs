//! What happened, in order: two runs of a seed must tell the same story.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Every event of a world: messages that arrive, work of disks and of the bucket, answers that clients get. Only a sum of
/// them is kept, and their text if it is asked for (`ROADSTEAD_TRACE`).
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Events>>);

struct Events {
    began: Instant,
    sum: DefaultHasher,
    count: u64,
    lines: Option<Vec<String>>,
}

/// What is left of a trace: equal for equal traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Story {
    pub(crate) events: u64,
    pub(crate) sum: u64,
}

impl Trace {
    pub(crate) fn begin(keep_lines: bool) -> Self {
        let lines = keep_lines.then(Vec::new);
        Self(Arc::new(Mutex::new(Events { began: Instant::now(), sum: DefaultHasher::new(), count: 0, lines })))
    }

    /// Takes down an event, with when it happened.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let mut events = self.0.lock();
        let line = format!("{:>9} us  {what}", events.began.elapsed().as_micros());
        events.sum.write(line.as_bytes());
        events.count += 1;
        if let Some(lines) = &mut events.lines {
            lines.push(line);
        }
    }

    pub(crate) fn story(&self) -> Story {
        let events = self.0.lock();
        Story { events: events.count, sum: events.sum.finish() }
    }

    pub(crate) fn take_lines(&self) -> Vec<String> {
        self.0.lock().lines.take().unwrap_or_default()
    }
}

//! What is known of home at the moment.

use parking_lot::Mutex;
use roadstead_metadata::{ClusterId, LogTime, Position};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits::SILENCE;
use crate::wire::FeedLine;

/// When home was heard of last, and what it said.
pub(crate) struct Contact {
    state: Mutex<State>,
    /// Changes with each line.
    heard: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    seen: Option<Seen>,
    /// Why somebody has to look, if somebody has to.
    refused: Option<String>,
    /// The same of what home says of itself, while it is there.
    notice: Option<String>,
}

/// What home said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) home: ClusterId,
    pub(crate) newest: Position,
    pub(crate) time: LogTime,
    pub(crate) at: Instant,
    /// Whether what is pushed here may be written there.
    pub(crate) writes: bool,
    /// Whether it waits for what its mirrors say of how far they are.
    pub(crate) reports: bool,
    /// Whether it leaves something out.
    pub(crate) partial: bool,
}

impl Contact {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), heard: watch::Sender::new(0) }
    }

    /// A line has come.
    pub(crate) fn heard(&self, line: &FeedLine) {
        let FeedLine { newest, time, writes, reports, partial, .. } = *line;
        let seen = Seen { home: line.home.0, newest, time, at: Instant::now(), writes, reports, partial };
        let mut state = self.state.lock();
        // Replicas of home may be a moment apart.
        let newest = state.seen.filter(|former| former.home == seen.home).map_or(seen.newest, |former| {
            if former.newest.epoch == seen.newest.epoch { former.newest.max(seen.newest) } else { seen.newest }
        });
        let notice = state.notice.take();
        *state = State { seen: Some(Seen { newest, ..seen }), refused: None, notice };
        drop(state);
        self.heard.send_modify(|count| *count += 1);
    }

    /// Home said something that somebody has to look at.
    pub(crate) fn refused(&self, why: &str) {
        self.state.lock().refused = Some(why.to_owned());
    }

    /// Home says of itself what somebody has to look at, or nothing any more.
    pub(crate) fn note(&self, notice: Option<String>) {
        self.state.lock().notice = notice;
    }

    /// Whether what is not here can be had from home, as far as is known. A connection that breaks says nothing: one of
    /// home's replicas may be starting anew, and another one answers.
    pub(crate) fn is_there(&self) -> bool {
        let state = self.state.lock();
        state.refused.is_none() && state.seen.is_some_and(|seen| seen.at.elapsed() < SILENCE)
    }

    /// Counts what is heard.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }

    /// Whether home waits for what this mirror says of how far it is.
    pub(crate) fn wants_reports(&self) -> bool {
        self.seen().is_some_and(|seen| seen.reports)
    }

    /// Whether what is followed is a mirror that leaves something out, as it said last.
    pub(crate) fn is_partial(&self) -> bool {
        self.seen().is_some_and(|seen| seen.partial)
    }

    pub(crate) fn seen(&self) -> Option<Seen> {
        self.state.lock().seen
    }

    pub(crate) fn problem(&self) -> Option<String> {
        let state = self.state.lock();
        state.refused.clone().or_else(|| state.notice.clone())
    }

    /// How long ago home was heard of, in words.
    pub(crate) fn how_silent(&self) -> String {
        match self.seen() {
            Some(seen) => format!("it was heard of {} s ago", seen.at.elapsed().as_secs()),
            None => "it was never heard of".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, advance};

    use super::*;
    use crate::wire::HomeId;

    #[tokio::test(start_paused = true)]
    async fn home_is_away_when_it_has_been_silent_for_a_while_and_at_once_when_it_refuses() {
        let contact = Contact::new();
        assert!(!contact.is_there());
        let newest = Position { epoch: 1, sequence: 1 };
        let line = serde_json::json!({"home": HomeId(ClusterId(1)), "newest": newest, "time": 5});
        let line: FeedLine = serde_json::from_value(line).unwrap();
        contact.heard(&line);
        advance(SILENCE.saturating_sub(Duration::from_millis(1))).await;
        assert!(contact.is_there());
        advance(Duration::from_millis(1)).await;
        assert!(!contact.is_there());
        contact.heard(&line);
        contact.refused("no token");
        assert!(!contact.is_there());
        contact.heard(&line);
        assert!(contact.is_there());
    }
}

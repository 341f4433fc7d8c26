//! What is known of home at the moment.

use parking_lot::Mutex;
use roadstead_metadata::{ClusterId, LogTime, Position};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

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
    /// Whether a connection broke since, and nothing was heard after that.
    broken: bool,
    /// Why somebody has to look, if somebody has to.
    refused: Option<String>,
}

/// What home said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) home: ClusterId,
    pub(crate) newest: Position,
    pub(crate) time: LogTime,
    pub(crate) at: Instant,
}

impl Contact {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), heard: watch::Sender::new(0) }
    }

    /// A line has come.
    pub(crate) fn heard(&self, line: &FeedLine) {
        let seen = Seen { home: line.home.0, newest: line.newest, time: line.time, at: Instant::now() };
        let mut state = self.state.lock();
        // Replicas of home may be a moment apart.
        let newest = state.seen.filter(|former| former.home == seen.home).map_or(seen.newest, |former| {
            if former.newest.epoch == seen.newest.epoch { former.newest.max(seen.newest) } else { seen.newest }
        });
        *state = State { seen: Some(Seen { newest, ..seen }), broken: false, refused: None };
        drop(state);
        self.heard.send_modify(|count| *count += 1);
    }

    /// A connection broke on which home was to be heard.
    pub(crate) fn broke(&self) {
        self.state.lock().broken = true;
    }

    /// Home said something that somebody has to look at.
    pub(crate) fn refused(&self, why: &str) {
        let mut state = self.state.lock();
        state.broken = true;
        state.refused = Some(why.to_owned());
    }

    /// Whether what is not here can be had from home, as far as is known.
    pub(crate) fn is_there(&self) -> bool {
        let state = self.state.lock();
        !state.broken && state.seen.is_some_and(|seen| seen.at.elapsed() < SILENCE)
    }

    pub(crate) fn seen(&self) -> Option<Seen> {
        self.state.lock().seen
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.state.lock().refused.clone()
    }

    /// How long ago home was heard of.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.state.lock().seen.map(|seen| seen.at.elapsed())
    }
}

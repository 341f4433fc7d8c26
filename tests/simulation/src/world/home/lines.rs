//! What home says line by line: its feed, its watermarks, all that it has.

use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt as _};
use roadstead_domain::Registry;
use roadstead_geo::{
    FeedError, FeedLine, HomeError, LINE_INTERVAL, Lines, Shown, SnapshotLine, Terms, WireChange, WireKind, feed_line,
    snapshot_lines, watermark,
};
use roadstead_metadata::Position;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::{SimulatedHome, away};
use crate::world::network::pause;
use crate::world::replica::Serving;

/// A line, and the place behind it.
type Line = (Vec<u8>, Position);

const TERMS: Terms = Terms { writes: true, partial: false };

fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T, HomeError> {
    serde_json::from_slice(line).map_err(|error| HomeError::Refused(error.to_string()))
}

/// The line after a place, where a feed of so many changes reaches back to it.
fn line(registry: &Registry, after: Position, kept: u64) -> Result<Line, FeedError> {
    // The bucket shows no upload before it is a blob.
    let line = feed_line(registry, after, TERMS, &mut Shown::new())?;
    let newest = registry.metadata().query().and_then(|query| query.position());
    let newest = newest.map_err(|error| FeedError::Fault(error.into()))?;
    if after.sequence + kept < newest.sequence {
        let why = format!("the changes after {} are gone, the newest is {}", after.sequence, newest.sequence);
        return Err(FeedError::Resynchronise(why));
    }
    Ok(line)
}

/// The first line, which says whether the feed goes on from there. A replica that has not seen yet what the mirror has
/// must not take that for another history.
pub(super) async fn first(serving: &Serving, after: Position, kept: u64) -> Result<Line, HomeError> {
    match line(&serving.registry, after, kept) {
        Err(FeedError::Resynchronise(_)) => {}
        line => return line.map_err(refused),
    }
    serving.registry.confirm_newest().await.map_err(away)?;
    line(&serving.registry, after, kept).map_err(refused)
}

fn refused(error: FeedError) -> HomeError {
    match error {
        FeedError::Resynchronise(why) => HomeError::Resynchronise(why),
        FeedError::Fault(fault) => away(fault),
    }
}

/// The lines from the first one on: one as soon as there is a change, and at least one each interval.
pub(super) fn follow(home: SimulatedHome, serving: Serving, first: Line) -> Lines<FeedLine> {
    let newest = serving.metadata.subscribe();
    let state = Some((home, serving, newest, None::<Position>, Some(first)));
    let lines = stream::unfold(state, |state| async move {
        let (home, serving, mut newest, after, first) = state?;
        let next = async {
            if let Some(first) = first {
                return Some(Ok(first));
            }
            let after = after.unwrap_or_default();
            let due = Instant::now() + LINE_INTERVAL;
            if newest.borrow_and_update().sequence <= after.sequence {
                // Either way there is something to say.
                drop(timeout_at(due, newest.changed()).await);
            }
            match line(&serving.registry, after, home.upstream.kept) {
                Ok(line) => Some(Ok(line)),
                Err(FeedError::Fault(fault)) => Some(Err(away(fault))),
                // The mirror asks again, and is told.
                Err(FeedError::Resynchronise(_)) => None,
            }
        };
        let next = serving.process.unless_dead(next).await.unwrap_or_else(|_| Some(Err(away("the connection broke"))));
        let carried = match next? {
            Ok((line, last)) => home.carry(&serving).await.and_then(|()| Ok((home.heard(read(&line)?), last))),
            Err(error) => Err(error),
        };
        match carried {
            Ok((line, last)) => Some((Ok(line), Some((home, serving, newest, Some(last), None)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    lines.boxed()
}

/// How far home is, each interval.
pub(super) fn watermarks(home: SimulatedHome, serving: Serving) -> Lines<FeedLine> {
    let lines = stream::unfold(Some((home, serving, true)), |state| async move {
        let (home, serving, is_first) = state?;
        if !is_first {
            pause(LINE_INTERVAL).await;
        }
        let line = watermark(&serving.registry, TERMS).map_err(refused).and_then(|line| read(&line));
        match home.carry(&serving).await.and(line) {
            Ok(line) => Some((Ok(line), Some((home, serving, false)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    lines.boxed()
}

/// All that a replica has at one moment.
pub(super) async fn snapshot(serving: &Serving) -> Result<Vec<Vec<u8>>, HomeError> {
    serving.registry.confirm_newest().await.map_err(away)?;
    let (mut snapshot, mut lines) = (snapshot_lines(&serving.registry).map_err(away)?, Vec::new());
    while let Some(line) = snapshot.next_line().map_err(away)? {
        lines.push(line);
    }
    Ok(lines)
}

/// Its lines, as they come.
pub(super) fn all(home: SimulatedHome, serving: Serving, snapshot: Vec<Vec<u8>>) -> Lines<SnapshotLine> {
    let lines = stream::unfold(Some((home, serving, snapshot.into_iter())), |state| async move {
        let (home, serving, mut snapshot) = state?;
        let line = snapshot.next()?;
        match home.carry(&serving).await.and_then(|()| read(&line)) {
            Ok(line) => Some((Ok(line), Some((home, serving, snapshot)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    lines.boxed()
}

impl SimulatedHome {
    /// A line as the mirror hears it: as it is, but for the bugs.
    fn heard(&self, mut line: FeedLine) -> FeedLine {
        let bugs = self.upstream.home.bugs;
        let changes = &mut line.changes;
        if bugs.announces_no_blobs {
            changes.iter_mut().filter(|change| matches!(change.kind, WireKind::BlobLinked { .. })).for_each(blank);
        }
        if bugs.hears_deletions_late {
            hear_deletions_late(changes);
        }
        if bugs.hands_over_once {
            let handed_over = &self.upstream.handed_over;
            let last = handed_over.load(Ordering::Relaxed);
            changes.iter_mut().filter(|change| change.position.sequence <= last).for_each(blank);
            if let Some(newest) = changes.last() {
                handed_over.fetch_max(newest.position.sequence, Ordering::Relaxed);
            }
        }
        line
    }
}

/// Makes a change one that changes nothing.
fn blank(change: &mut WireChange) {
    let (WireKind::BlobLinked { repository, .. }
    | WireKind::BlobUnlinked { repository, .. }
    | WireKind::ManifestPut { repository, .. }
    | WireKind::ManifestDeleted { repository, .. }
    | WireKind::TagDeleted { repository, .. }) = &change.kind;
    change.kind = WireKind::TagDeleted { repository: repository.clone(), tag: "none".parse().expect("a tag") };
}

/// Puts the deletions of tags behind everything that came after them, as far as it came together.
fn hear_deletions_late(changes: &mut [WireChange]) {
    for at in 1..changes.len() {
        let [older, newer] = &mut changes[at - 1..=at] else { continue };
        if matches!(older.kind, WireKind::TagDeleted { .. }) {
            std::mem::swap(&mut older.kind, &mut newer.kind);
        }
    }
}

//! How far a mirror is behind its home (promise P10).

use std::time::Duration;

use roadstead_domain::Fault;
use roadstead_metadata::{Following, Query};

use crate::calendar::Calendar;
use crate::contact::Seen;
use crate::limits::{MAX_WANTED_LOOKED_AT, SMALL_BYTES};
use crate::mirror::Mirror;

/// How far a mirror is behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// How old what it shows is: since when home has had something that is not published here, or, where nothing is known
    /// to be missing, when home was heard of last. `None` where it is not known: before home was ever heard of, while the
    /// mirror has to be compared with it, and until this process has received all that home had at some moment.
    pub seconds: Option<f64>,
    /// The same without the time in which large blobs were not copied, outside of the calendar's windows, where one is
    /// wanted: what is longer than usual.
    pub overdue: Option<f64>,
    /// The last change that was received.
    pub received: u64,
    /// Changes at home that are not published here, as far as is known; where `seconds` is not, there may be any number.
    pub changes: u64,
    /// Blobs that are not here.
    pub blobs: u64,
    /// Their bytes, each blob counted once.
    pub bytes: u64,
    /// Whether home was heard of lately.
    pub home_is_there: bool,
    /// Whether the mirror is being compared with its home anew.
    pub comparing: bool,
}

impl Mirror {
    /// How far this mirror is behind, as this replica sees it.
    pub fn lag(&self) -> Result<Lag, Fault> {
        let query = self.registry.metadata().query()?;
        let following = query.following()?;
        let oldest = query.oldest_waiting()?;
        let seen = self.contact.seen();
        let received = following.map(|following| following.position).unwrap_or_default();
        let waiting = following.map_or(0, |following| following.waiting);
        // Sequences of two histories say nothing of each other.
        let unseen = seen.and_then(|seen| match following {
            None if seen.newest.sequence == 0 => Some(0),
            Some(following) if follows(&following, &seen) => {
                Some(seen.newest.sequence.saturating_sub(received.sequence))
            }
            None | Some(_) => None,
        });
        let behind_since = |counted: &Calendar| {
            let (seen, unseen) = seen.zip(unseen)?;
            let silence = seen.at.elapsed();
            // What has not been received is at most as old as the last line in which everything was.
            let behind = match oldest {
                Some((_, at)) => counted.open_between(at, seen.time),
                None if unseen > 0 => return self.caught_up().map(|ago| ago.as_secs_f64()),
                None => Duration::ZERO,
            };
            Some((silence + behind).as_secs_f64())
        };
        let seconds = behind_since(&Calendar::default());
        let overdue = if self.waits_for_a_window(&query)? { behind_since(&self.calendar) } else { seconds };
        Ok(Lag {
            seconds,
            overdue,
            received: received.sequence,
            changes: unseen.unwrap_or_default() + waiting,
            blobs: following.map_or(0, |following| following.wanted_blobs),
            bytes: following.map_or(0, |following| following.wanted_bytes),
            home_is_there: self.contact.is_there(),
            comparing: following.is_some_and(|following| following.comparing),
        })
    }
}

impl Mirror {
    /// Whether a blob is wanted that is copied in windows only.
    fn waits_for_a_window(&self, query: &Query) -> Result<bool, Fault> {
        let wanted = if self.calendar.0.is_empty() { Vec::new() } else { query.wanted(None, MAX_WANTED_LOOKED_AT)? };
        Ok(wanted.iter().any(|wanted| wanted.size > SMALL_BYTES))
    }
}

/// Whether what was received is a part of the history that home speaks of.
fn follows(following: &Following, seen: &Seen) -> bool {
    let epochs = (following.position.epoch, seen.newest.epoch);
    !following.comparing && following.home == seen.home && (following.position.sequence == 0 || epochs.0 == epochs.1)
}

#[cfg(test)]
mod tests {
    use roadstead_metadata::{ClusterId, LogTime, Position};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn p10_what_was_received_of_another_history_says_nothing_of_this_one() {
        let position = |epoch, sequence| Position { epoch, sequence };
        let seen = Seen {
            home: ClusterId(1),
            newest: position(2, 5),
            time: LogTime(9),
            at: Instant::now(),
            writes: false,
            reports: false,
            partial: false,
        };
        let following = Following {
            home: ClusterId(1),
            position: position(2, 5),
            comparing: false,
            waiting: 0,
            wanted_blobs: 0,
            wanted_bytes: 0,
        };
        assert!(follows(&following, &seen));
        assert!(!follows(&Following { position: position(1, 900), ..following }, &seen));
        assert!(!follows(&Following { comparing: true, ..following }, &seen));
        assert!(!follows(&Following { home: ClusterId(7), ..following }, &seen));
    }
}

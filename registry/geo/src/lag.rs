//! How far a mirror is behind its home (promise P10).

use std::time::Duration;

use roadstead_domain::Fault;

use crate::mirror::Mirror;

/// How far a mirror is behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// How old what it shows is: since when home has had something that is not published here, or, where nothing is known
    /// to be missing, when home was heard of last. `None` before home was ever heard of.
    pub seconds: Option<f64>,
    /// The last change that was received.
    pub received: u64,
    /// Changes at home that are not published here, as far as is known.
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
        let unseen = seen.map_or(0, |seen| seen.newest.sequence.saturating_sub(received.sequence));
        let seconds = seen.map(|seen| {
            let silence = seen.at.elapsed();
            // What has not been received is at most as old as the last line in which everything was.
            let behind = match oldest {
                Some((_, at)) => Duration::from_millis(seen.time.0.saturating_sub(at.0)),
                None if unseen > 0 => self.caught_up().unwrap_or_default(),
                None => Duration::ZERO,
            };
            (silence + behind).as_secs_f64()
        });
        Ok(Lag {
            seconds,
            received: received.sequence,
            changes: unseen + waiting,
            blobs: following.map_or(0, |following| following.wanted_blobs),
            bytes: following.map_or(0, |following| following.wanted_bytes),
            home_is_there: self.contact.is_there(),
            comparing: following.is_some_and(|following| following.comparing),
        })
    }
}

//! Reading the log as it was applied, for a backup.

use std::io;

use bytes::Bytes;
use openraft::EntryPayload;

use super::Group;
use super::config::{Entry, Proposal};

/// An entry of the log that is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place, from 0.
    pub index: u64,
    /// The Raft term in which it was appended.
    pub term: u64,
    /// An encoded [`Envelope`](crate::Envelope); none where the entry is only about the group itself.
    pub proposal: Option<Bytes>,
}

impl LogEntry {
    fn of(entry: Entry) -> Self {
        let proposal = match entry.payload {
            EntryPayload::Normal(Proposal(bytes)) => Some(bytes),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        Self { index: entry.log_id.index, term: entry.log_id.leader_id.term, proposal }
    }
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// The log does not reach back so far any more: take a snapshot.
    #[error("the log begins behind entry {0}")]
    Purged(u64),
    /// The log could not be read.
    #[error("the log could not be read: {0}")]
    Io(#[from] io::Error),
}

impl Group {
    /// The applied entries from `from` to before `end`, up to about `limit` bytes but at least one.
    pub(crate) async fn entries(&self, from: u64, end: u64, limit: usize) -> Result<Vec<LogEntry>, EntriesError> {
        let end = end.min(*self.subscribe_applied().borrow());
        if from >= end {
            return Ok(Vec::new());
        }
        let entries = self.log().read(from..end, limit).await?;
        match entries.first() {
            Some(first) if first.log_id.index == from => Ok(entries.into_iter().map(LogEntry::of).collect()),
            Some(_) | None => Err(EntriesError::Purged(from)),
        }
    }
}

//! Reading the log as it was applied, for a backup.

use std::io;

use bytes::Bytes;
use openraft::EntryPayload;

use super::Group;
use super::config::{Entry, Proposal};
use crate::encoding::decode;
use crate::{BeginHistory, Command, Envelope, History, QueryError};

/// An entry of the log that is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place, from 0.
    pub index: u64,
    /// The Raft term in which it was appended.
    pub term: u64,
    /// An encoded [`Envelope`]; none where the entry is only about the group itself.
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
    /// The history that the facts have, or will when the log is applied: right after a start they are those of the last
    /// checkpoint, and what follows is known to be agreed on only when others say so.
    pub(crate) async fn history(&self) -> Result<Option<History>, QueryError> {
        let query = self.query()?;
        let (known, applied) = (query.history()?, query.entries_applied()?);
        drop(query);
        if known.is_some() {
            return Ok(known);
        }
        let entries = self.log().read(applied..u64::MAX, usize::MAX).await.map_err(QueryError::storage)?;
        let begun = entries.into_iter().find_map(|entry| {
            let envelope = decode::<Envelope>(&LogEntry::of(entry).proposal?).ok()?;
            let Command::BeginHistory(BeginHistory { history: id, storage }) = envelope.command else { return None };
            Some(History { id, storage, incarnation: 1, parent: None, begun: envelope.at })
        });
        Ok(begun)
    }

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

//! All facts of one moment, for a backup.

use std::io::Write;

use crate::raft::applied_id;
use crate::state::{Export, ReadRows};
use crate::{LogTime, Position, Query, QueryError};

/// All facts of one moment. Holding one keeps old pages of the state from being reused.
pub struct Snapshot {
    rows: Export,
    entries: u64,
    term: u64,
    position: Position,
    time: LogTime,
}

impl Snapshot {
    pub(crate) fn of(rows: ReadRows) -> Result<Self, QueryError> {
        let (term, entries) = applied_id(&rows)?.map_or((0, 0), |(term, index)| (term, index + 1));
        let query = Query::new(rows);
        let (position, time) = (query.position()?, query.time()?);
        Ok(Self { rows: Export::View(query.into_rows()), entries, term, position, time })
    }

    /// How many entries of the log are in it, from the first on.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The Raft term of the last of them.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The newest change that is in it.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The state's time.
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// Writes it, with a checksum at its end; see [`Rebuild::load`](crate::Rebuild::load). Blocks.
    pub fn write_to(&self, out: impl Write) -> Result<(), QueryError> {
        self.rows.write_to(out)
    }
}

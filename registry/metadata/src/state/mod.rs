//! The state: what the log comes to, on local disk.
//!
//! ```text
//! entries -> Apply (pure: rows + entry -> rows + outcome) -> one write transaction -> redb
//!                                                             |  not synced: the log has the entries
//!                                                             '- synced every now and then: a checkpoint
//! ```
//!
//! * Only [`Apply`] writes facts, and reads nothing but the rows and the entry. So replicas that applied the same
//!   entries hold the same rows, and replaying the log equals restoring a snapshot.
//! * What the consensus knows of itself (how far the log is applied) is written in the same transaction as the facts.
//! * After a crash the file is what it was at the last checkpoint, at once and without a repair; the log replays the
//!   rest. The log is purged only up to a checkpoint.
//! * The file is its own snapshot: a read transaction sees one state for as long as it lives, and does not stop writers.

mod apply;
mod export;
pub(crate) mod keyspace;
mod replace;
pub(crate) mod rows;
mod table;

use std::io;
use std::path::Path;

pub(crate) use apply::{Apply, CHANGES_KEPT, FIRST_NODE};
pub(crate) use export::{Export, Piece, Pieces};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, StorageBackend, TableError};
#[cfg(test)]
pub(crate) use table::LOOKED_AT;
pub(crate) use table::{ReadRows, Rows};
use table::{TABLE, WriteRows};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::{OpenError, QueryError};

/// The state's file.
pub(crate) struct State {
    database: Database,
}

/// Whether a write is on disk when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// In memory and, some time, in the file: what a crash forgets, the log still has.
    Deferred,
    /// This write and all before it are on disk.
    Checkpoint,
}

impl State {
    /// Opens the file, or begins it.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        let database = match disk.simulated_latency() {
            None => builder.create(path),
            Some(_) => match disk.open(path, OpenMode::Any) {
                Ok(file) => builder.create_with_backend(SimulatedFile(file)),
                Err(source) => return Err(OpenError::Io { path: path.to_owned(), source }),
            },
        };
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.to_owned()),
            DatabaseError::Storage(redb::StorageError::Io(source)) => OpenError::Io { path: path.to_owned(), source },
            error => OpenError::Damaged(format!(
                "the state {} cannot be opened: {error}. Move it away: the replica then catches up from its peers, or \
                 from a backup",
                path.display()
            )),
        })?;
        let state = Self { database };
        state
            .begin_table()
            .and_then(|()| state.drop_incoming())
            .map_err(|error| OpenError::Damaged(error.to_string()))?;
        Ok(state)
    }

    /// A state in memory only.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let database = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new());
        let state = Self { database: database.expect("memory is always available") };
        state.begin_table().expect("memory can be written");
        state
    }

    /// Writes in one transaction: all of it or, if `write` fails, nothing.
    pub(crate) fn write<R>(
        &self,
        sync: Sync,
        write: impl FnOnce(&mut Apply<'_>) -> Result<R, QueryError>,
    ) -> Result<R, QueryError> {
        self.transact(sync, |rows| {
            let mut apply = Apply::new(rows)?;
            let result = write(&mut apply)?;
            apply.finish()?;
            Ok(result)
        })
    }

    /// Writes in one transaction, and keeps it only if `write` says so.
    pub(crate) fn write_if(
        &self,
        write: impl FnOnce(&mut Apply<'_>) -> Result<bool, QueryError>,
    ) -> Result<bool, QueryError> {
        let transaction = self.begin(Sync::Deferred)?;
        let mut apply = Apply::new(Rows::new(transaction.open_table(TABLE)?))?;
        if !write(&mut apply)? {
            drop(apply);
            transaction.abort()?;
            return Ok(false);
        }
        apply.finish()?;
        transaction.commit()?;
        Ok(true)
    }

    /// Makes everything written so far durable.
    pub(crate) fn checkpoint(&self) -> Result<(), QueryError> {
        self.transact(Sync::Checkpoint, |_| Ok(()))
    }

    /// The rows as they are now.
    pub(crate) fn read(&self) -> Result<ReadRows, QueryError> {
        Ok(Rows::new(self.database.begin_read()?.open_table(TABLE)?))
    }

    /// A table that was never written does not exist, and could not be read.
    fn begin_table(&self) -> Result<(), QueryError> {
        match self.database.begin_read()?.open_table(TABLE) {
            Err(TableError::TableDoesNotExist(_)) => self.transact(Sync::Deferred, |_| Ok(())),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    fn transact<R>(
        &self,
        sync: Sync,
        write: impl FnOnce(WriteRows<'_>) -> Result<R, QueryError>,
    ) -> Result<R, QueryError> {
        let transaction = self.begin(sync)?;
        let result = write(Rows::new(transaction.open_table(TABLE)?))?;
        transaction.commit()?;
        Ok(result)
    }

    fn begin(&self, sync: Sync) -> Result<redb::WriteTransaction, QueryError> {
        let mut transaction = self.database.begin_write()?;
        match sync {
            Sync::Deferred => transaction.set_durability(Durability::None)?,
            // The allocator's state goes with it, so that opening after a crash need not walk the file.
            Sync::Checkpoint => transaction.set_quick_repair(true),
        }
        Ok(transaction)
    }
}

/// A file of a simulated disk, as redb wants it.
#[derive(Debug)]
struct SimulatedFile(Box<dyn DiskFile>);

impl StorageBackend for SimulatedFile {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.0.set_length(length)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write_all_at(data, offset)
    }
}

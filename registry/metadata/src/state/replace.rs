//! Replacing all rows by those of another moment, as a snapshot brings them.
//!
//! ```text
//! rows --some at a time, synced, and a rest--> the table `incoming` --one transaction: drop `facts`, rename--> `facts`
//! ```
//!
//! One transaction for all would be synced at its end as one heap, and the disk, which others wait for too, would do
//! nothing else for as long; so it would with many small ones and no rest between them. A crash on the way leaves the
//! rows as they were, and what had come in is dropped.

use std::time::Duration;

use redb::{ReadableDatabase, TableDefinition, TableError};
use tokio::time::Instant;

use super::export::Export;
use super::table::{Rows, TABLE, WriteRows};
use super::{State, Sync};
use crate::QueryError;

/// Rows that are not in force yet.
const INCOMING: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("incoming");

/// Bytes of rows that are written and synced at once.
const SYNCED_AT_ONCE: usize = if cfg!(test) { 4 * 1024 } else { 128 * 1024 };

/// How much longer than it took to write and sync them the disk is left to others afterwards; and how long at most, once
/// and in all: coming to an end before the log goes on without this replica counts for more.
const REST: u32 = 3;
const REST_MAX: Duration = Duration::from_millis(100);
const RESTS_MAX: Duration = Duration::from_secs(10);

/// Rows that wait to be written, one behind the other.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Of a key and its value.
    lengths: Vec<(usize, usize)>,
}

impl Waiting {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.lengths.push((key.len(), value.len()));
    }

    fn write_to(&mut self, mut rows: WriteRows<'_>) -> Result<(), QueryError> {
        let mut rest = &self.bytes[..];
        for (key_length, value_length) in self.lengths.drain(..) {
            let (key, behind) = rest.split_at(key_length);
            let (value, behind) = behind.split_at(value_length);
            rows.put_raw(key, value)?;
            rest = behind;
        }
        self.bytes.clear();
        Ok(())
    }
}

impl State {
    /// Replaces every row, durably: all of them or, after a crash or an error, none. Calls `rest` with how long the disk
    /// should be left to others, again and again.
    pub(crate) fn replace(&self, rows: &Export, rest: impl Fn(Duration)) -> Result<(), QueryError> {
        self.drop_incoming()?;
        let (mut waiting, mut rested) = (Waiting::default(), Duration::ZERO);
        rows.for_each(|key, value| {
            waiting.push(key, value);
            if waiting.bytes.len() < SYNCED_AT_ONCE {
                return Ok(());
            }
            let begun = Instant::now();
            let transaction = self.begin(Sync::Checkpoint)?;
            waiting.write_to(Rows::new(transaction.open_table(INCOMING)?))?;
            transaction.commit()?;
            let pause = REST_MAX.min(REST * begun.elapsed());
            if rested < RESTS_MAX {
                rested += pause;
                rest(pause);
            }
            Ok(())
        })?;
        let transaction = self.begin(Sync::Checkpoint)?;
        waiting.write_to(Rows::new(transaction.open_table(INCOMING)?))?;
        transaction.delete_table(TABLE)?;
        transaction.rename_table(INCOMING, TABLE)?;
        Ok(transaction.commit()?)
    }

    /// Drops what a replacement that was cut off has left.
    pub(super) fn drop_incoming(&self) -> Result<(), QueryError> {
        match self.database.begin_read()?.open_table(INCOMING) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            other => drop(other?),
        }
        let transaction = self.begin(Sync::Deferred)?;
        transaction.delete_table(INCOMING)?;
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalDisk;

    fn with_rows(rows: impl IntoIterator<Item = u32>, length: usize) -> State {
        let state = State::in_memory();
        let transaction = state.begin(Sync::Checkpoint).unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for row in rows {
                table.insert(&row.to_be_bytes()[..], &vec![7; length][..]).unwrap();
            }
        }
        transaction.commit().unwrap();
        state
    }

    fn rows_of(state: &State) -> Vec<(Vec<u8>, usize)> {
        let mut rows = Vec::new();
        let all = Export::View(state.read().unwrap());
        all.for_each(|key, value| {
            rows.push((key.to_vec(), value.len()));
            Ok(())
        })
        .unwrap();
        rows
    }

    /// What a crash on the way leaves in the file.
    fn begin_incoming(state: &State) {
        let transaction = state.begin(Sync::Checkpoint).unwrap();
        transaction.open_table(INCOMING).unwrap().insert(&b"left"[..], &b"over"[..]).unwrap();
        transaction.commit().unwrap();
    }

    #[test]
    fn all_rows_are_replaced_however_many_times_it_is_synced_on_the_way() {
        let (state, other) = (with_rows(0..50, 10), with_rows(40..1_000, 100));
        state.replace(&Export::View(other.read().unwrap()), drop).unwrap();
        const { assert!(960 * 104 > 10 * SYNCED_AT_ONCE, "it was synced more than once") };
        assert_eq!(rows_of(&state), rows_of(&other));
    }

    #[test]
    fn what_a_replacement_that_was_cut_off_has_left_never_shows() {
        let (state, other) = (with_rows(0..50, 10), with_rows(100..110, 10));
        begin_incoming(&state);
        assert_eq!(rows_of(&state), rows_of(&with_rows(0..50, 10)), "the rows are as they were");
        state.replace(&Export::View(other.read().unwrap()), drop).unwrap();
        assert_eq!(rows_of(&state), rows_of(&other));
    }

    #[test]
    fn opening_drops_what_a_crash_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let open = || State::open(&LocalDisk, &folder.path().join("state.redb"), 1 << 20).unwrap();
        begin_incoming(&open());
        let left = open().database.begin_read().unwrap().open_table(INCOMING);
        assert!(matches!(left, Err(TableError::TableDoesNotExist(_))), "{left:?}");
    }
}

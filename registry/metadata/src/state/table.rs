//! Typed reading and writing of the one ordered table.

use std::ops::Bound;

use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keyspace::{Parts, Region, Span};
use crate::QueryError;
use crate::encoding::{decode, encode};

/// The one table that holds everything.
pub(crate) const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("facts");

/// The table as it stood when it was opened.
pub(crate) type ReadRows = Rows<ReadOnlyTable<&'static [u8], &'static [u8]>>;

/// The table inside of a write transaction.
pub(crate) type WriteRows<'txn> = Rows<Table<'txn, &'static [u8], &'static [u8]>>;

/// The bytes of every row from the first on.
pub(crate) type RowsInOrder = redb::Range<'static, &'static [u8], &'static [u8]>;

impl ReadRows {
    /// Every row, for as long as it takes to read them.
    pub(crate) fn in_order(&self) -> Result<RowsInOrder, QueryError> {
        Ok(self.0.range::<&[u8]>(..)?)
    }
}

#[cfg(test)]
thread_local! {
    /// Rows that scans of this thread have looked at.
    pub(crate) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Rows by region.
pub(crate) struct Rows<T>(T);

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Rows<T> {
    pub(crate) fn new(table: T) -> Self {
        Self(table)
    }

    /// The bytes of every row, for export.
    pub(crate) fn table(&self) -> &T {
        &self.0
    }

    pub(crate) fn get<K: Parts, V: DeserializeOwned>(
        &self,
        region: Region<K, V>,
        parts: K::Ref<'_>,
    ) -> Result<Option<V>, QueryError> {
        let value = self.0.get(&region.key(parts)[..])?;
        value.map(|value| read_value(region, value.value())).transpose()
    }

    pub(crate) fn has<K: Parts, V>(&self, region: Region<K, V>, parts: K::Ref<'_>) -> Result<bool, QueryError> {
        Ok(self.0.get(&region.key(parts)[..])?.is_some())
    }

    /// The rows of a stretch of a region, in order.
    pub(crate) fn scan<K: Parts, V: DeserializeOwned>(
        &self,
        region: Region<K, V>,
        span: Span,
    ) -> Result<impl DoubleEndedIterator<Item = Result<(K, V), QueryError>>, QueryError> {
        // A start beyond the end is a question without an answer, such as "older than the beginning".
        let empty = span.is_empty();
        let Span { start, end } = span;
        let (start, end) = (start.as_ref().map(|key| &key[..]), Bound::Excluded(&end[..]));
        let range = if empty { None } else { Some(self.0.range::<&[u8]>((start, end))?) };
        Ok(range.into_iter().flatten().map(move |row| {
            #[cfg(test)]
            LOOKED_AT.with(|rows| rows.set(rows.get() + 1));
            let (key, value) = row?;
            let parts = region.parts(key.value()).ok_or_else(|| damaged(region, "its key is malformed"))?;
            Ok((parts, read_value(region, value.value())?))
        }))
    }

    /// The keys of the first `limit` rows of a stretch of a region.
    pub(crate) fn keys<K: Parts, V: DeserializeOwned>(
        &self,
        region: Region<K, V>,
        span: Span,
        limit: usize,
    ) -> Result<Vec<K>, QueryError> {
        self.scan(region, span)?.take(limit).map(|row| Ok(row?.0)).collect()
    }
}

impl Rows<Table<'_, &'static [u8], &'static [u8]>> {
    pub(crate) fn put<K: Parts, V: Serialize>(
        &mut self,
        region: Region<K, V>,
        parts: K::Ref<'_>,
        value: &V,
    ) -> Result<(), QueryError> {
        self.0.insert(&region.key(parts)[..], &encode(value)[..])?;
        Ok(())
    }

    pub(crate) fn put_raw(&mut self, key: &[u8], value: &[u8]) -> Result<(), QueryError> {
        self.0.insert(key, value)?;
        Ok(())
    }

    pub(crate) fn remove<K: Parts, V>(&mut self, region: Region<K, V>, parts: K::Ref<'_>) -> Result<(), QueryError> {
        self.0.remove(&region.key(parts)[..])?;
        Ok(())
    }

    pub(crate) fn take<K: Parts, V: DeserializeOwned>(
        &mut self,
        region: Region<K, V>,
        parts: K::Ref<'_>,
    ) -> Result<Option<V>, QueryError> {
        let value = self.0.remove(&region.key(parts)[..])?;
        value.map(|value| read_value(region, value.value())).transpose()
    }
}

fn read_value<K: Parts, V: DeserializeOwned>(region: Region<K, V>, value: &[u8]) -> Result<V, QueryError> {
    decode(value).map_err(|error| damaged(region, &error.to_string()))
}

fn damaged<K: Parts, V>(region: Region<K, V>, what: &str) -> QueryError {
    QueryError::Damaged(format!("a row of region {:#04x}: {what}", region.number()))
}

//! All rows of one moment, to be sent to another replica or to a backup, and how they are taken in.
//!
//! ```text
//! magic | (key length u32 | value length u32 | key | value)* | u32::MAX | number of rows u64 | crc32 of all before
//! ```

use std::io::{self, BufReader, Read, Write};

use redb::ReadableTable;

use super::keyspace::LEVEL;
use super::table::{ReadRows, RowsInOrder};
use crate::disk::{DiskFile, FileReader};
use crate::encoding::decode;
use crate::{Level, QueryError};

/// What every export begins with: what it is, and the format.
const MAGIC: &[u8; 8] = b"rsfacts1";

/// The part of it that is the same in every format.
const KIND: &[u8] = MAGIC.split_at(7).0;

/// Stands where a key's length would: the rows are over.
const END: u32 = u32::MAX;

/// A row longer than this is a damaged length. The longest are manifests of
/// [`MAX_INLINE`](crate::PutManifest::MAX_INLINE) bytes; a change or a result that names thousands of digests is below
/// a megabyte.
const MAX_FIELD: u32 = 16 * 1024 * 1024;

/// All rows of one moment.
pub(crate) enum Export {
    /// Of our own state.
    View(ReadRows),
    /// As another replica sent them: a whole, checked file.
    File { file: Box<dyn DiskFile>, level: Level },
}

impl Export {
    /// Takes in what another replica wrote, having checked that it is whole.
    pub(crate) fn received(file: Box<dyn DiskFile>) -> io::Result<Self> {
        let (key, mut level) = (LEVEL.key(()), Level::default());
        read_rows(&*file, |row, value| {
            if row == key {
                level = decode(value).map_err(|error| damaged(&format!("its level: {error}")))?;
            }
            Ok(())
        })?;
        Ok(Self::File { file, level })
    }

    /// Refuses bytes that do not begin like an export that this release reads.
    pub(crate) fn check_format(begin: &[u8]) -> io::Result<()> {
        match begin.strip_prefix(KIND) {
            Some([format, ..]) if *format == MAGIC[KIND.len()] => Ok(()),
            Some([format, ..]) => Err(unread(&format!(
                "the snapshot has format {}, and this release reads up to format {}: run the release that wrote it, or a \
                 later one",
                char::from(*format),
                char::from(MAGIC[KIND.len()])
            ))),
            _ => Err(damaged("it does not begin like one")),
        }
    }

    /// The level in force in these facts.
    pub(crate) fn level(&self) -> Result<Level, QueryError> {
        match self {
            Self::View(rows) => Ok(rows.get(LEVEL, ())?.unwrap_or_default()),
            Self::File { level, .. } => Ok(*level),
        }
    }

    /// Writes it for another replica.
    pub(crate) fn write_to(&self, mut out: impl Write) -> Result<(), QueryError> {
        let mut pieces = self.pieces()?;
        while let Some(piece) = pieces.next(WRITTEN_AT_ONCE)? {
            out.write_all(&piece.bytes).map_err(QueryError::storage)?;
        }
        out.flush().map_err(QueryError::storage)
    }

    /// The same bytes, one piece after the other.
    pub(crate) fn pieces(&self) -> Result<Pieces, QueryError> {
        let Self::View(rows) = self else {
            return Err(QueryError::Damaged("what another replica sent is not sent on".to_owned()));
        };
        Ok(Pieces { rows: rows.in_order()?, row_count: 0, sum: crc32fast::Hasher::new(), begun: false, ended: false })
    }

    /// Visits every row, in order.
    pub(crate) fn for_each(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        match self {
            Self::View(rows) => {
                for row in rows.table().iter()? {
                    let (key, value) = row?;
                    visit(key.value(), value.value())?;
                }
                Ok(())
            }
            Self::File { file, .. } => read_rows(&**file, |key, value| visit(key, value).map_err(io::Error::other))
                .map_err(QueryError::storage),
        }
    }
}

/// Bytes that go to a writer at once.
const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// A stretch of an export.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    /// Nothing follows.
    pub(crate) is_last: bool,
}

/// An export that is being read. It holds no transaction that would stop writers.
pub(crate) struct Pieces {
    rows: RowsInOrder,
    row_count: u64,
    /// Of all that was read.
    sum: crc32fast::Hasher,
    begun: bool,
    ended: bool,
}

impl Pieces {
    /// The next piece, of at least `size` bytes unless it is the last one.
    pub(crate) fn next(&mut self, size: usize) -> Result<Option<Piece>, QueryError> {
        if self.ended {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(size);
        if !std::mem::replace(&mut self.begun, true) {
            bytes.extend_from_slice(MAGIC);
        }
        while bytes.len() < size {
            let Some(row) = self.rows.next() else {
                self.ended = true;
                break;
            };
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            bytes.extend_from_slice(&length(key)?.to_be_bytes());
            bytes.extend_from_slice(&length(value)?.to_be_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
            self.row_count += 1;
        }
        if self.ended {
            bytes.extend_from_slice(&END.to_be_bytes());
            bytes.extend_from_slice(&self.row_count.to_be_bytes());
        }
        self.sum.update(&bytes);
        if self.ended {
            bytes.extend_from_slice(&self.sum.clone().finalize().to_be_bytes());
        }
        Ok(Some(Piece { bytes, is_last: self.ended }))
    }
}

fn length(field: &[u8]) -> Result<u32, QueryError> {
    u32::try_from(field.len())
        .ok()
        .filter(|length| *length <= MAX_FIELD)
        .ok_or_else(|| QueryError::Damaged(format!("a row of {} bytes is too long to be one", field.len())))
}

fn read_rows(file: &dyn DiskFile, mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut input = Summed { inner: BufReader::new(FileReader::new(file)?), sum: crc32fast::Hasher::new() };
    Export::check_format(&read_array::<{ MAGIC.len() }>(&mut input)?)?;
    let (mut rows, mut key, mut value) = (0_u64, Vec::new(), Vec::new());
    loop {
        let key_length = u32::from_be_bytes(read_array(&mut input)?);
        if key_length == END {
            break;
        }
        let value_length = u32::from_be_bytes(read_array(&mut input)?);
        if key_length > MAX_FIELD || value_length > MAX_FIELD {
            return Err(damaged("a row is too long"));
        }
        key.resize(key_length as usize, 0);
        value.resize(value_length as usize, 0);
        input.read_exact(&mut key)?;
        input.read_exact(&mut value)?;
        visit(&key, &value)?;
        rows += 1;
    }
    if u64::from_be_bytes(read_array(&mut input)?) != rows {
        return Err(damaged("rows are missing"));
    }
    let sum = input.sum.clone().finalize();
    if u32::from_be_bytes(read_array(&mut input.inner)?) != sum {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(())
}

fn damaged(what: &str) -> io::Error {
    unread(&format!("the snapshot is damaged: {what}"))
}

fn unread(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    input.read_exact(&mut array)?;
    Ok(array)
}

/// Passes bytes through and sums them up.
struct Summed<T> {
    inner: T,
    sum: crc32fast::Hasher,
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.sum.update(&bytes[..read]);
        Ok(read)
    }
}

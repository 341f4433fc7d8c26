//! The objects of a backup, byte by byte. Numbers are big-endian.
//!
//! ```text
//! segment  = "rslogsg1" | history 16 | first u64 | last u64 | reached? u8 | place | entry* | crc32 of all before
//! entry    = term u64 | command? u8 | length u32 | envelope
//! snapshot = "rssnaps1" | history 16 | entries u64 | term u64 | place | crc32 of all before | export
//! place    = epoch u64 | sequence u64 | time u64
//! marker   = lines of text, the last one "crc32 <8 digits>" of all before
//! ```
//!
//! The digit at the end of a title is the format. An envelope and the rows of an export carry formats of their own.

use std::fmt::Write as _;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use roadstead_metadata::{Ancestor, History, LogEntry, LogTime, Position};
use uuid::Uuid;

use super::Place;

const SEGMENT: [u8; 7] = *b"rslogsg";
const SNAPSHOT: [u8; 7] = *b"rssnaps";
const MARKER: &str = "roadstead marker ";
const FORMAT: u8 = b'1';

/// Bytes of a place.
const PLACE: usize = 3 * 8;

/// Bytes in front of a segment's entries.
const SEGMENT_HEADER: usize = 8 + 16 + 2 * 8 + 1 + PLACE;

/// Bytes in front of a snapshot's export.
pub(super) const SNAPSHOT_HEADER: usize = 8 + 16 + 2 * 8 + PLACE + 4;

/// Bytes in front of an entry's envelope.
const ENTRY_HEADER: usize = 8 + 1 + 4;

/// Why an object is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("it has format {0}, and this release reads format 1: use the release that wrote it, or a later one")]
    Later(char),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Entries of a history's log, in order and without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub history: Uuid,
    /// Not empty.
    pub entries: Vec<LogEntry>,
    /// Where the facts stand after the last of them, if that was known.
    pub reached: Option<Place>,
}

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SnapshotHeader {
    pub history: Uuid,
    /// How many entries of the log are in it, from the first on.
    pub entries: u64,
    /// The Raft term of the last of them.
    pub term: u64,
    pub place: Place,
}

impl Segment {
    pub(super) fn encode(&self) -> Bytes {
        let length: usize = self.entries.iter().map(|entry| ENTRY_HEADER + envelope(entry).len()).sum();
        let mut out = BytesMut::with_capacity(SEGMENT_HEADER + length + 4);
        put_title(&mut out, SEGMENT);
        out.put_slice(self.history.as_bytes());
        out.put_u64(self.entries.first().map_or(0, |entry| entry.index));
        out.put_u64(self.entries.last().map_or(0, |entry| entry.index));
        out.put_u8(self.reached.is_some().into());
        put_place(&mut out, self.reached);
        for entry in &self.entries {
            out.put_u64(entry.term);
            out.put_u8(entry.proposal.is_some().into());
            // No entry is longer than a proposal may be, which is a few megabytes.
            out.put_u32(u32::try_from(envelope(entry).len()).unwrap_or(u32::MAX));
            out.put_slice(envelope(entry));
        }
        out.put_u32(crc32fast::hash(&out));
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, FormatError> {
        check_title(&bytes, SEGMENT)?;
        let mut rest = checked(bytes)?;
        if rest.len() < SEGMENT_HEADER {
            return Err(FormatError::Damaged("it is too short"));
        }
        rest.advance(8);
        let history = get_uuid(&mut rest);
        let (first, last) = (rest.get_u64(), rest.get_u64());
        let is_known = rest.get_u8() == 1;
        let reached = get_place(&mut rest);
        let mut entries = Vec::new();
        for index in first..=last {
            if rest.len() < ENTRY_HEADER {
                return Err(FormatError::Damaged("entries are missing"));
            }
            let (term, has_command, length) = (rest.get_u64(), rest.get_u8() == 1, rest.get_u32() as usize);
            if rest.len() < length {
                return Err(FormatError::Damaged("an entry is cut off"));
            }
            let envelope = rest.split_to(length);
            entries.push(LogEntry { index, term, proposal: has_command.then_some(envelope) });
        }
        if !rest.is_empty() {
            return Err(FormatError::Damaged("it is too long"));
        }
        Ok(Self { history, entries, reached: is_known.then_some(reached) })
    }
}

impl SnapshotHeader {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(SNAPSHOT_HEADER);
        put_title(&mut out, SNAPSHOT);
        out.put_slice(self.history.as_bytes());
        out.put_u64(self.entries);
        out.put_u64(self.term);
        put_place(&mut out, Some(self.place));
        out.put_u32(crc32fast::hash(&out));
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, FormatError> {
        check_title(&bytes, SNAPSHOT)?;
        let mut rest = checked(bytes)?;
        if rest.len() != SNAPSHOT_HEADER - 4 {
            return Err(FormatError::Damaged("its header has another length"));
        }
        rest.advance(8);
        let history = get_uuid(&mut rest);
        Ok(Self { history, entries: rest.get_u64(), term: rest.get_u64(), place: get_place(&mut rest) })
    }
}

/// A marker says of whose facts the store's objects are: text, since people look at it.
pub(super) fn encode_marker(history: &History) -> Bytes {
    let History { id, storage, incarnation, parent, begun } = history;
    let mut text = format!("{MARKER}{}\nstorage {storage}\nhistory {id}\n", char::from(FORMAT));
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name} {value}");
    };
    line("incarnation", incarnation);
    line("begun", &begun.0);
    if let Some(Ancestor { history, entries, position }) = parent {
        line("parent", history);
        line("parent-entries", entries);
        line("parent-epoch", &position.epoch);
        line("parent-sequence", &position.sequence);
    }
    let sum = crc32fast::hash(text.as_bytes());
    let _ = writeln!(text, "crc32 {sum:08x}");
    text.into()
}

pub(super) fn decode_marker(bytes: &[u8]) -> Result<History, FormatError> {
    let damaged = FormatError::Damaged("it is not the text of a marker");
    let text = std::str::from_utf8(bytes).map_err(|_| damaged.clone())?;
    let title = text.strip_prefix(MARKER).ok_or_else(|| damaged.clone())?;
    match title.chars().next() {
        Some(format) if format == char::from(FORMAT) => {}
        Some(format) => return Err(FormatError::Later(format)),
        None => return Err(damaged),
    }
    let at = text.rfind("crc32 ").ok_or_else(|| damaged.clone())?;
    if text[at..].trim_end() != format!("crc32 {:08x}", crc32fast::hash(&text.as_bytes()[..at])) {
        return Err(FormatError::Damaged("its checksum is wrong"));
    }
    read_marker(text).ok_or(damaged)
}

fn read_marker(text: &str) -> Option<History> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let number = |name: &str| value(name)?.parse::<u64>().ok();
    let id = |name: &str| Uuid::try_parse(value(name)?).ok();
    let parent = match value("parent") {
        None => None,
        Some(_) => Some(Ancestor {
            history: id("parent")?,
            entries: number("parent-entries")?,
            position: Position { epoch: number("parent-epoch")?, sequence: number("parent-sequence")? },
        }),
    };
    Some(History {
        id: id("history")?,
        storage: id("storage")?,
        incarnation: number("incarnation")?,
        parent,
        begun: LogTime(number("begun")?),
    })
}

fn envelope(entry: &LogEntry) -> &[u8] {
    entry.proposal.as_deref().unwrap_or_default()
}

fn put_title(out: &mut BytesMut, title: [u8; 7]) {
    out.put_slice(&title);
    out.put_u8(FORMAT);
}

fn check_title(bytes: &[u8], title: [u8; 7]) -> Result<(), FormatError> {
    match bytes.strip_prefix(&title) {
        Some([FORMAT, ..]) => Ok(()),
        Some([format, ..]) => Err(FormatError::Later(char::from(*format))),
        Some([]) | None => Err(FormatError::Damaged("it does not begin like one")),
    }
}

/// Without the checksum at the end, which must be right.
fn checked(mut bytes: Bytes) -> Result<Bytes, FormatError> {
    let at = bytes.len().checked_sub(4).ok_or(FormatError::Damaged("it is too short"))?;
    let mut sum = bytes.split_off(at);
    if sum.get_u32() == crc32fast::hash(&bytes) {
        Ok(bytes)
    } else {
        Err(FormatError::Damaged("its checksum is wrong"))
    }
}

fn put_place(out: &mut BytesMut, place: Option<Place>) {
    let Place { position, time } = place.unwrap_or(Place { position: Position::default(), time: LogTime(0) });
    out.put_u64(position.epoch);
    out.put_u64(position.sequence);
    out.put_u64(time.0);
}

fn get_place(rest: &mut Bytes) -> Place {
    let position = Position { epoch: rest.get_u64(), sequence: rest.get_u64() };
    Place { position, time: LogTime(rest.get_u64()) }
}

fn get_uuid(rest: &mut Bytes) -> Uuid {
    Uuid::from_u128(rest.get_u128())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const PLACE: Place = Place { position: Position { epoch: 2, sequence: 300 }, time: LogTime(1_700_000_000_000) };

    fn segment() -> Segment {
        let entry = |index, proposal: Option<&'static [u8]>| LogEntry {
            index,
            term: 3,
            proposal: proposal.map(Bytes::from_static),
        };
        let entries = vec![entry(7, Some(b"an envelope")), entry(8, None), entry(9, Some(b""))];
        Segment { history: Uuid::from_u128(1), entries, reached: Some(PLACE) }
    }

    fn header() -> SnapshotHeader {
        SnapshotHeader { history: Uuid::from_u128(1), entries: 10, term: 3, place: PLACE }
    }

    fn history() -> History {
        let parent = Ancestor { history: Uuid::from_u128(3), entries: 9, position: PLACE.position };
        let [id, storage] = [1, 2].map(Uuid::from_u128);
        History { id, storage, incarnation: 4, parent: Some(parent), begun: PLACE.time }
    }

    /// The bytes of every released format; see `registry/metadata/src/golden.rs`.
    fn golden(name: &str, written: &[u8]) -> Bytes {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1").join(name);
        if std::env::var_os("ROADSTEAD_WRITE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, written).unwrap();
        }
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(golden, written, "{name} is written otherwise");
        golden.into()
    }

    #[test]
    fn golden_objects_of_a_backup() {
        assert_eq!(Segment::decode(golden("segment", &segment().encode())), Ok(segment()));
        let partial = Segment { reached: None, ..segment() };
        assert_eq!(Segment::decode(golden("segment-partial", &partial.encode())), Ok(partial));
        assert_eq!(SnapshotHeader::decode(golden("snapshot-header", &header().encode())), Ok(header()));
        assert_eq!(decode_marker(&golden("marker", &encode_marker(&history()))), Ok(history()));
        let first = History { parent: None, ..history() };
        assert_eq!(decode_marker(&golden("marker-first", &encode_marker(&first))), Ok(first));
    }

    #[test]
    fn whatever_is_cut_or_flipped_is_told() {
        let objects = [segment().encode(), header().encode(), encode_marker(&history())];
        let broken = |kind: usize, bytes: Bytes| match kind {
            0 => Segment::decode(bytes).is_err(),
            1 => SnapshotHeader::decode(bytes).is_err(),
            _ => decode_marker(&bytes).is_err(),
        };
        for (kind, whole) in objects.into_iter().enumerate() {
            for at in 0..whole.len() {
                // Without the last line's end a marker is whole.
                assert!(kind == 2 && at + 1 == whole.len() || broken(kind, whole.slice(..at)), "{kind} cut at {at}");
                let mut flipped = whole.to_vec();
                flipped[at] ^= 0x10;
                assert!(broken(kind, flipped.into()), "{kind} flipped at {at}");
            }
        }
    }

    #[test]
    fn an_object_of_a_later_release_is_not_taken_for_damage() {
        let mut bytes = segment().encode().to_vec();
        bytes[7] = b'2';
        assert_eq!(Segment::decode(bytes.into()), Err(FormatError::Later('2')));
        let marker = String::from_utf8(encode_marker(&history()).to_vec()).unwrap();
        assert_eq!(decode_marker(marker.replacen('1', "2", 1).as_bytes()), Err(FormatError::Later('2')));
    }
}

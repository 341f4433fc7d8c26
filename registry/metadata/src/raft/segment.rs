//! The log's files.
//!
//! ```text
//! <20 digits>.log = frame*       the first of kind Segment: the log's state where the file begins
//! frame = payload length u32 | crc32 u32 | durable u32 | kind u8 | payload      (the sum covers all behind it)
//! ```
//!
//! `durable` is how many bytes of the file were known to be on disk when the frame was made. A crash leaves the end of
//! the last file in any state: short, zeroed, or with a page missing in the middle. So a bad frame there is cut off with
//! all that follows, *unless* a good frame behind it proves that it had been on disk: then acknowledged entries are
//! damaged, and the replica must not pretend that they never were. A file is whole on disk before the next is begun, so
//! in any other file a bad frame is damage.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::OpenError;
use crate::disk::{Disk, DiskFile, FileReader, OpenMode};

/// A file is ended by the first write after this: 64 MiB, so that a purge frees space soon, and files are few.
pub(super) const SEGMENT_BYTES: u32 = 64 * 1024 * 1024;

/// A longer payload is a damaged length. See [`MAX_COMMAND_BYTES`](crate::Metadata::MAX_COMMAND_BYTES).
pub(super) const MAX_PAYLOAD: usize = 8 * 1024 * 1024;

/// Bytes in front of a payload.
pub(super) const FRAME_HEADER: u32 = 13;

/// What a payload is. Persisted: never reuse a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Segment = 1,
    Entry = 2,
    Vote = 3,
    Committed = 4,
    /// The last entry that stays, if any; later ones are dropped.
    Truncated = 5,
    /// The last entry that is dropped from the front.
    Purged = 6,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        [Self::Segment, Self::Entry, Self::Vote, Self::Committed, Self::Truncated, Self::Purged]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// A frame as it was read.
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
    /// Where the payload begins in its file.
    pub(super) offset: u32,
}

/// Appends a frame to bytes that are about to be written.
pub(super) fn write_frame(out: &mut Vec<u8>, kind: Kind, durable: u32, payload: &[u8]) {
    // A payload is never longer than MAX_PAYLOAD: proposals are checked, and the others are small.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&checksum(durable, kind as u8, payload).to_be_bytes());
    out.extend_from_slice(&durable.to_be_bytes());
    out.push(kind as u8);
    out.extend_from_slice(payload);
}

/// The segments of a folder, in order.
pub(super) fn list(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<u64>> {
    let mut sequences = Vec::new();
    for name in disk.list(folder)? {
        sequences.extend(name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// The file of a segment.
pub(super) fn path(folder: &Path, sequence: u64) -> PathBuf {
    folder.join(format!("{sequence:020}.log"))
}

/// Begins a segment: its file exists when this returns, and so does its name after a power cut.
pub(super) fn create(disk: &dyn Disk, folder: &Path, sequence: u64) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.open(&path(folder, sequence), OpenMode::New)?;
    disk.sync_folder(folder)?;
    Ok(file)
}

/// Deletes segments.
pub(super) fn remove(disk: &dyn Disk, folder: &Path, sequences: &[u64]) -> io::Result<()> {
    if sequences.is_empty() {
        return Ok(());
    }
    for sequence in sequences {
        match disk.remove(&path(folder, *sequence)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    disk.sync_folder(folder)
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Behind a good frame.
    Whole(u32),
    /// A crash tore it here; what follows was never acknowledged.
    Torn(u32),
}

/// Visits the frames of a segment in order. `last` says that it is the last one, which a crash may have torn.
pub(super) fn scan(
    disk: &dyn Disk,
    path: &Path,
    last: bool,
    mut visit: impl FnMut(Frame) -> Result<(), OpenError>,
) -> Result<End, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file = disk.open(path, OpenMode::Existing).map_err(io)?;
    let reader = FileReader::new(&*file).map_err(io)?;
    let length = reader.length();
    let mut input = BufReader::with_capacity(READ_BUFFER, reader);
    let mut offset: u32 = 0;
    let why = loop {
        match read_frame(&mut input, offset, length).map_err(io)? {
            Read1::Frame(frame) => {
                offset = frame.offset + len_u32(&frame.payload);
                visit(frame)?;
            }
            Read1::End => return Ok(End::Whole(offset)),
            Read1::Unknown(kind) => {
                return Err(OpenError::Damaged(format!(
                    "the log file {} has a record of kind {kind} at byte {offset}, which this release does not know: \
                     run the release that wrote it, or a later one",
                    path.display()
                )));
            }
            Read1::Bad(why) => break why,
        }
    };
    let torn = last && {
        let mut rest = vec![0; usize::try_from(length - u64::from(offset)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut rest, offset.into()).map_err(io)?;
        !proves_durable(&rest, offset)
    };
    if torn {
        return Ok(End::Torn(offset));
    }
    Err(damaged(path, offset, why))
}

/// The error of a segment that is not what was written.
pub(super) fn damaged(path: &Path, offset: u32, why: &str) -> OpenError {
    OpenError::Damaged(format!(
        "the log file {} is damaged at byte {offset}: {why}. It held acknowledged entries, so the replica does not start \
         without them. Restore the file, or move the replica's folder away and let it catch up from its peers or from a \
         backup",
        path.display()
    ))
}

/// Cuts a torn segment.
pub(super) fn cut(disk: &dyn Disk, path: &Path, end: u32) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Existing)?;
    file.set_length(end.into())?;
    file.sync()
}

/// Frames are mostly far smaller than this.
const READ_BUFFER: usize = 256 * 1024;

enum Read1 {
    Frame(Frame),
    End,
    Bad(&'static str),
    Unknown(u8),
}

fn read_frame(input: &mut impl Read, offset: u32, file_length: u64) -> io::Result<Read1> {
    let left = file_length - u64::from(offset);
    if left == 0 {
        return Ok(Read1::End);
    }
    if left < FRAME_HEADER.into() {
        return Ok(Read1::Bad("it ends in the middle of a record"));
    }
    let mut header = [0; FRAME_HEADER as usize];
    input.read_exact(&mut header)?;
    let header = Header::of(&header);
    if header.length as usize > MAX_PAYLOAD || u64::from(header.length) > left - u64::from(FRAME_HEADER) {
        return Ok(Read1::Bad("a record's length is wrong"));
    }
    let mut payload = vec![0; header.length as usize];
    input.read_exact(&mut payload)?;
    if checksum(header.durable, header.kind, &payload) != header.sum {
        return Ok(Read1::Bad("a record's checksum is wrong"));
    }
    let offset = offset + FRAME_HEADER;
    Ok(Kind::of(header.kind).map_or(Read1::Unknown(header.kind), |kind| Read1::Frame(Frame { kind, payload, offset })))
}

/// Whether a good frame in `rest`, which begins at `offset`, says that the byte at `offset` was on disk before it.
fn proves_durable(rest: &[u8], offset: u32) -> bool {
    (1..rest.len()).any(|at| {
        let Some((header, payload)) = rest[at..].split_first_chunk() else { return false };
        let header = Header::of(header);
        header.durable > offset
            && header.length as usize <= payload.len()
            && checksum(header.durable, header.kind, &payload[..header.length as usize]) == header.sum
    })
}

struct Header {
    length: u32,
    sum: u32,
    durable: u32,
    kind: u8,
}

impl Header {
    fn of(bytes: &[u8; FRAME_HEADER as usize]) -> Self {
        let [l0, l1, l2, l3, s0, s1, s2, s3, d0, d1, d2, d3, kind] = *bytes;
        Self {
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            sum: u32::from_be_bytes([s0, s1, s2, s3]),
            durable: u32::from_be_bytes([d0, d1, d2, d3]),
            kind,
        }
    }
}

fn checksum(durable: u32, kind: u8, payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&durable.to_be_bytes());
    sum.update(&[kind]);
    sum.update(payload);
    sum.finalize()
}

fn len_u32(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalDisk;

    #[test]
    fn a_record_of_a_later_release_is_not_taken_for_damage() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Kind::Entry, 0, b"payload");
        let sum = checksum(0, 99, b"payload").to_be_bytes();
        bytes[4..8].copy_from_slice(&sum);
        bytes[12] = 99;
        let path = path(folder.path(), 1);
        std::fs::write(&path, bytes).unwrap();
        let error = scan(&LocalDisk, &path, true, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("kind 99") && error.to_string().contains("release"), "{error}");
    }

    #[test]
    fn golden_frame() {
        let mut frame = Vec::new();
        write_frame(&mut frame, Kind::Entry, 300, b"payload");
        crate::golden::check_bytes("log-frame", &[("entry", frame)]);
    }
}

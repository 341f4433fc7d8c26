//! Reading objects: a file, or the files of its parts, in chunks and one chunk ahead of the reader.
//!
//! ```text
//!   open --> pieces --> chunks --> stream: their bytes, read on other threads
//!                              `-> files:  where they are, once they are in memory
//! ```

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use roadstead_oci::Part;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, CWD, Mode, OFlags, ResolveFlags, fadvise, openat2};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

use super::failure::failed;
use super::index::{self, INDEX, part_name_of};
use crate::blocking::blocking;
use crate::error::BlobError;
use crate::store::{ByteStream, FileRange, FileStream, MAX_FILE_RANGE};

/// Bytes per read. The hop to another thread costs some 20 us and this much from the page cache about as long, so that
/// the hop hides behind the read ahead of it; with 64 KiB a third of the rate was measured, with 512 KiB hardly more.
const CHUNK: usize = 256 * 1024;

/// Reads under way for one stream: the one that is waited for and the next. Together with the chunk that the reader
/// holds a stream keeps three chunks in memory.
const READS: usize = 2;

/// An object that was found.
pub(super) struct Opened {
    pub(super) size: u64,
    pub(super) modified: SystemTime,
    /// Set if the object is a folder of parts.
    pub(super) parts: Option<Vec<Part>>,
    /// In order; together they are the object.
    pub(super) pieces: Vec<Piece>,
}

/// One file of an object.
pub(super) struct Piece {
    pub(super) size: u64,
    source: Arc<Source>,
}

/// A file that is opened when it is first read. A plain object's is open from the beginning, so that its bytes stay
/// readable when the object is deleted; of an object in parts only those being read are open, so that a stream needs
/// no more than a handful of descriptors.
struct Source {
    path: PathBuf,
    file: OnceLock<Arc<File>>,
}

/// Bytes of one file that are wanted.
struct Chunk {
    source: Arc<Source>,
    offset: u64,
    len: usize,
}

/// Where a file may be looked for.
#[derive(Clone, Copy)]
enum Reach {
    /// Only in memory, for a thread that must not wait: what the disk would have to be asked for is an error. (A file
    /// system over a network may ask its server all the same.)
    Memory,
    Disk,
}

impl Reach {
    fn open(self, path: &Path) -> io::Result<File> {
        match self {
            Self::Memory => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                Ok(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED)?.into())
            }
            Self::Disk => File::open(path),
        }
    }

    fn read(self, file: &File, len: u64) -> io::Result<String> {
        match self {
            Self::Memory => {
                let mut text = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                let read = preadv2(file, &mut [IoSliceMut::new(&mut text)], 0, ReadWriteFlags::NOWAIT)?;
                if read != text.len() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                String::from_utf8(text).map_err(io::Error::other)
            }
            Self::Disk => io::read_to_string(file),
        }
    }
}

/// Looks for the object at `path`.
pub(super) fn open(path: &Path) -> Result<Option<Opened>, BlobError> {
    open_in(Reach::Disk, path)
}

fn open_in(reach: Reach, path: &Path) -> Result<Option<Opened>, BlobError> {
    let file = match reach.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let metadata = file.metadata().map_err(failed("inspect", path))?;
    if metadata.is_dir() {
        return open_parts(reach, path);
    }
    let modified = metadata.modified().map_err(failed("inspect", path))?;
    let source = Arc::new(Source { path: path.to_owned(), file: OnceLock::from(Arc::new(file)) });
    let size = metadata.len();
    Ok(Some(Opened { size, modified, parts: None, pieces: vec![Piece { size, source }] }))
}

fn open_parts(reach: Reach, path: &Path) -> Result<Option<Opened>, BlobError> {
    let index_path = path.join(INDEX);
    let read = || -> io::Result<(String, SystemTime)> {
        let file = reach.open(&index_path)?;
        let metadata = file.metadata()?;
        Ok((reach.read(&file, metadata.len())?, metadata.modified()?))
    };
    let (text, modified) = match read() {
        Ok(index) => index,
        // Deleted since the folder was opened.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &index_path)(error)),
    };
    let parts = index::decode(&text)
        .ok_or_else(|| BlobError::Broken(format!("{} is not an index of parts", index_path.display())))?;
    let size = parts.iter().map(|part| part.size).sum();
    // That each has a file's name, the index was read for.
    let pieces = parts.iter().filter_map(|part| piece(path, part)).collect();
    Ok(Some(Opened { size, modified, parts: Some(parts), pieces }))
}

/// The file of a part in `folder`; `None` for an etag that this store never gave.
fn piece(folder: &Path, part: &Part) -> Option<Piece> {
    let path = folder.join(part_name_of(part)?);
    Some(Piece { size: part.size, source: Arc::new(Source { path, file: OnceLock::new() }) })
}

/// Opens the object at `path` and streams `range` of it. The first chunk is read in the same go, so that a small
/// object costs one hop to another thread.
pub(super) async fn stream(path: PathBuf, range: Range<u64>) -> Result<ByteStream, BlobError> {
    stream_chunks(move || chunks(Reach::Disk, &path, range, CHUNK)).await
}

/// Streams `range` of parts that are in `folder`, which is no object yet. Their files are opened at once: so they stay
/// readable when the folder becomes the object's, or is removed.
pub(super) async fn stream_parts(
    folder: PathBuf,
    parts: Vec<Part>,
    range: Range<u64>,
) -> Result<ByteStream, BlobError> {
    stream_chunks(move || {
        let pieces = parts.iter().map(|part| piece(&folder, part)).collect::<Option<Vec<_>>>();
        let pieces = pieces.ok_or(BlobError::NotFound)?;
        for (piece, _) in within(&pieces, range.clone()) {
            piece.source.file()?;
        }
        chunks_of(&folder, &pieces, range, CHUNK)
    })
    .await
}

/// Streams the chunks that `open` finds. The first one is read in the same go.
async fn stream_chunks<C>(open: impl FnOnce() -> Result<C, BlobError> + Send + 'static) -> Result<ByteStream, BlobError>
where
    C: Iterator<Item = Chunk> + Send + 'static,
{
    let (first, rest) = blocking(move || {
        let mut rest = open()?;
        let first = rest.next().map(|chunk| chunk.read()).transpose()?;
        Ok((first, rest))
    })
    .await?;
    let rest = stream::iter(rest).map(|chunk| blocking(move || chunk.read())).buffered(READS);
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

/// Opens the object at `path` and tells where `range` of it is. No other thread is woken for what is in memory.
pub(super) async fn files(path: PathBuf, range: Range<u64>) -> Result<FileStream, BlobError> {
    let chunks = match chunks(Reach::Memory, &path, range.clone(), MAX_FILE_RANGE) {
        Ok(chunks) => chunks,
        Err(_) => blocking(move || chunks(Reach::Disk, &path, range, MAX_FILE_RANGE)).await?,
    };
    Ok(stream::iter(chunks).then(Chunk::in_memory).boxed())
}

/// What makes up `range` of the object at `path`, in chunks of at most `most` bytes.
fn chunks(
    reach: Reach,
    path: &Path,
    range: Range<u64>,
    most: usize,
) -> Result<impl Iterator<Item = Chunk> + Send + use<>, BlobError> {
    let opened = open_in(reach, path)?.ok_or(BlobError::NotFound)?;
    chunks_of(path, &opened.pieces, range, most)
}

/// What makes up `range` of the pieces that are at `path`.
fn chunks_of(
    path: &Path,
    pieces: &[Piece],
    range: Range<u64>,
    most: usize,
) -> Result<impl Iterator<Item = Chunk> + Send + use<>, BlobError> {
    let size: u64 = pieces.iter().map(|piece| piece.size).sum();
    if range.end > size {
        return Err(BlobError::Broken(format!("{} has {size} bytes, not {}", path.display(), range.end)));
    }
    let parts: Vec<_> = within(pieces, range).map(|(piece, part)| (Arc::clone(&piece.source), part)).collect();
    Ok(parts.into_iter().flat_map(move |(source, part)| {
        let end = part.end;
        part.step_by(most).map(move |offset| {
            let len = usize::try_from(end - offset).map_or(most, |left| left.min(most));
            Chunk { source: Arc::clone(&source), offset, len }
        })
    }))
}

/// The pieces that `range` of an object touches, and which bytes of each.
pub(super) fn within(pieces: &[Piece], range: Range<u64>) -> impl Iterator<Item = (&Piece, Range<u64>)> {
    let mut start = 0;
    pieces.iter().filter_map(move |piece| {
        let begin = start;
        start += piece.size;
        let part = range.start.max(begin)..range.end.min(start);
        (!part.is_empty()).then(|| (piece, part.start - begin..part.end - begin))
    })
}

impl Piece {
    /// The file once more: with a position that nobody else moves.
    pub(super) fn reopen(&self) -> Result<File, BlobError> {
        File::open(&self.source.path).map_err(gone_or("open", &self.source.path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.source.path
    }
}

impl Source {
    /// The file, if it is open or opening it waits for no disk, since the kernel has all of its path in memory.
    fn file_at_once(&self) -> Option<&Arc<File>> {
        if let Some(file) = self.file.get() {
            return Some(file);
        }
        let file = Reach::Memory.open(&self.path).ok()?;
        Some(self.file.get_or_init(|| Arc::new(file)))
    }

    fn file(&self) -> Result<&Arc<File>, BlobError> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = File::open(&self.path).map_err(gone_or("open", &self.path))?;
        Ok(self.file.get_or_init(|| Arc::new(file)))
    }
}

impl Chunk {
    fn read(&self) -> Result<Bytes, BlobError> {
        let (path, file) = (&self.source.path, self.source.file()?);
        let mut buffer = Vec::with_capacity(self.len);
        while buffer.len() < self.len {
            let offset = self.offset + buffer.len() as u64;
            // The capacity may exceed what was asked for; more bytes than the range has are cut off below.
            match pread(file, spare_capacity(&mut buffer), offset) {
                Ok(0) => return Err(ends_at(path, offset)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("read", path)(errno.into())),
            }
        }
        buffer.truncate(self.len);
        Ok(buffer.into())
    }

    /// Where the chunk is, when it is in memory: the thread that sends it serves others too, and should not wait for
    /// the disk; nor should another thread be woken where there is nothing to wait for. Its last byte stands for all of
    /// it, since a file is read in from front to back.
    async fn in_memory(self) -> Result<FileRange, BlobError> {
        if let Some(file) = self.source.file_at_once() {
            let mut byte = [0];
            let last = preadv2(file, &mut [IoSliceMut::new(&mut byte)], self.last(), ReadWriteFlags::NOWAIT);
            if last == Ok(1) {
                return Ok(FileRange { file: Arc::clone(file), offset: self.offset, len: self.len });
            }
        }
        blocking(move || self.bring_in()).await
    }

    /// Has the disk read the chunk, and go on with as much of what comes after it.
    fn bring_in(self) -> Result<FileRange, BlobError> {
        let (path, file) = (&self.source.path, self.source.file()?);
        // A file system that takes no advice is read all the same, as it is sent.
        let _ = fadvise(file, self.offset, NonZeroU64::new(2 * self.len as u64), Advice::WillNeed);
        let mut byte = [0];
        match pread(file, &mut byte, self.last()) {
            Ok(0) => Err(ends_at(path, self.last())),
            Ok(_) => Ok(FileRange { file: Arc::clone(file), offset: self.offset, len: self.len }),
            Err(errno) => Err(failed("read", path)(errno.into())),
        }
    }

    fn last(&self) -> u64 {
        self.offset + self.len as u64 - 1
    }
}

fn ends_at(path: &Path, offset: u64) -> BlobError {
    BlobError::Broken(format!("{} ends before byte {}", path.display(), offset + 1))
}

/// Like [`failed`], where a missing file means that the object is not there (any more).
fn gone_or<'a>(verb: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> BlobError + 'a {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => BlobError::NotFound,
        _ => failed(verb, path)(error),
    }
}

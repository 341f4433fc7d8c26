//! Writing, completing and removing: what blocks, and in which order things reach the disk.
//!
//! Everything begins under `unfinished/`, is synced there, and becomes an object by one rename:
//!
//! ```text
//!   put                unfinished/<key>.<id>  write, fdatasync ----------------- rename, fsync folder
//!   put_new            unfinished/<key>.<id>  write, fdatasync ----------------- link, fsync folder
//!   create_multipart   unfinished/<key>.<id>/ mkdir, fsync
//!   put_part                                 /<number>.<etag>  write, fdatasync
//!   persist                                  fsync folder
//!   complete                                 /index            write, fdatasync, rename, fsync folder
//!                                                                 ------------- rename, fsync folder
//!   delete, abort      unfinished/<key>.<id>  <------------------------- rename, then remove what is in it
//! ```
//!
//! A part's file is written once, under a name that holds its etag, so a second write of the same number, by this
//! process or another that shares the folder, cannot change bytes that somebody was promised; the index says which
//! files count. The kernel's journal commits the folder syncs of concurrent writers together, so they are not
//! grouped here once more.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use roadstead_oci::{MultipartId, ObjectKey, Part};
use uuid::Uuid;

use super::IdSource;
use super::failure::failed;
use super::index::{self, INDEX, part_name, part_name_of};
use super::layout::{FOLDERS, UNFINISHED, object_path, parse_id, unfinished_path};
use super::read::{self, Opened};
use super::room::{Room, Taken};
use crate::error::BlobError;
use crate::rules::check_parts;

/// A store's folder on disk.
pub(super) struct Folder {
    pub(super) root: PathBuf,
    ids: IdSource,
    room: Room,
    /// The folders of objects whose own entry this process knows to be durable: at most 4,096 in each of [`FOLDERS`].
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl Folder {
    /// Opens the folder, and makes it and what is in it if need be.
    pub(super) fn open(root: &Path, ids: IdSource, reserve: u64) -> Result<Self, BlobError> {
        let is_new = !root.exists();
        for folder in FOLDERS.iter().chain([&UNFINISHED]) {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for path in [&root.join("manifests"), root].into_iter().chain(is_new.then_some(parent)) {
            sync_folder(path).map_err(failed("sync", path))?;
        }
        let folder = Self { root: root.to_owned(), ids, room: Room::new(root, reserve), durable: Mutex::default() };
        folder.check_writable()?;
        Ok(folder)
    }

    /// So that a folder of another user or a read-only mount is reported at the start, not at the first push.
    fn check_writable(&self) -> Result<(), BlobError> {
        let path = self.root.join(UNFINISHED).join(self.fresh().simple().to_string());
        fs::write(&path, "").and_then(|()| fs::remove_file(&path)).map_err(failed("write", &path))
    }

    fn fresh(&self) -> Uuid {
        (self.ids)()
    }

    /// Room for content. The backup needs none of it: it may use the reserve, since nothing is deleted before it was
    /// written that it is.
    fn take_room(&self, key: &ObjectKey, bytes: u64) -> Result<Option<Taken<'_>>, BlobError> {
        if key.kind().is_backup() { Ok(None) } else { self.room.take(bytes).map(Some) }
    }

    pub(super) fn object(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(object_path(key))
    }

    pub(super) fn upload(&self, key: &ObjectKey, id: &MultipartId) -> Result<PathBuf, BlobError> {
        Ok(self.root.join(unfinished_path(key, parse_id(id)?)))
    }

    pub(super) fn put(&self, key: &ObjectKey, content: &Bytes) -> Result<(), BlobError> {
        let _room = self.take_room(key, content.len() as u64)?;
        let staged = self.root.join(unfinished_path(key, self.fresh()));
        write_durably(&staged, content).map_err(failed("write", &staged))?;
        let published = self.publish(&staged, &self.object(key));
        if published.is_err() {
            // Whatever is left here is found by `list_multiparts`.
            let _ = fs::remove_file(&staged);
        }
        published.map_err(failed("publish", &staged))
    }

    /// A second name for the staged file, which is refused where the object has one already.
    pub(super) fn put_new(&self, key: &ObjectKey, content: &Bytes) -> Result<bool, BlobError> {
        let staged = self.root.join(unfinished_path(key, self.fresh()));
        write_durably(&staged, content).map_err(failed("write", &staged))?;
        let object = self.object(key);
        let linked = self.link(&staged, &object);
        // Whatever is left here is found by `list_multiparts`.
        let _ = fs::remove_file(&staged);
        linked.map_err(failed("publish", &object))
    }

    pub(super) fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError> {
        let id = self.fresh();
        let path = self.root.join(unfinished_path(key, id));
        fs::create_dir(&path).map_err(failed("create", &path))?;
        sync_folder(&self.root.join(UNFINISHED)).map_err(failed("sync", &path))?;
        Ok(MultipartId(id.simple().to_string()))
    }

    pub(super) fn put_part(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        content: &Bytes,
    ) -> Result<Part, BlobError> {
        let _room = self.take_room(key, content.len() as u64)?;
        let folder = self.upload(key, id)?;
        let part = Part { number, size: content.len() as u64, etag: self.fresh().simple().to_string() };
        let path = folder.join(part_name(number, &part.etag));
        write_durably(&path, content).map_err(unknown_or("write", &path))?;
        Ok(part)
    }

    /// Makes the entries of parts durable, whose bytes are.
    pub(super) fn persist(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        let folder = self.upload(key, id)?;
        sync_folder(&folder).map_err(unknown_or("sync", &folder))
    }

    pub(super) fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError> {
        let folder = self.upload(key, id)?;
        let opened = read::open(&self.object(source))?.ok_or(BlobError::NotFound)?;
        let wanted = u64::from(parts) * part_size;
        if wanted > opened.size {
            return Err(BlobError::Broken(format!("{source} has {} bytes, not {wanted}", opened.size)));
        }
        let _room = self.take_room(key, wanted)?;
        let mut copied = Vec::new();
        for number in 1..=parts {
            let part = Part { number, size: part_size, etag: self.fresh().simple().to_string() };
            copy_part(&opened, &part, &folder.join(part_name(number, &part.etag)))?;
            copied.push(part);
        }
        sync_folder(&folder).map_err(unknown_or("sync", &folder))?;
        Ok(copied)
    }

    pub(super) fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        let (folder, object) = (self.upload(key, id)?, self.object(key));
        if !folder.is_dir() {
            // Perhaps a completion that was cut off after its rename: the caller looks for the object next, and must
            // not build on what a power cut takes away.
            if let Some(parent) = object.parent().filter(|_| object.is_dir()) {
                sync_folder(parent).map_err(failed("sync", parent))?;
            }
            return Err(BlobError::MultipartUnknown);
        }
        check_parts(parts)?;
        for part in parts {
            check_written(&folder, part)?;
        }
        let draft = folder.join(format!("{INDEX}.{}", self.fresh().simple()));
        let index = folder.join(INDEX);
        write_durably(&draft, index::encode(parts).as_bytes())
            .and_then(|()| fs::rename(&draft, &index))
            .map_err(unknown_or("write", &index))?;
        sync_folder(&folder).map_err(unknown_or("sync", &folder))?;
        self.publish(&folder, &object).map_err(unknown_or("publish", &folder))?;
        drop_strays(&object);
        Ok(())
    }

    pub(super) fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        match self.upload(key, id) {
            Ok(path) => self.remove(key, &path),
            // An id that this store never gave out names nothing.
            Err(_) => Ok(()),
        }
    }

    /// Not synced: what a power cut brings back is an object that no fact names, and is found like any other.
    pub(super) fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError> {
        keys.iter().try_for_each(|key| self.remove(key, &self.object(key)))
    }

    /// Removes a file, or a folder of parts: that one vanishes from its place first, so that nobody sees half of it.
    fn remove(&self, key: &ObjectKey, path: &Path) -> Result<(), BlobError> {
        let removed = match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let doomed = self.root.join(unfinished_path(key, self.fresh()));
                fs::rename(path, &doomed).and_then(|()| fs::remove_dir_all(&doomed))
            }
            other => other,
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("remove", path)),
        }
    }

    /// Gives what is staged the object's name, durably.
    fn publish(&self, staged: &Path, object: &Path) -> io::Result<()> {
        let Some(folder) = object.parent() else { return Ok(()) };
        self.make_durable(folder)?;
        fs::rename(staged, object)?;
        sync_folder(folder)
    }

    /// The same, unless there is one already.
    fn link(&self, staged: &Path, object: &Path) -> io::Result<bool> {
        let Some(folder) = object.parent() else { return Ok(false) };
        self.make_durable(folder)?;
        let is_new = match fs::hard_link(staged, object) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            linked => linked.map(|()| true)?,
        };
        // Of one that is there, whoever wrote it may not have come so far.
        sync_folder(folder)?;
        Ok(is_new)
    }

    /// Makes a folder of objects exist, and its entry durable: another process may have made it and died.
    fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if self.durable.lock().contains(folder) {
            return Ok(());
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if let Some(parent) = folder.parent() {
            sync_folder(parent)?;
        }
        self.durable.lock().insert(folder.to_owned());
        Ok(())
    }
}

/// Bytes of one write. The kernel takes the pages for a write at once: for a whole part those are few and huge ones,
/// which are seldom at hand, so that on ext4 in a virtual machine a write of 8 MiB took eight times as long as 32 of
/// this size.
const WRITE: usize = 256 << 10;

/// Writes a new file and its bytes to the disk. Whoever calls makes the entry in its folder durable.
fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    fill(path, |file| content.chunks(WRITE).try_for_each(|piece| file.write_all(piece)))
}

/// Makes a new file, lets `write` fill it, and syncs it. A file that cannot be filled is removed again, so that a
/// full disk does not stay full of halves.
fn fill(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let filled = write(&mut file).and_then(|()| file.sync_data());
    if filled.is_err() {
        let _ = fs::remove_file(path);
    }
    filled
}

/// Makes a part of the bytes of an object: a second name for the same file where the object has just such a part,
/// else a copy made by the kernel, which shares the blocks where the file system can.
fn copy_part(source: &Opened, part: &Part, path: &Path) -> Result<(), BlobError> {
    let start = u64::from(part.number - 1) * part.size;
    let pieces: Vec<_> = read::within(&source.pieces, start..start + part.size).collect();
    if let [(piece, range)] = &pieces[..]
        && source.parts.is_some()
        && *range == (0..piece.size)
        && fs::hard_link(piece.path(), path).is_ok()
    {
        return Ok(());
    }
    let mut sources = Vec::new();
    for (piece, range) in pieces {
        sources.push((piece.reopen()?, range));
    }
    // The standard library copies from file to file with copy_file_range.
    let append = |target: &mut File, mut source: File, range: Range<u64>| {
        source.seek(SeekFrom::Start(range.start))?;
        let wanted = range.end - range.start;
        if io::copy(&mut source.take(wanted), target)? == wanted {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    };
    fill(path, |target| sources.into_iter().try_for_each(|(source, range)| append(target, source, range)))
        .map_err(unknown_or("write", path))
}

/// Whether the file of a part is there, with all its bytes.
fn check_written(folder: &Path, part: &Part) -> Result<(), BlobError> {
    let wrong = || BlobError::Broken(format!("part {} was not written as it is named", part.number));
    let path = folder.join(part_name_of(part).ok_or_else(wrong)?);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() == part.size => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("inspect", &path)(error)),
        // The upload may have been aborted since it was found.
        Err(_) if !folder.is_dir() => Err(BlobError::MultipartUnknown),
        Ok(_) | Err(_) => Err(wrong()),
    }
}

/// Removes parts that were written again or by somebody whose part came too late. Only room is lost if it fails: the
/// index is what counts.
fn drop_strays(object: &Path) {
    let Ok(Some(Opened { parts: Some(parts), .. })) = read::open(object) else { return };
    let named: BTreeSet<String> = parts.iter().filter_map(part_name_of).collect();
    for entry in fs::read_dir(object).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name != INDEX && !name.to_str().is_some_and(|name| named.contains(name)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Like [`failed`], where a missing folder means that the upload is not there (any more).
fn unknown_or<'a>(verb: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> BlobError + 'a {
    move |error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => BlobError::MultipartUnknown,
        _ => failed(verb, path)(error),
    }
}

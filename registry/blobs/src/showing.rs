//! A store that shows the parts of uploads in progress where another one shows none, as a bucket: those that this process
//! writes, and that it is told to show, are kept in files beside until their object is complete.
//!
//! ```text
//!   show(id)   put_part --> bucket                complete, abort --> bucket
//!                      '--> a file without name                  '--> gone
//!                           '--get_parts, range by range
//! ```
//!
//! Nothing is lost with these files: whoever reads parts has the object instead when it is complete. So they are not
//! synced, and what would not fit is not kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, join};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use roadstead_oci::{MultipartId, ObjectKey, Part};

use crate::blocking::blocking;
use crate::error::BlobError;
use crate::filesystem::room::free_bytes;
use crate::store::{
    BlobStore, ByteStream, FileStream, Listing, MultipartInfo, MultipartStore, ObjectInfo, ObjectStore, PresignStore,
};

/// Uploads whose parts are kept at once, ...
const MAX_UPLOADS: usize = 64;

/// ... and bytes of all of them: two minutes of a network of 1 Gb/s. The upload that was written to longest ago gives way.
const MAX_BYTES: u64 = 16 << 30;

/// Bytes per read, and reads under way for one stream: the one that is waited for and the next.
const CHUNK: u64 = 256 << 10;
const READS: usize = 2;

type Upload = (ObjectKey, MultipartId);

/// See the module.
pub struct ShowingStore {
    store: Arc<dyn BlobStore>,
    folder: PathBuf,
    /// Bytes of that disk that stay free.
    reserve: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    uploads: BTreeMap<Upload, Parts>,
    /// Counts writes.
    writes: u64,
}

struct Parts {
    file: Arc<File>,
    /// Where it ends; each part is behind those before it, also one that is written again.
    end: u64,
    /// Each part, and its place in the file.
    places: BTreeMap<u32, (Part, u64)>,
    /// The number of its last write.
    written: u64,
}

/// A stretch of a file.
struct Stretch {
    file: Arc<File>,
    at: u64,
    len: u64,
}

impl ShowingStore {
    /// One that keeps parts in `folder`, which is made when it is needed, as long as `reserve` bytes stay free there.
    pub fn new(store: Arc<dyn BlobStore>, folder: PathBuf, reserve: u64) -> Self {
        Self { store, folder, reserve, kept: Mutex::default() }
    }

    /// Where so many bytes of an upload may be kept, if it is shown and there is room.
    fn place(&self, upload: &Upload, bytes: u64) -> Option<(Arc<File>, u64)> {
        if !self.kept.lock().uploads.contains_key(upload) || !has_room(&self.folder, self.reserve, bytes) {
            return None;
        }
        let mut kept = self.kept.lock();
        kept.writes += 1;
        let number = kept.writes;
        while kept.bytes() + bytes > MAX_BYTES {
            let others = kept.uploads.iter().filter(|(other, _)| *other != upload);
            let oldest = others.min_by_key(|(_, parts)| parts.written).map(|(oldest, _)| oldest.clone())?;
            kept.uploads.remove(&oldest);
        }
        let parts = kept.uploads.get_mut(upload)?;
        let at = parts.end;
        (parts.end, parts.written) = (at + bytes, number);
        Some((Arc::clone(&parts.file), at))
    }

    fn forget(&self, key: &ObjectKey, id: &MultipartId) {
        self.kept.lock().uploads.remove(&(key.clone(), id.clone()));
    }

    /// Where `range` of these parts is.
    fn stretches(&self, upload: &Upload, parts: &[Part], range: &Range<u64>) -> Result<Vec<Stretch>, BlobError> {
        let kept = self.kept.lock();
        let shown = kept.uploads.get(upload).ok_or(BlobError::NotFound)?;
        let (mut start, mut stretches) = (0, Vec::new());
        for part in parts {
            let end = start + part.size;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let found = shown.places.get(&part.number).filter(|(found, _)| found == part);
                let (_, at) = found.ok_or(BlobError::NotFound)?;
                stretches.push(Stretch { file: Arc::clone(&shown.file), at: at + from - start, len: to - from });
            }
            start = end;
        }
        if range.end > start {
            return Err(BlobError::Broken(format!("the parts of {} have {start} bytes, not {}", upload.0, range.end)));
        }
        Ok(stretches)
    }
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.uploads.values().map(|parts| parts.end).sum()
    }
}

impl Stretch {
    fn chunks(self) -> impl Iterator<Item = Self> {
        let Self { file, at, len } = self;
        (0..len.div_ceil(CHUNK)).map(move |number| {
            let start = number * CHUNK;
            Self { file: Arc::clone(&file), at: at + start, len: CHUNK.min(len - start) }
        })
    }

    fn read(&self) -> Result<Bytes, BlobError> {
        let mut bytes = BytesMut::zeroed(usize::try_from(self.len).unwrap_or_default());
        let read = self.file.read_exact_at(&mut bytes, self.at);
        read.map_err(|error| BlobError::Unavailable(format!("cannot read a part that was kept: {error}")))?;
        Ok(bytes.freeze())
    }
}

fn has_room(folder: &Path, reserve: u64, bytes: u64) -> bool {
    free_bytes(folder).is_ok_and(|free| free >= reserve.saturating_add(bytes))
}

#[async_trait]
impl ObjectStore for ShowingStore {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), BlobError> {
        self.store.put(key, content).await
    }

    async fn put_new(&self, key: &ObjectKey, content: Bytes) -> Result<bool, BlobError> {
        self.store.put_new(key, content).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BlobError> {
        self.store.head(key).await
    }

    async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        self.store.get(key, range).await
    }

    async fn get_files(&self, key: &ObjectKey, range: Range<u64>) -> Result<Option<FileStream>, BlobError> {
        self.store.get_files(key, range).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError> {
        self.store.delete(keys).await
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError> {
        self.store.list(prefix, next).await
    }
}

#[async_trait]
impl MultipartStore for ShowingStore {
    fn min_part_size(&self) -> u64 {
        self.store.min_part_size()
    }

    async fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError> {
        self.store.create_multipart(key).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        part_size: u64,
        content: Bytes,
    ) -> Result<Part, BlobError> {
        let upload = (key.clone(), id.clone());
        let Some((file, at)) = self.place(&upload, content.len() as u64) else {
            return self.store.put_part(key, id, number, part_size, content).await;
        };
        let copy = content.clone();
        let keeping = blocking(move || {
            file.write_all_at(&copy, at).map_err(|error| BlobError::Unavailable(format!("cannot keep a part: {error}")))
        });
        let (part, is_kept) = join(self.store.put_part(key, id, number, part_size, content), keeping).await;
        let part = part?;
        if is_kept.is_ok()
            && let Some(parts) = self.kept.lock().uploads.get_mut(&upload)
        {
            parts.places.insert(number, (part.clone(), at));
        }
        Ok(part)
    }

    async fn persist(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        self.store.persist(key, id, parts).await
    }

    async fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError> {
        self.store.copy_parts(source, key, id, part_size, parts).await
    }

    fn shows_parts(&self) -> bool {
        true
    }

    async fn show(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        let upload = (key.clone(), id.clone());
        if self.kept.lock().uploads.contains_key(&upload) {
            return Ok(());
        }
        let folder = self.folder.clone();
        let file = blocking(move || {
            let file = std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder));
            file.map_err(|error| BlobError::Unavailable(format!("cannot keep parts in {}: {error}", folder.display())))
        });
        let file = Arc::new(file.await?);
        let mut kept = self.kept.lock();
        let oldest = kept.uploads.iter().min_by_key(|(_, parts)| parts.written).map(|(oldest, _)| oldest.clone());
        if let Some(oldest) = oldest.filter(|_| kept.uploads.len() >= MAX_UPLOADS) {
            kept.uploads.remove(&oldest);
        }
        let written = kept.writes;
        kept.uploads.entry(upload).or_insert(Parts { file, end: 0, places: BTreeMap::new(), written });
        Ok(())
    }

    async fn get_parts(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        parts: &[Part],
        range: Range<u64>,
    ) -> Result<ByteStream, BlobError> {
        let stretches = self.stretches(&(key.clone(), id.clone()), parts, &range)?;
        let chunks = stream::iter(stretches.into_iter().flat_map(Stretch::chunks));
        Ok(chunks.map(|chunk| blocking(move || chunk.read())).buffered(READS).boxed())
    }

    async fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        let completed = self.store.complete(key, id, parts).await;
        if completed.is_ok() {
            self.forget(key, id);
        }
        completed
    }

    async fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        self.forget(key, id);
        self.store.abort(key, id).await
    }

    async fn list_multiparts(&self, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError> {
        self.store.list_multiparts(next).await
    }
}

impl PresignStore for ShowingStore {
    fn presign<'a>(&'a self, key: &'a ObjectKey, valid: Duration) -> BoxFuture<'a, Result<Option<String>, BlobError>> {
        self.store.presign(key, valid)
    }
}

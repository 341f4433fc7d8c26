//! A store in memory, for tests and the simulation: the same semantics as the others, and no I/O, task or clock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use roadstead_oci::{MultipartId, ObjectKey, Part};

use crate::error::BlobError;
use crate::rules::{check_delete, check_part, check_parts};
use crate::store::{
    ByteStream, Listing, MAX_LIST, MultipartInfo, MultipartStore, ObjectInfo, ObjectStore, PresignStore,
};

/// The longest piece in which bytes are handed out: small, so that even small test objects come in several pieces.
const CHUNK: usize = 64 * 1024;

/// Keeps objects in memory. Clones are the same store, as several replicas see it; it is gone with the last of them.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectKey, Object>,
    uploads: BTreeMap<(ObjectKey, MultipartId), Upload>,
    /// How many ids and etags were given out: the next one's name.
    issued: u64,
}

struct Object {
    /// As they were written, so that completing copies nothing.
    pieces: Vec<Bytes>,
    modified: SystemTime,
}

struct Upload {
    created: SystemTime,
    parts: BTreeMap<u32, Written>,
}

struct Written {
    part: Part,
    content: Bytes,
    /// Whether a power cut leaves it.
    persisted: bool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store whose clock stands still at the epoch.
    pub fn new() -> Self {
        Self::with_clock(|| UNIX_EPOCH)
    }

    /// An empty store that takes the age of what it keeps from `clock`.
    pub fn with_clock(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), state: Arc::default() }
    }

    /// Loses what a power cut may take away: every part that was not persisted.
    pub fn cut_power(&self) {
        for upload in self.state.lock().uploads.values_mut() {
            upload.parts.retain(|_, written| written.persisted);
        }
    }
}

impl State {
    fn issue(&mut self) -> String {
        self.issued += 1;
        format!("{:016x}", self.issued)
    }

    fn upload(&mut self, key: &ObjectKey, id: &MultipartId) -> Result<&mut Upload, BlobError> {
        self.uploads.get_mut(&(key.clone(), id.clone())).ok_or(BlobError::MultipartUnknown)
    }

    fn write_part(
        &mut self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        content: Bytes,
    ) -> Result<Part, BlobError> {
        // As where the tag is a hash: the same bytes under the same number are the same part.
        let former = self.upload(key, id)?.parts.get(&number).filter(|former| former.content == content);
        if let Some(former) = former {
            return Ok(former.part.clone());
        }
        let etag = self.issue();
        let part = Part { number, size: content.len() as u64, etag };
        let written = Written { part: part.clone(), content, persisted: false };
        self.upload(key, id)?.parts.insert(number, written);
        Ok(part)
    }
}

impl Object {
    fn size(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    fn info(&self, key: &ObjectKey) -> ObjectInfo {
        ObjectInfo { key: key.clone(), size: self.size(), modified: self.modified }
    }

    /// The bytes of `range` in pieces of at most [`CHUNK`].
    #[expect(clippy::cast_possible_truncation, reason = "offsets within a piece, whose length is a usize")]
    fn slices(&self, range: &Range<u64>) -> Vec<Bytes> {
        let mut slices = Vec::new();
        let mut start = 0;
        for piece in &self.pieces {
            let end = start + piece.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                let mut rest = piece.slice((from - start) as usize..(to - start) as usize);
                while !rest.is_empty() {
                    slices.push(rest.split_to(rest.len().min(CHUNK)));
                }
            }
            start = end;
        }
        slices
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), BlobError> {
        let object = Object { pieces: vec![content], modified: (self.clock)() };
        self.state.lock().objects.insert(key.clone(), object);
        Ok(())
    }

    async fn put_new(&self, key: &ObjectKey, content: Bytes) -> Result<bool, BlobError> {
        let object = Object { pieces: vec![content], modified: (self.clock)() };
        let mut state = self.state.lock();
        let is_new = !state.objects.contains_key(key);
        if is_new {
            state.objects.insert(key.clone(), object);
        }
        Ok(is_new)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BlobError> {
        Ok(self.state.lock().objects.get(key).map(|object| object.info(key)))
    }

    async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        let state = self.state.lock();
        let object = state.objects.get(key).ok_or(BlobError::NotFound)?;
        if range.end > object.size() {
            return Err(BlobError::Broken(format!("{key} has {} bytes, not {}", object.size(), range.end)));
        }
        Ok(stream::iter(object.slices(&range)).map(Ok).boxed())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError> {
        check_delete(keys)?;
        let mut state = self.state.lock();
        for key in keys {
            state.objects.remove(key);
        }
        Ok(())
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError> {
        let state = self.state.lock();
        let mut rest = (state.objects.iter())
            .filter(|(key, _)| key.as_str().starts_with(prefix) && next.is_none_or(|next| key.as_str() > next))
            .map(|(key, object)| object.info(key));
        let items: Vec<_> = rest.by_ref().take(MAX_LIST).collect();
        let next = rest.next().and(items.last()).map(|last| last.key.to_string());
        Ok(Listing { items, next })
    }
}

#[async_trait]
impl MultipartStore for MemoryStore {
    fn min_part_size(&self) -> u64 {
        1
    }

    async fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError> {
        let mut state = self.state.lock();
        let id = MultipartId(state.issue());
        let upload = Upload { created: (self.clock)(), parts: BTreeMap::new() };
        state.uploads.insert((key.clone(), id.clone()), upload);
        Ok(id)
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        part_size: u64,
        content: Bytes,
    ) -> Result<Part, BlobError> {
        check_part(number, part_size, content.len() as u64)?;
        self.state.lock().write_part(key, id, number, content)
    }

    async fn persist(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        let mut state = self.state.lock();
        let written = &mut state.upload(key, id)?.parts;
        for part in parts {
            let same = written.get_mut(&part.number).filter(|written| written.part == *part);
            same.ok_or_else(|| replaced(part))?.persisted = true;
        }
        Ok(())
    }

    async fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError> {
        let mut state = self.state.lock();
        let object = state.objects.get(source).ok_or(BlobError::NotFound)?;
        let (size, wanted) = (object.size(), u64::from(parts) * part_size);
        if wanted > size {
            return Err(BlobError::Broken(format!("{source} has {size} bytes, not {wanted}")));
        }
        let contents: Vec<Bytes> = (0..u64::from(parts))
            .map(|index| object.slices(&(index * part_size..(index + 1) * part_size)).concat().into())
            .collect();
        let written = (1..).zip(contents).map(|(number, content)| state.write_part(key, id, number, content));
        let copied: Vec<Part> = written.collect::<Result<_, _>>()?;
        state.upload(key, id)?.parts.values_mut().for_each(|written| written.persisted = true);
        Ok(copied)
    }

    fn shows_parts(&self) -> bool {
        true
    }

    async fn get_parts(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        parts: &[Part],
        range: Range<u64>,
    ) -> Result<ByteStream, BlobError> {
        let mut state = self.state.lock();
        let written = &state.upload(key, id).map_err(|_| BlobError::NotFound)?.parts;
        let named = parts.iter().map(|part| written.get(&part.number).filter(|written| written.part == *part));
        let pieces = named.map(|written| Some(written?.content.clone())).collect::<Option<Vec<_>>>();
        let shown = Object { pieces: pieces.ok_or(BlobError::NotFound)?, modified: UNIX_EPOCH };
        if range.end > shown.size() {
            return Err(BlobError::Broken(format!(
                "the parts of {key} have {} bytes, not {}",
                shown.size(),
                range.end
            )));
        }
        Ok(stream::iter(shown.slices(&range)).map(Ok).boxed())
    }

    async fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        let mut state = self.state.lock();
        let upload = state.upload(key, id)?;
        check_parts(parts)?;
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            match upload.parts.get(&part.number) {
                Some(written) if written.part != *part => return Err(replaced(part)),
                // What the others would do until a power cut finds it out.
                Some(Written { persisted: false, .. }) => {
                    return Err(BlobError::Broken(format!("part {} was never persisted", part.number)));
                }
                Some(written) => pieces.push(written.content.clone()),
                None => return Err(replaced(part)),
            }
        }
        state.uploads.remove(&(key.clone(), id.clone()));
        state.objects.insert(key.clone(), Object { pieces, modified: (self.clock)() });
        Ok(())
    }

    async fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        self.state.lock().uploads.remove(&(key.clone(), id.clone()));
        Ok(())
    }

    async fn list_multiparts(&self, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError> {
        let state = self.state.lock();
        let mut rest = (state.uploads.iter())
            .filter(|((key, id), _)| next.is_none_or(|next| token(key, id).as_str() > next))
            .map(|((key, id), upload)| MultipartInfo { key: key.clone(), id: id.clone(), created: upload.created });
        let items: Vec<_> = rest.by_ref().take(MAX_LIST).collect();
        let next = rest.next().and(items.last()).map(|last| token(&last.key, &last.id));
        Ok(Listing { items, next })
    }
}

fn replaced(part: &Part) -> BlobError {
    BlobError::Broken(format!("part {} is not what was written last", part.number))
}

/// Where a page of uploads ends.
fn token(key: &ObjectKey, id: &MultipartId) -> String {
    format!("{key} {}", id.0)
}

impl PresignStore for MemoryStore {
    fn presign<'a>(&'a self, _: &'a ObjectKey, _: Duration) -> BoxFuture<'a, Result<Option<String>, BlobError>> {
        async { Ok(None) }.boxed()
    }
}

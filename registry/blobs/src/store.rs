//! The seam between the registry and whatever keeps its bytes.
//!
//! ```text
//!   small content                     content of more than one part
//!   put(key) ------------> object     create_multipart(key) -> id
//!                                     put_part(id, 1..n)        (any order, several at once)
//!                                     persist(id, parts)        (as often as wanted)
//!                                     get_parts(id, parts)      (where the store shows them)
//!                                     complete(id, parts) ----> object
//!   get / head / delete / list        abort(id)
//! ```
//!
//! What every store promises, and [`suite`](crate::suite) checks:
//!
//! * An `Ok` from a write means durable: it survives a power cut of the store's own machine, as far as the store
//!   can know it. Only of a part this is said by `persist`, so that one wait for the disk serves many of them.
//! * Keys are written once by their users. No call copies an object's bytes through this process.
//! * An object appears whole or not at all; a `get` that began sees it whole even if it is deleted meanwhile, or
//!   fails: it never sees other bytes.
//! * Reads and listings see every write that was answered before they began.
//! * `delete` and `abort` of what is not there succeed, so that they can be repeated.
//! * A call that is dropped may or may not have its effect, even later, and harms nothing else: a dropped write of a
//!   part may take the place of a later write of the same number, but then completing says so.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use roadstead_oci::{MultipartId, ObjectKey, Part};

use crate::error::BlobError;

/// What a store knows of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The object's key.
    pub key: ObjectKey,
    /// Length in bytes.
    pub size: u64,
    /// When the store says it was written, by the store's own clock: only for telling old orphans from new ones.
    pub modified: SystemTime,
}

/// A multipart upload that has neither been completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartInfo {
    /// The key that the object will have.
    pub key: ObjectKey,
    /// The store's name for the upload.
    pub id: MultipartId,
    /// When it was created, by the store's own clock.
    pub created: SystemTime,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// In the order of their keys.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last one. Opaque.
    pub next: Option<String>,
}

/// The bytes of an object, in order.
pub type ByteStream = BoxStream<'static, Result<Bytes, BlobError>>;

/// A stretch of a file that holds a stretch of an object.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The file, open for reading.
    pub file: Arc<File>,
    /// Where in the file the stretch begins.
    pub offset: u64,
    /// In bytes; at most [`MAX_FILE_RANGE`], and not zero.
    pub len: usize,
}

/// Bytes of a [`FileRange`] at most: a part as it is mostly stored, of which the kernel takes what the socket has room
/// for (`tcp_wmem`) with each call and no turn of the threads; and what the disk works ahead of a reader.
pub const MAX_FILE_RANGE: usize = 8 << 20;

/// The bytes of an object as stretches of files, in order.
pub type FileStream = BoxStream<'static, Result<FileRange, BlobError>>;

/// Whole objects.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Writes an object at once. Repeating it with the same bytes is harmless.
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), BlobError>;

    /// Writes an object unless there is one under its key; whether it did. Of several at once, one does. Where an answer
    /// was lost, a repeated call may find what the first one wrote: look what is there. A server that ignores the
    /// condition is only asked beforehand, which two calls at the same moment can slip through.
    async fn put_new(&self, key: &ObjectKey, content: Bytes) -> Result<bool, BlobError>;

    /// The object's size and age, or `None` if there is none.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BlobError>;

    /// The bytes of `range` (end exclusive, not empty, within the object). [`BlobError::NotFound`] if there is no object.
    /// A stream that ends early ends with an error, never silently.
    async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError>;

    /// What [`get`](ObjectStore::get) gives, for whoever can send files without reading them: each stretch comes when it
    /// is in memory, as far as that can be known. `None` from a store that has no files.
    async fn get_files(&self, _key: &ObjectKey, _range: Range<u64>) -> Result<Option<FileStream>, BlobError> {
        Ok(None)
    }

    /// Deletes objects, at most [`MAX_DELETE`] at once. On an error, any of them may be gone. A power cut may bring
    /// one back, which a listing then shows.
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError>;

    /// A page of the objects whose key begins with `prefix`, at most [`MAX_LIST`]. Keys that are not an
    /// [`ObjectKey`] are not ours and are passed over.
    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError>;
}

/// Objects that are written part by part.
#[async_trait]
pub trait MultipartStore: ObjectStore {
    /// The smallest part that the store takes, but for the last of an object.
    fn min_part_size(&self) -> u64;

    /// Begins an object that becomes visible when it is completed.
    async fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError>;

    /// Writes part `number`; every part but the last has `part_size` bytes. Writing a number again replaces it. Until
    /// it is persisted, a power cut may take it away; the end of a process does not.
    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        part_size: u64,
        content: Bytes,
    ) -> Result<Part, BlobError>;

    /// Makes parts that were written, by whichever process, safe from a power cut. May be repeated. A store may fail
    /// with [`BlobError::MultipartUnknown`] if the upload is not there (any more).
    async fn persist(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError>;

    /// Makes parts 1 to `parts` of a new multipart upload, durable at once, out of the first `parts * part_size` bytes of an existing
    /// object, which is at least that long, inside the store. Used when a client goes on after a short final part.
    async fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError>;

    /// Whether [`get_parts`](MultipartStore::get_parts) gives anything: a bucket shows no part before its object is
    /// complete.
    fn shows_parts(&self) -> bool {
        false
    }

    /// Says that the parts of an upload that are written from here on are to be shown, for a store that has to keep them for
    /// that. May be repeated; if it fails, nothing but that is lost.
    async fn show(&self, _key: &ObjectKey, _id: &MultipartId) -> Result<(), BlobError> {
        Ok(())
    }

    /// The bytes of `range` (end exclusive, not empty, within them) of `parts`, the first ones of an upload that is not
    /// complete yet, as they were written. [`BlobError::NotFound`] if they are not there (any more), or are not shown. What
    /// has begun sees them whole, even if the upload is completed or aborted meanwhile, or fails.
    async fn get_parts(
        &self,
        _key: &ObjectKey,
        _id: &MultipartId,
        _parts: &[Part],
        _range: Range<u64>,
    ) -> Result<ByteStream, BlobError> {
        Err(BlobError::NotFound)
    }

    /// Makes the object out of `parts`, each of which was persisted. [`BlobError::MultipartUnknown`] if the upload is not there (any more): a
    /// repeated completion looks with [`ObjectStore::head`] whether the first one had its effect. While that one is
    /// still at work, the object may appear a moment after this answer (seen with Versity): look more than once.
    /// [`BlobError::Broken`] if a part is not there as it is named; it may be written again. Goes on to its end even
    /// if the caller goes away.
    async fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError>;

    /// Drops an upload and its parts.
    async fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError>;

    /// A page of the uploads that were neither completed nor aborted, for finding what nobody goes on with. A store
    /// may leave some out: `MinIO` forgets at a restart, lists none below a prefix, and drops them by itself after a
    /// day.
    async fn list_multiparts(&self, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError>;
}

/// Links with which a client fetches an object from the store itself.
pub trait PresignStore: Send + Sync + 'static {
    /// A URL that serves the object (`GET`, with or without `Range`; a signature covers the method, so no `HEAD`) for
    /// `valid` from now on, or `None` if this store has no endpoint that clients reach.
    fn presign<'a>(
        &'a self,
        key: &'a ObjectKey,
        valid: Duration,
    ) -> futures_util::future::BoxFuture<'a, Result<Option<String>, BlobError>>;
}

/// A whole blob store.
pub trait BlobStore: MultipartStore + PresignStore {}

impl<S: MultipartStore + PresignStore> BlobStore for S {}

/// The most keys in one [`ObjectStore::delete`]: what S3's `DeleteObjects` takes.
pub const MAX_DELETE: usize = 1_000;

/// The most entries of a page: what S3's `ListObjectsV2` returns.
pub const MAX_LIST: usize = 1_000;

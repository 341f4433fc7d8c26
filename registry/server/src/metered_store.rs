//! A blob store whose failures are counted.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryStreamExt as _};
use prometheus::IntCounterVec;
use roadstead_blobs::{
    BlobError, BlobStore, ByteStream, FileStream, Listing, MultipartInfo, MultipartStore, ObjectInfo, ObjectStore,
    PresignStore,
};
use roadstead_oci::{MultipartId, ObjectKey, Part};

/// Counts by call and kind; what is asked for and not there is an answer, not a failure.
pub(crate) struct MeteredStore {
    store: Arc<dyn BlobStore>,
    errors: IntCounterVec,
}

impl MeteredStore {
    /// Counts the failures of `store` in `errors`, whose labels are the call and the kind.
    pub(crate) fn new(store: Arc<dyn BlobStore>, errors: IntCounterVec) -> Self {
        Self { store, errors }
    }

    fn count<T>(&self, call: &'static str, result: Result<T, BlobError>) -> Result<T, BlobError> {
        result.inspect_err(|error| note(&self.errors, call, error))
    }
}

fn note(errors: &IntCounterVec, call: &'static str, error: &BlobError) {
    let kind = match error {
        BlobError::NotFound | BlobError::MultipartUnknown => return,
        BlobError::Unavailable(_) => "unavailable",
        BlobError::Full(_) => "full",
        BlobError::Denied(_) => "denied",
        BlobError::Broken(_) => "broken",
    };
    errors.with_label_values(&[call, kind]).inc();
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), BlobError> {
        self.count("put", self.store.put(key, content).await)
    }

    async fn put_new(&self, key: &ObjectKey, content: Bytes) -> Result<bool, BlobError> {
        self.count("put_new", self.store.put_new(key, content).await)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BlobError> {
        self.count("head", self.store.head(key).await)
    }

    async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        let stream = self.count("get", self.store.get(key, range).await)?;
        let errors = self.errors.clone();
        Ok(Box::pin(stream.inspect_err(move |error| note(&errors, "get", error))))
    }

    async fn get_files(&self, key: &ObjectKey, range: Range<u64>) -> Result<Option<FileStream>, BlobError> {
        let Some(files) = self.count("get", self.store.get_files(key, range).await)? else { return Ok(None) };
        let errors = self.errors.clone();
        Ok(Some(Box::pin(files.inspect_err(move |error| note(&errors, "get", error)))))
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError> {
        self.count("delete", self.store.delete(keys).await)
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError> {
        self.count("list", self.store.list(prefix, next).await)
    }
}

#[async_trait]
impl MultipartStore for MeteredStore {
    fn min_part_size(&self) -> u64 {
        self.store.min_part_size()
    }

    async fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError> {
        self.count("create_multipart", self.store.create_multipart(key).await)
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        part_size: u64,
        content: Bytes,
    ) -> Result<Part, BlobError> {
        self.count("put_part", self.store.put_part(key, id, number, part_size, content).await)
    }

    async fn persist(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        self.count("persist", self.store.persist(key, id, parts).await)
    }

    async fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError> {
        self.count("copy_parts", self.store.copy_parts(source, key, id, part_size, parts).await)
    }

    async fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        self.count("complete", self.store.complete(key, id, parts).await)
    }

    async fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        self.count("abort", self.store.abort(key, id).await)
    }

    async fn list_multiparts(&self, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError> {
        self.count("list_multiparts", self.store.list_multiparts(next).await)
    }
}

impl PresignStore for MeteredStore {
    fn presign<'a>(&'a self, key: &'a ObjectKey, valid: Duration) -> BoxFuture<'a, Result<Option<String>, BlobError>> {
        async move { self.count("presign", self.store.presign(key, valid).await) }.boxed()
    }
}

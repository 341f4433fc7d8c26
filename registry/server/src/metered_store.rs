//! A blob store whose failures are counted, and which remembers whether it was reached.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    watch: Watch,
}

/// What is told of a store. Clones share it.
#[derive(Clone)]
struct Watch {
    errors: IntCounterVec,
    reached: StoreContact,
}

/// Whether the blob store answered when it was asked last, which every replica does at least each half minute: it looks
/// whether the store is still its own. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StoreContact(Arc<AtomicBool>);

impl Default for StoreContact {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl StoreContact {
    /// Whether it did.
    pub(crate) fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl MeteredStore {
    /// Counts the failures of `store` in `errors`, whose labels are the call and the kind.
    pub(crate) fn new(store: Arc<dyn BlobStore>, errors: IntCounterVec) -> Self {
        Self { store, watch: Watch { errors, reached: StoreContact::default() } }
    }

    /// Whether it was reached.
    pub(crate) fn contact(&self) -> StoreContact {
        self.watch.reached.clone()
    }

    /// Of a call that may be answered without asking the store: only a failure says something of it.
    fn count_failure<T>(&self, call: &'static str, result: Result<T, BlobError>) -> Result<T, BlobError> {
        result.inspect_err(|error| self.watch.note(call, Some(error)))
    }

    fn count<T>(&self, call: &'static str, result: Result<T, BlobError>) -> Result<T, BlobError> {
        self.watch.note(call, result.as_ref().err());
        result
    }
}

impl Watch {
    fn note(&self, call: &'static str, error: Option<&BlobError>) {
        let kind = match error {
            None | Some(BlobError::NotFound | BlobError::MultipartUnknown) => None,
            Some(BlobError::Unavailable(_)) => Some("unavailable"),
            Some(BlobError::Full(_)) => Some("full"),
            Some(BlobError::Denied(_)) => Some("denied"),
            Some(BlobError::Broken(_)) => Some("broken"),
        };
        self.reached.0.store(!matches!(kind, Some("unavailable" | "denied")), Ordering::Relaxed);
        if let Some(kind) = kind {
            self.errors.with_label_values(&[call, kind]).inc();
        }
    }
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
        let watch = self.watch.clone();
        Ok(Box::pin(stream.inspect_err(move |error| watch.note("get", Some(error)))))
    }

    async fn get_files(&self, key: &ObjectKey, range: Range<u64>) -> Result<Option<FileStream>, BlobError> {
        let files = self.count_failure("get", self.store.get_files(key, range).await)?;
        let Some(files) = files else { return Ok(None) };
        let watch = self.watch.clone();
        Ok(Some(Box::pin(files.inspect_err(move |error| watch.note("get", Some(error))))))
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

    fn shows_parts(&self) -> bool {
        self.store.shows_parts()
    }

    async fn show(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        self.store.show(key, id).await
    }

    async fn get_parts(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        parts: &[Part],
        range: Range<u64>,
    ) -> Result<ByteStream, BlobError> {
        let stream = self.count("get_parts", self.store.get_parts(key, id, parts, range).await)?;
        let watch = self.watch.clone();
        Ok(Box::pin(stream.inspect_err(move |error| watch.note("get_parts", Some(error)))))
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
        async move { self.count_failure("presign", self.store.presign(key, valid).await) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use roadstead_blobs::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_is_answered_without_asking_the_store_says_nothing_of_it() {
        let errors = IntCounterVec::new(Opts::new("errors", "errors"), &["call", "kind"]).unwrap();
        let store = MeteredStore::new(Arc::new(MemoryStore::default()), errors);
        let key: ObjectKey = "blobs/01234567-89ab-4def-8123-456789abcdef".parse().unwrap();
        store.watch.note("head", Some(&BlobError::Unavailable("refused".to_owned())));
        assert!(store.get_files(&key, 0..1).await.unwrap().is_none());
        assert_eq!(store.presign(&key, Duration::from_secs(1)).await.unwrap(), None);
        assert!(!store.contact().is_there(), "neither of them asked it");
        assert!(store.head(&key).await.unwrap().is_none());
        assert!(store.contact().is_there());
    }

    #[test]
    fn a_store_is_there_if_it_answered_when_it_was_asked_last() {
        let errors = IntCounterVec::new(Opts::new("errors", "errors"), &["call", "kind"]).unwrap();
        let watch = Watch { errors: errors.clone(), reached: StoreContact::default() };
        let away = [BlobError::Unavailable("refused".to_owned()), BlobError::Denied("no such bucket".to_owned())];
        let answers = [None, Some(BlobError::NotFound), Some(BlobError::Full("quota".to_owned()))];
        for (error, answer) in away.iter().zip(&answers).chain(away.iter().zip(answers.iter().skip(1))) {
            watch.note("head", Some(error));
            assert!(!watch.reached.is_there(), "{error}");
            watch.note("head", answer.as_ref());
            assert!(watch.reached.is_there(), "{answer:?}");
        }
        assert_eq!(errors.with_label_values(&["head", "unavailable"]).get(), 2);
        assert_eq!(errors.with_label_values(&["head", "full"]).get(), 1);
    }
}

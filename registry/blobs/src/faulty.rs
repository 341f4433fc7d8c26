//! A store that fails when it is told to, for tests of what is built upon stores. Nothing in it is random or timed.
//!
//! ```text
//!   call --> fault of the queue, else of the plan --> before: fail, hang --> inner store --> after: fail, hang
//!                                                                             get: cut, truncate, flip
//! ```

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use roadstead_oci::{MultipartId, ObjectKey, Part};
use tokio_util::sync::CancellationToken;

use crate::error::BlobError;
use crate::store::{ByteStream, Listing, MultipartInfo, MultipartStore, ObjectInfo, ObjectStore, PresignStore};

/// Passes every call on to another store, but for those that meet a fault.
pub struct FaultyStore<S> {
    inner: S,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    queued: BTreeMap<Operation, VecDeque<Fault>>,
    plan: Option<Plan>,
    calls: BTreeMap<Operation, u64>,
}

/// Decides which call meets which fault.
pub type Plan = Box<dyn FnMut(&Call<'_>) -> Option<Fault> + Send>;

/// What a plan knows of a call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its kind.
    pub operation: Operation,
    /// The object, if it is about one; the first, if about several.
    pub key: Option<&'a ObjectKey>,
    /// How many calls of its kind came before it.
    pub earlier: u64,
}

/// A kind of call.
#[expect(missing_docs, reason = "each is named like the method of the store that it stands for")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Put,
    PutNew,
    Head,
    Get,
    Delete,
    List,
    CreateMultipart,
    PutPart,
    Persist,
    CopyParts,
    GetParts,
    Complete,
    Abort,
    ListMultiparts,
    Presign,
}

/// What happens to a call.
#[derive(Debug)]
pub enum Fault {
    /// It fails, without or in spite of its effect.
    Fail(Moment, BlobError),
    /// It waits until the gate is opened.
    Hang(Moment, Gate),
    /// The stream of a `get` fails after so many bytes: a broken connection.
    Cut(u64),
    /// The stream of a `get` ends after so many bytes as if it were whole: a store that breaks its promise.
    Truncate(u64),
    /// The lowest bit of this byte of a `get` is flipped, counted from the beginning of the stream: a rotten disk.
    Flip(u64),
}

/// When a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the inner store is asked: the call has no effect.
    Before,
    /// After the inner store answered: only the answer is lost or late.
    After,
}

/// Where a call waits until it is let through.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    reached: CancellationToken,
    opened: CancellationToken,
}

impl Gate {
    /// Lets through what waits now and what comes later.
    pub fn open(&self) {
        self.opened.cancel();
    }

    /// Waits until a call waits at the gate.
    pub async fn reached(&self) {
        self.reached.cancelled().await;
    }

    async fn pass(&self) {
        self.reached.cancel();
        self.opened.cancelled().await;
    }
}

impl<S> FaultyStore<S> {
    /// A store in which nothing fails yet.
    pub fn new(inner: S) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    /// The same, where `plan` is asked about every call that finds no queued fault.
    #[must_use]
    pub fn with_plan(mut self, plan: impl FnMut(&Call<'_>) -> Option<Fault> + Send + 'static) -> Self {
        self.faults.get_mut().plan = Some(Box::new(plan));
        self
    }

    /// Lets the next call of this kind that has no fault queued yet meet one.
    pub fn inject(&self, operation: Operation, fault: Fault) {
        self.faults.lock().queued.entry(operation).or_default().push_back(fault);
    }

    /// The store behind the faults.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// How many calls of a kind there were.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.faults.lock().calls.get(&operation).copied().unwrap_or_default()
    }

    fn meet(&self, operation: Operation, key: Option<&ObjectKey>) -> Option<Fault> {
        let mut faults = self.faults.lock();
        let count = faults.calls.entry(operation).or_default();
        let call = Call { operation, key, earlier: *count };
        *count += 1;
        let queued = faults.queued.get_mut(&operation).and_then(VecDeque::pop_front);
        queued.or_else(|| faults.plan.as_mut().and_then(|plan| plan(&call)))
    }

    async fn call<T>(
        &self,
        operation: Operation,
        key: Option<&ObjectKey>,
        effect: impl Future<Output = Result<T, BlobError>> + Send,
    ) -> Result<T, BlobError> {
        around(self.meet(operation, key), effect).await
    }
}

/// Does what a call does, with what a fault makes of it.
async fn around<T>(
    fault: Option<Fault>,
    effect: impl Future<Output = Result<T, BlobError>> + Send,
) -> Result<T, BlobError> {
    match fault {
        Some(Fault::Fail(Moment::Before, error)) => Err(error),
        Some(Fault::Fail(Moment::After, error)) => effect.await.and(Err(error)),
        Some(Fault::Hang(Moment::Before, gate)) => {
            gate.pass().await;
            effect.await
        }
        Some(Fault::Hang(Moment::After, gate)) => {
            let answer = effect.await;
            gate.pass().await;
            answer
        }
        None | Some(Fault::Cut(_) | Fault::Truncate(_) | Fault::Flip(_)) => effect.await,
    }
}

/// The first `len` bytes of a stream.
fn first(stream: ByteStream, len: u64) -> ByteStream {
    let take = move |left: &mut u64, chunk: Result<Bytes, BlobError>| {
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
        let chunk = chunk.map(|mut bytes| bytes.split_to(bytes.len().min(wanted)));
        *left -= chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let more = !chunk.as_ref().is_ok_and(Bytes::is_empty);
        std::future::ready(more.then_some(chunk))
    };
    stream.scan(len, take).boxed()
}

/// A stream with one bit of byte `at` flipped.
fn flipped(stream: ByteStream, at: u64) -> ByteStream {
    let flip = move |start: &mut u64, chunk: Result<Bytes, BlobError>| {
        let chunk = chunk.map(|bytes| {
            let offset = at.checked_sub(*start).and_then(|offset| usize::try_from(offset).ok());
            *start += bytes.len() as u64;
            let mut bytes = BytesMut::from(bytes);
            if let Some(byte) = offset.and_then(|offset| bytes.get_mut(offset)) {
                *byte ^= 1;
            }
            bytes.freeze()
        });
        std::future::ready(Some(chunk))
    };
    stream.scan(0, flip).boxed()
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for FaultyStore<S> {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), BlobError> {
        self.call(Operation::Put, Some(key), self.inner.put(key, content)).await
    }

    async fn put_new(&self, key: &ObjectKey, content: Bytes) -> Result<bool, BlobError> {
        self.call(Operation::PutNew, Some(key), self.inner.put_new(key, content)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BlobError> {
        self.call(Operation::Head, Some(key), self.inner.head(key)).await
    }

    async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        let get = self.inner.get(key, range);
        match self.meet(Operation::Get, Some(key)) {
            Some(Fault::Cut(len)) => {
                let end = Err(BlobError::Unavailable("the connection broke".into()));
                Ok(first(get.await?, len).chain(stream::iter([end])).boxed())
            }
            Some(Fault::Truncate(len)) => Ok(first(get.await?, len)),
            Some(Fault::Flip(at)) => Ok(flipped(get.await?, at)),
            fault => around(fault, get).await,
        }
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError> {
        self.call(Operation::Delete, keys.first(), self.inner.delete(keys)).await
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError> {
        self.call(Operation::List, None, self.inner.list(prefix, next)).await
    }
}

#[async_trait]
impl<S: MultipartStore> MultipartStore for FaultyStore<S> {
    fn min_part_size(&self) -> u64 {
        self.inner.min_part_size()
    }

    async fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError> {
        self.call(Operation::CreateMultipart, Some(key), self.inner.create_multipart(key)).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        number: u32,
        part_size: u64,
        content: Bytes,
    ) -> Result<Part, BlobError> {
        self.call(Operation::PutPart, Some(key), self.inner.put_part(key, id, number, part_size, content)).await
    }

    async fn persist(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        self.call(Operation::Persist, Some(key), self.inner.persist(key, id, parts)).await
    }

    async fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError> {
        self.call(Operation::CopyParts, Some(key), self.inner.copy_parts(source, key, id, part_size, parts)).await
    }

    fn shows_parts(&self) -> bool {
        self.inner.shows_parts()
    }

    async fn show(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        self.inner.show(key, id).await
    }

    async fn get_parts(
        &self,
        key: &ObjectKey,
        id: &MultipartId,
        parts: &[Part],
        range: Range<u64>,
    ) -> Result<ByteStream, BlobError> {
        self.call(Operation::GetParts, Some(key), self.inner.get_parts(key, id, parts, range)).await
    }

    async fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        self.call(Operation::Complete, Some(key), self.inner.complete(key, id, parts)).await
    }

    async fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        self.call(Operation::Abort, Some(key), self.inner.abort(key, id)).await
    }

    async fn list_multiparts(&self, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError> {
        self.call(Operation::ListMultiparts, None, self.inner.list_multiparts(next)).await
    }
}

impl<S: PresignStore> PresignStore for FaultyStore<S> {
    fn presign<'a>(&'a self, key: &'a ObjectKey, valid: Duration) -> BoxFuture<'a, Result<Option<String>, BlobError>> {
        self.call(Operation::Presign, Some(key), self.inner.presign(key, valid)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use uuid::Uuid;

    use super::*;
    use crate::MemoryStore;

    async fn filled() -> (FaultyStore<MemoryStore>, ObjectKey, Bytes) {
        let store = FaultyStore::new(MemoryStore::new());
        let key = ObjectKey::blob(Uuid::from_u128(7));
        let content = Bytes::from((0..=255).cycle().take(200_000).collect::<Vec<u8>>());
        store.put(&key, content.clone()).await.unwrap();
        (store, key, content)
    }

    async fn read(store: &impl ObjectStore, key: &ObjectKey, len: usize) -> (Vec<u8>, Option<BlobError>) {
        let mut stream = store.get(key, 0..len as u64).await.unwrap();
        let mut read = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(bytes)) => read.extend_from_slice(&bytes),
                Ok(None) => return (read, None),
                Err(error) => return (read, Some(error)),
            }
        }
    }

    #[tokio::test]
    async fn a_fault_hits_before_or_after_the_effect() {
        let (store, key, _) = filled().await;
        let other = ObjectKey::blob(Uuid::from_u128(8));
        let lost = || BlobError::Unavailable("lost".into());
        store.inject(Operation::Put, Fault::Fail(Moment::Before, lost()));
        store.inject(Operation::Put, Fault::Fail(Moment::After, lost()));
        store.put(&other, Bytes::new()).await.unwrap_err();
        assert_eq!(store.head(&other).await.unwrap(), None);
        store.put(&other, Bytes::new()).await.unwrap_err();
        assert_eq!(store.head(&other).await.unwrap().unwrap().size, 0);
        store.put(&key, Bytes::new()).await.unwrap();
        assert_eq!(store.calls(Operation::Put), 4);
    }

    #[tokio::test]
    async fn a_stream_is_cut_truncated_or_flipped_where_it_was_said() {
        let (store, key, content) = filled().await;
        for at in [0, 1, 65_535, 65_536, 131_073, 199_999] {
            let offset = usize::try_from(at).unwrap();
            store.inject(Operation::Get, Fault::Cut(at));
            let (cut, error) = read(&store, &key, content.len()).await;
            assert_eq!(cut, content[..offset]);
            assert!(matches!(error, Some(BlobError::Unavailable(_))));

            store.inject(Operation::Get, Fault::Truncate(at));
            let (truncated, error) = read(&store, &key, content.len()).await;
            assert_eq!(truncated, content[..offset]);
            assert!(error.is_none());

            store.inject(Operation::Get, Fault::Flip(at));
            let (flipped, _) = read(&store, &key, content.len()).await;
            let mut expected = content.to_vec();
            expected[offset] ^= 1;
            assert!(flipped == expected, "one bit of byte {at}");
        }
        assert_eq!(read(&store, &key, content.len()).await.0, content);
    }

    #[tokio::test]
    async fn a_hanging_call_waits_for_its_gate() {
        let (store, key, _) = filled().await;
        let gate = Gate::default();
        store.inject(Operation::Delete, Fault::Hang(Moment::Before, gate.clone()));
        let keys = [key];
        let deletion = store.delete(&keys);
        let meanwhile = async {
            gate.reached().await;
            let seen = store.head(&keys[0]).await.unwrap();
            gate.open();
            seen
        };
        let (deleted, seen) = futures_util::join!(deletion, meanwhile);
        deleted.unwrap();
        assert!(seen.is_some(), "it had no effect before the gate was opened");
        assert_eq!(store.head(&keys[0]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_plan_decides_by_kind_key_and_count() {
        let (store, key, _) = filled().await;
        let store = store.with_plan(|call| {
            let third = call.operation == Operation::Head && call.earlier == 2;
            (third && call.key.is_some()).then(|| Fault::Fail(Moment::Before, BlobError::NotFound))
        });
        let mut failed = Vec::new();
        for _ in 0..4 {
            failed.push(store.head(&key).await.is_err());
        }
        assert_eq!(failed, [false, false, true, false]);
    }
}

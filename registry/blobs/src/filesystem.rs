//! A store in a folder: of a local disk, or of a volume that several replicas mount.
//!
//! ```text
//!   async calls --> one hop to a blocking thread --> write.rs    stage, sync, rename
//!                                                    read.rs     open, read ahead
//!                                                    listing.rs  pages in key order
//!                                   layout.rs  key <-> path      index.rs  the parts of an object
//! ```
//!
//! An object is a file, or, when it was written in parts, a folder of immutable part files with an index: completing
//! renames the folder and copies nothing, and a writer that lost its session cannot touch what another one completed.

mod failure;
mod index;
mod layout;
mod listing;
mod read;
pub(crate) mod room;
mod write;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roadstead_oci::{MultipartId, ObjectKey, Part};
use uuid::Uuid;

use self::write::Folder;
use crate::blocking::blocking;
use crate::error::BlobError;
use crate::rules::{check_delete, check_part};
use crate::store::{
    ByteStream, FileStream, Listing, MultipartInfo, MultipartStore, ObjectInfo, ObjectStore, PresignStore,
};

/// Where fresh random ids come from.
pub type IdSource = Box<dyn Fn() -> Uuid + Send + Sync>;

/// Keeps objects in a folder.
pub struct FilesystemStore {
    folder: Arc<Folder>,
}

impl FilesystemStore {
    /// Opens the store in `folder`, which is made if it is not there, and checks that it can be written to. Blocks.
    /// `ids` names what is under way and must never repeat itself, not even in another process. Content that would
    /// leave less than `reserve` bytes of the disk free is refused with [`BlobError::Full`].
    pub fn open(folder: &Path, ids: IdSource, reserve: u64) -> Result<Self, BlobError> {
        Ok(Self { folder: Arc::new(Folder::open(folder, ids, reserve)?) })
    }

    /// Runs `work` on the folder where blocking is allowed.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let folder = Arc::clone(&self.folder);
        blocking(move || work(&folder)).await
    }
}

#[async_trait]
impl ObjectStore for FilesystemStore {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), BlobError> {
        let key = key.clone();
        self.run(move |folder| folder.put(&key, &content)).await
    }

    async fn put_new(&self, key: &ObjectKey, content: Bytes) -> Result<bool, BlobError> {
        let key = key.clone();
        self.run(move |folder| folder.put_new(&key, &content)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, BlobError> {
        let key = key.clone();
        self.run(move |folder| {
            let opened = read::open(&folder.object(&key))?;
            Ok(opened.map(|opened| ObjectInfo { key, size: opened.size, modified: opened.modified }))
        })
        .await
    }

    async fn get(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream, BlobError> {
        read::stream(self.folder.object(key), range).await
    }

    async fn get_files(&self, key: &ObjectKey, range: Range<u64>) -> Result<Option<FileStream>, BlobError> {
        read::files(self.folder.object(key), range).await.map(Some)
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BlobError> {
        check_delete(keys)?;
        let keys = keys.to_vec();
        self.run(move |folder| folder.delete(&keys)).await
    }

    async fn list(&self, prefix: &str, next: Option<&str>) -> Result<Listing<ObjectInfo>, BlobError> {
        let (prefix, next) = (prefix.to_owned(), next.map(str::to_owned));
        self.run(move |folder| listing::objects(&folder.root, &prefix, next.as_deref())).await
    }
}

#[async_trait]
impl MultipartStore for FilesystemStore {
    fn min_part_size(&self) -> u64 {
        1
    }

    async fn create_multipart(&self, key: &ObjectKey) -> Result<MultipartId, BlobError> {
        let key = key.clone();
        self.run(move |folder| folder.create_multipart(&key)).await
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
        let (key, id) = (key.clone(), id.clone());
        self.run(move |folder| folder.put_part(&key, &id, number, &content)).await
    }

    async fn persist(&self, key: &ObjectKey, id: &MultipartId, _: &[Part]) -> Result<(), BlobError> {
        let (key, id) = (key.clone(), id.clone());
        self.run(move |folder| folder.persist(&key, &id)).await
    }

    async fn copy_parts(
        &self,
        source: &ObjectKey,
        key: &ObjectKey,
        id: &MultipartId,
        part_size: u64,
        parts: u32,
    ) -> Result<Vec<Part>, BlobError> {
        let (source, key, id) = (source.clone(), key.clone(), id.clone());
        self.run(move |folder| folder.copy_parts(&source, &key, &id, part_size, parts)).await
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
        let folder = self.folder.upload(key, id).map_err(|_| BlobError::NotFound)?;
        read::stream_parts(folder, parts.to_vec(), range).await
    }

    async fn complete(&self, key: &ObjectKey, id: &MultipartId, parts: &[Part]) -> Result<(), BlobError> {
        let (key, id, parts) = (key.clone(), id.clone(), parts.to_vec());
        self.run(move |folder| folder.complete(&key, &id, &parts)).await
    }

    async fn abort(&self, key: &ObjectKey, id: &MultipartId) -> Result<(), BlobError> {
        let (key, id) = (key.clone(), id.clone());
        self.run(move |folder| folder.abort(&key, &id)).await
    }

    async fn list_multiparts(&self, next: Option<&str>) -> Result<Listing<MultipartInfo>, BlobError> {
        let next = next.map(str::to_owned);
        self.run(move |folder| listing::multiparts(&folder.root, next.as_deref())).await
    }
}

impl PresignStore for FilesystemStore {
    fn presign<'a>(&'a self, _: &'a ObjectKey, _: Duration) -> BoxFuture<'a, Result<Option<String>, BlobError>> {
        async { Ok(None) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::TryStreamExt;
    use tempfile::TempDir;

    use super::*;

    const PART: u64 = 600_000;

    /// A store, and a way to look behind it.
    struct Fixture {
        folder: TempDir,
        store: FilesystemStore,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = FilesystemStore::open(folder.path(), ids(1), 0).unwrap();
            Self { folder, store }
        }

        /// What a restart after a `kill -9` finds.
        fn reopen(&mut self) {
            self.store = FilesystemStore::open(self.folder.path(), ids(2), 0).unwrap();
        }

        fn path(&self, key: &ObjectKey) -> PathBuf {
            self.folder.path().join(layout::object_path(key))
        }

        fn unfinished(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.folder.path().join(layout::UNFINISHED)).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        }

        async fn write_parts(&self, key: &ObjectKey, count: u32) -> (MultipartId, Vec<Part>) {
            let id = self.store.create_multipart(key).await.unwrap();
            let mut parts = Vec::new();
            for number in 1..=count {
                parts.push(self.store.put_part(key, &id, number, PART, part(number)).await.unwrap());
            }
            (id, parts)
        }

        async fn read(&self, key: &ObjectKey, size: u64) -> Result<Vec<u8>, BlobError> {
            let chunks: Vec<Bytes> = self.store.get(key, 0..size).await?.try_collect().await?;
            Ok(chunks.concat())
        }
    }

    fn ids(run: u64) -> IdSource {
        let count = AtomicU64::new(0);
        Box::new(move || Uuid::from_u64_pair(run, count.fetch_add(1, Ordering::Relaxed)))
    }

    fn key(name: u128) -> ObjectKey {
        ObjectKey::blob(Uuid::from_u128(name))
    }

    fn part(number: u32) -> Bytes {
        number.to_le_bytes().repeat(usize::try_from(PART).unwrap() / 4).into()
    }

    #[tokio::test]
    async fn an_upload_goes_on_after_a_restart() {
        let mut fixture = Fixture::new();
        let (id, mut parts) = fixture.write_parts(&key(1), 2).await;
        fixture.reopen();
        parts.push(fixture.store.put_part(&key(1), &id, 3, PART, part(3)).await.unwrap());
        fixture.reopen();
        fixture.store.complete(&key(1), &id, &parts).await.unwrap();
        fixture.reopen();
        let expected = [part(1), part(2), part(3)].concat();
        assert!(fixture.read(&key(1), 3 * PART).await.unwrap() == expected);
    }

    #[tokio::test]
    async fn what_a_kill_leaves_is_listed_and_removed() {
        let mut fixture = Fixture::new();
        // Of a put, of an upload that nobody goes on with, and of a deletion.
        let left = |name| fixture.folder.path().join(layout::unfinished_path(&key(name), Uuid::from_u128(9)));
        fs::write(left(1), "half").unwrap();
        fixture.write_parts(&key(2), 1).await;
        fs::create_dir(left(3)).unwrap();
        fs::write(left(3).join(index::INDEX), "").unwrap();
        fixture.reopen();
        let listed = fixture.store.list_multiparts(None).await.unwrap().items;
        let keys: Vec<_> = listed.iter().map(|upload| upload.key.clone()).collect();
        assert_eq!(keys, [key(1), key(2), key(3)]);
        assert_eq!(fixture.store.list("", None).await.unwrap().items, []);
        for upload in listed {
            fixture.store.abort(&upload.key, &upload.id).await.unwrap();
        }
        assert!(fixture.unfinished().is_empty());
    }

    #[tokio::test]
    async fn only_the_parts_that_count_are_kept() {
        let fixture = Fixture::new();
        let (id, mut parts) = fixture.write_parts(&key(1), 2).await;
        parts[0] = fixture.store.put_part(&key(1), &id, 1, PART, part(9)).await.unwrap();
        fixture.store.complete(&key(1), &id, &parts).await.unwrap();
        assert_eq!(fs::read_dir(fixture.path(&key(1))).unwrap().count(), 3, "two parts and the index");
        assert!(fixture.read(&key(1), 2 * PART).await.unwrap() == [part(9), part(2)].concat());
        fixture.store.delete(&[key(1)]).await.unwrap();
        assert!(!fixture.path(&key(1)).exists());
        assert!(fixture.unfinished().is_empty());
    }

    #[tokio::test]
    async fn copied_parts_share_their_bytes() {
        let fixture = Fixture::new();
        let (id, parts) = fixture.write_parts(&key(1), 2).await;
        fixture.store.complete(&key(1), &id, &parts).await.unwrap();
        let id = fixture.store.create_multipart(&key(2)).await.unwrap();
        let copied = fixture.store.copy_parts(&key(1), &key(2), &id, PART, 2).await.unwrap();
        let name = index::part_name_of(&copied[1]).unwrap();
        assert_eq!(fs::metadata(fixture.unfinished()[0].join(name)).unwrap().nlink(), 2);
    }

    #[tokio::test]
    async fn a_file_that_is_being_read_outlives_its_deletion() {
        let fixture = Fixture::new();
        let content = [part(1), part(2), part(3), part(4)].concat();
        fixture.store.put(&key(1), content.clone().into()).await.unwrap();
        let stream = fixture.store.get(&key(1), 0..4 * PART).await.unwrap();
        fixture.store.delete(&[key(1)]).await.unwrap();
        let read: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert!(read.concat() == content);
    }

    #[tokio::test]
    async fn reading_on_in_parts_that_were_deleted_fails() {
        let fixture = Fixture::new();
        let (id, parts) = fixture.write_parts(&key(1), 4).await;
        fixture.store.complete(&key(1), &id, &parts).await.unwrap();
        let stream = fixture.store.get(&key(1), 0..4 * PART).await.unwrap();
        fixture.store.delete(&[key(1)]).await.unwrap();
        assert!(matches!(stream.try_collect::<Vec<_>>().await, Err(BlobError::NotFound)));
    }

    #[tokio::test]
    async fn a_damaged_folder_is_told() {
        let fixture = Fixture::new();
        let (id, parts) = fixture.write_parts(&key(1), 2).await;
        let upload = fixture.unfinished().remove(0);
        let file = upload.join(index::part_name_of(&parts[1]).unwrap());
        fs::write(&file, &part(2)[1..]).unwrap();
        let completed = fixture.store.complete(&key(1), &id, &parts).await;
        assert!(matches!(completed, Err(BlobError::Broken(_))), "a part is shorter than it was: {completed:?}");
        fs::write(&file, part(2)).unwrap();
        fixture.store.complete(&key(1), &id, &parts).await.unwrap();

        fs::write(fixture.path(&key(1)).join(index::part_name_of(&parts[1]).unwrap()), &part(2)[..9]).unwrap();
        let read = fixture.read(&key(1), 2 * PART).await;
        assert!(matches!(read, Err(BlobError::Broken(_))), "the last part ends early");
        fs::write(fixture.path(&key(1)).join(index::INDEX), "roadstead parts 1\n600000 ").unwrap();
        assert!(matches!(fixture.store.head(&key(1)).await, Err(BlobError::Broken(_))), "the index is torn");
    }

    #[tokio::test]
    async fn what_is_not_ours_is_passed_over() {
        let fixture = Fixture::new();
        fixture.store.put(&key(1), Bytes::new()).await.unwrap();
        let fan = fixture.path(&key(1)).parent().unwrap().to_owned();
        fs::write(fan.join(".nfs0000"), "x").unwrap();
        fs::create_dir(fixture.folder.path().join("blobs/lost+found")).unwrap();
        fs::write(fixture.folder.path().join("unfinished/README"), "x").unwrap();
        let keys: Vec<_> = fixture.store.list("", None).await.unwrap().items.into_iter().map(|info| info.key).collect();
        assert_eq!(keys, [key(1)]);
        assert_eq!(fixture.store.list_multiparts(None).await.unwrap().items, []);
    }

    #[test]
    fn a_folder_that_cannot_be_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let Err(error) = FilesystemStore::open(&file.path().join("store"), ids(1), 0) else { panic!("below a file") };
        assert!(error.to_string().contains("cannot create"), "{error}");
    }
}

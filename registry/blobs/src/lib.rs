//! Bytes: where they are kept and what every place that keeps them promises.

mod blocking;
mod error;
mod faulty;
mod filesystem;
mod memory;
mod rules;
mod s3;
mod showing;
mod store;
pub mod suite;

pub use error::BlobError;
pub use faulty::{Call, Fault, FaultyStore, Gate, Moment, Operation, Plan};
pub use filesystem::{FilesystemStore, IdSource};
pub use memory::MemoryStore;
pub use s3::{S3Credentials, S3Options, S3OptionsError, S3Store};
pub use showing::ShowingStore;
pub use store::{
    BlobStore, ByteStream, FileRange, FileStream, Listing, MAX_DELETE, MAX_FILE_RANGE, MAX_LIST, MultipartInfo,
    MultipartStore, ObjectInfo, ObjectStore, PresignStore,
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use uuid::Uuid;

    use crate::suite::{self, Subject};
    use crate::{BlobStore, Fault, FaultyStore, FilesystemStore, IdSource, MemoryStore, Operation, ShowingStore};

    /// Names in no order, as random ones are: multiples of an odd number do not repeat.
    fn ids() -> IdSource {
        let count = AtomicU64::new(1);
        Box::new(move || {
            let mixed = count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Uuid::from_u64_pair(mixed, !mixed)
        })
    }

    /// The promises that a store breaks. The part size is above that of any chunk in which stores read.
    async fn broken(store: impl BlobStore) -> Vec<String> {
        let subject = Subject { store: Arc::new(store), ids: ids(), part_size: 700_001, lists_multiparts: true };
        suite::run(&subject).await.into_iter().map(|(name, violation)| format!("{name}: {violation}")).collect()
    }

    #[tokio::test]
    async fn memory_keeps_every_promise() {
        assert_eq!(broken(MemoryStore::new()).await, [""; 0]);
    }

    #[tokio::test]
    async fn the_filesystem_keeps_every_promise() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(broken(FilesystemStore::open(folder.path(), ids(), 0).unwrap()).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_store_that_shows_parts_beside_another_keeps_every_promise() {
        let folder = tempfile::tempdir().unwrap();
        let showing = ShowingStore::new(Arc::new(MemoryStore::new()), folder.path().join("leaving"), 0);
        assert_eq!(broken(showing).await, [""; 0]);
        assert_eq!(std::fs::read_dir(folder.path().join("leaving")).unwrap().count(), 0, "its files have no names");
    }

    #[tokio::test]
    async fn a_faulty_store_without_faults_keeps_every_promise() {
        assert_eq!(broken(FaultyStore::new(MemoryStore::new())).await, [""; 0]);
    }

    #[tokio::test]
    async fn the_suite_sees_a_store_that_lies() {
        let lying = |fault: fn() -> Fault| {
            FaultyStore::new(MemoryStore::new()).with_plan(move |call| (call.operation == Operation::Get).then(fault))
        };
        for fault in [|| Fault::Truncate(500), || Fault::Flip(0)] as [fn() -> Fault; 2] {
            let broken = broken(lying(fault)).await;
            assert!(
                broken.iter().any(|broken| broken.starts_with("an object reads as it was written: ")),
                "{broken:?}"
            );
            assert!(broken.iter().any(|broken| broken.starts_with("a range is exactly its bytes: ")), "{broken:?}");
            assert!(broken.iter().any(|broken| broken.starts_with("an object is made of its parts: ")), "{broken:?}");
        }
    }
}

//! How fast a folder is: `throughput FOLDER`. Prints rates; nothing is judged by them.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use roadstead_blobs::{BlobError, FilesystemStore, MultipartStore, ObjectStore};
use roadstead_oci::ObjectKey;
use tokio::time::Instant;
use uuid::Uuid;

const MIB: usize = 1024 * 1024;

/// Calls at once, like a small cluster pulling.
const CLIENTS: usize = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("throughput FOLDER")?;
    let store = FilesystemStore::open(Path::new(&folder), Box::new(fresh), 0)?;
    for (name, size, count) in [("4 KiB", 4096, 2_000), ("1 MiB", MIB, 500)] {
        let keys: Vec<_> = (0..count).map(|_| ObjectKey::blob(fresh())).collect();
        let content = Bytes::from(vec![7; size]);
        for clients in [1, CLIENTS] {
            let start = Instant::now();
            let put = |key: ObjectKey| store_put(&store, key, content.clone());
            stream::iter(keys.clone()).map(put).buffer_unordered(clients).try_collect::<()>().await?;
            report(&format!("put {name}, {clients} at once"), count, size, start);
            let start = Instant::now();
            let get = |key: ObjectKey| read(&store, key, size as u64);
            stream::iter(keys.clone()).map(get).buffer_unordered(clients).try_collect::<()>().await?;
            report(&format!("get {name}, {clients} at once"), count, size, start);
        }
        let start = Instant::now();
        store.delete(&keys[..count.min(1000)]).await?;
        report(&format!("delete {name}"), count.min(1000), 0, start);
    }

    let whole = ObjectKey::blob(fresh());
    let start = Instant::now();
    store.put(&whole, Bytes::from(vec![7; 100 * MIB])).await?;
    report("put 100 MiB at once", 1, 100 * MIB, start);
    let in_parts = ObjectKey::blob(fresh());
    let id = store.create_multipart(&in_parts).await?;
    let part = Bytes::from(vec![7; 10 * MIB]);
    let start = Instant::now();
    let put_part = |number| store.put_part(&in_parts, &id, number, 10 * MIB as u64, part.clone());
    let parts: Vec<_> = stream::iter(1..=10).map(put_part).buffered(4).try_collect().await?;
    report("put 10 parts of 10 MiB, 4 at once", 1, 100 * MIB, start);
    let start = Instant::now();
    store.persist(&in_parts, &id, &parts).await?;
    store.complete(&in_parts, &id, &parts).await?;
    report("complete", 1, 0, start);
    for (name, key) in [("in one file", whole), ("in parts", in_parts)] {
        for clients in [1, 4] {
            let start = Instant::now();
            let get = |key: ObjectKey| read(&store, key, 100 * MIB as u64);
            stream::iter(vec![key.clone(); 20]).map(get).buffer_unordered(clients).try_collect::<()>().await?;
            report(&format!("get 100 MiB {name}, {clients} at once"), 20, 100 * MIB, start);
        }
    }
    Ok(())
}

async fn store_put(store: &FilesystemStore, key: ObjectKey, content: Bytes) -> Result<(), BlobError> {
    store.put(&key, content).await
}

async fn read(store: &FilesystemStore, key: ObjectKey, size: u64) -> Result<(), BlobError> {
    let mut stream = store.get(&key, 0..size).await?;
    while stream.try_next().await?.is_some() {}
    Ok(())
}

fn report(what: &str, count: usize, size: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate to be read by a person")]
    let (each, rate) = (count as f64 / seconds, (count * size) as f64 / seconds / MIB as f64);
    println!("{what:42} {each:9.0}/s {rate:9.0} MiB/s");
}

fn fresh() -> Uuid {
    Uuid::from_u64_pair(RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}

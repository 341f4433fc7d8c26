//! P1: what the facts name has the digest that they name it by.

use futures_util::TryStreamExt;
use roadstead_blobs::ObjectStore as _;
use roadstead_metadata::Query;
use roadstead_oci::{Hasher, ObjectKey};

use crate::run::World;
use crate::universe::sha256;

/// Rows at once.
const PAGE: usize = 1_000;

pub(super) async fn check(world: &World) -> Result<(), String> {
    for serving in world.cluster.serving() {
        let query = serving.metadata.query().map_err(|error| error.to_string())?;
        check_replica(world, &query).await.map_err(|why| format!("P1: at {}: {why}", serving.process.name))?;
    }
    Ok(())
}

async fn check_replica(world: &World, query: &Query) -> Result<(), String> {
    for repository in &world.universe.repositories {
        for (digest, fact) in query.blobs(repository, None, PAGE).map_err(|error| error.to_string())? {
            let content = read(world, &fact.key, fact.size).await?;
            if Hasher::verify_bytes(digest, &content).is_err() {
                return Err(format!("the object {} in {repository} is not {digest}", fact.key));
            }
        }
    }
    let wrong = sha256(b"something else");
    let holders = query.holders(&wrong, None, PAGE).map_err(|error| error.to_string())?;
    if holders.is_empty() { Ok(()) } else { Err(format!("{holders:?} hold a digest that nothing has")) }
}

async fn read(world: &World, key: &ObjectKey, size: u64) -> Result<Vec<u8>, String> {
    let unread = |error| format!("the object {key} cannot be read: {error}");
    let bytes = world.cluster.bucket.content().get(key, 0..size).await.map_err(unread)?;
    Ok(bytes.try_collect::<Vec<_>>().await.map_err(unread)?.concat())
}

//! P1: what the facts name has the digest that they name it by.

use futures_util::TryStreamExt;
use roadstead_blobs::ObjectStore as _;
use roadstead_metadata::Query;
use roadstead_oci::ObjectKey;

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
        for blob in 0..world.universe.blobs.len() {
            let digest = world.universe.digest(blob);
            let Some(fact) = query.blob(repository, &digest).map_err(|error| error.to_string())? else { continue };
            let content = read(world, &fact.key, fact.size).await?;
            if sha256(&content) != digest {
                return Err(format!("the object {} of blob {blob} in {repository} is not that blob", fact.key));
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

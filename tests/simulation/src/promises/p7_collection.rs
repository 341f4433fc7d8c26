//! P7: what is named is never collected (`client/images.rs` checks what was promised); what nothing names is gone after
//! two graces and the time of readers, and nothing else is left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use roadstead_blobs::{MultipartStore as _, ObjectStore as _};
use roadstead_metadata::Query;

use crate::run::World;
use crate::world::replica::GRACE;

/// By the log's time, which passes at least half as fast: two graces, the readers' time, a day for what was reserved.
const LONG: Duration = Duration::from_hours(60);

/// How often that passes at most. What was stamped before time passed all at once, and is agreed on after that, sets the
/// log's time back to then: it has passed in vain.
const MOST_ROUNDS: usize = 6;

pub(super) async fn check(world: &World) -> Result<(), String> {
    for time in [GRACE * 3, GRACE * 3, LONG, LONG] {
        let_pass(world, time).await?;
    }
    for _ in 2..MOST_ROUNDS {
        if left(world).await?.is_none() {
            return Ok(());
        }
        let_pass(world, LONG).await?;
    }
    left(world).await?.map_or(Ok(()), |left| Err(format!("P7: {left}")))
}

/// Lets time pass, and the janitor work until it has nothing left to do.
async fn let_pass(world: &World, time: Duration) -> Result<(), String> {
    let cluster = &world.cluster;
    // Who hears of nobody does not know that time passes.
    let in_touch = async || {
        let hears = |ago: Duration| ago < Duration::from_secs(1);
        let all = cluster.serving();
        all.iter().all(|serving| serving.metadata.status().contact.is_some_and(hears)).then_some(())
    };
    cluster.until("all hear of a leader", in_touch).await.map_err(|why| format!("P7: {why}"))?;
    cluster.pass(time);
    let swept = async || {
        let leader = cluster.leader()?;
        leader.registry.sweep_multiparts().await.ok()?;
        let swept = leader.registry.sweep().await.ok()?;
        (swept.objects == 0 && swept.unlinked == 0 && swept.condemned == 0).then_some(())
    };
    cluster.until("the janitor has nothing left to do", swept).await.map_err(|why| format!("P7: {why}"))
}

/// What should be gone and is not.
async fn left(world: &World) -> Result<Option<String>, String> {
    let cluster = &world.cluster;
    let leader = cluster.until("somebody leads", async || cluster.leader()).await?;
    let query = leader.metadata.query().map_err(|error| error.to_string())?;
    let expected = named(world, &query)?;
    let listing = cluster.bucket.content().list("", None).await.map_err(|error| error.to_string())?;
    let found: BTreeSet<String> = listing.items.into_iter().map(|object| object.key.to_string()).collect();
    if let Some(lost) = expected.difference(&found).next() {
        return Err(format!("P7: {lost} is named and not in the bucket"));
    }
    if let Some(left) = found.difference(&expected).next() {
        return Ok(Some(format!("{left} is in the bucket, and nothing names it after two graces")));
    }
    for repository in &world.universe.repositories {
        let held = query.blobs(repository, None, usize::MAX).map_err(|error| error.to_string())?;
        if let Some((digest, _)) = held.into_iter().find(|(_, fact)| fact.unnamed_since.is_some()) {
            return Ok(Some(format!("{digest} is named by nothing in {repository}, and still held")));
        }
    }
    let multiparts = cluster.bucket.content().list_multiparts(None).await.map_err(|error| error.to_string())?;
    Ok(multiparts.items.first().map(|left| format!("the multipart upload of {} is left", left.key)))
}

/// The keys of what is named by manifests, each of which has all its blobs.
fn named(world: &World, query: &Query) -> Result<BTreeSet<String>, String> {
    let mut keys = BTreeSet::new();
    let all = query.linked_keys(None, usize::MAX).map_err(|error| error.to_string())?;
    keys.extend(all.iter().map(ToString::to_string));
    let stored = world.history.with(|records| records.stored.clone());
    for (value, stored) in stored {
        let name = &world.universe.repositories[stored.repository];
        for blob in stored.blobs {
            let digest = world.universe.digest(blob);
            let fact = query.blob(name, &digest).map_err(|error| error.to_string())?;
            let fact = fact.ok_or_else(|| format!("P7: blob {blob} of manifest {value} was collected"))?;
            if !keys.contains(fact.key.as_str()) {
                return Err(format!("P7: {} is named by a blob and not linked", fact.key));
            }
        }
    }
    Ok(keys)
}

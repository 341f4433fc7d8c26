//! Single stories that chance seldom tells.

use std::time::Duration;

use futures_util::StreamExt;
use roadstead_domain::{BlobReadError, Content, Precondition};
use roadstead_oci::{Reference, RepositoryName};

use crate::run::{Plan, World, block_on};
use crate::trace::Trace;
use crate::world::network::pause;
use crate::world::replica::{GRACE, Serving};

/// A world of three replicas in which nothing has gone wrong.
fn tell(seed: u64, story: impl AsyncFnOnce(&World) -> Result<(), String>) {
    block_on(seed, async {
        let world = World::new(Plan::of(seed), Trace::begin(false));
        world.cluster.begin(3).await.expect("a cluster");
        story(&world).await.expect("the story ends well");
        assert!(world.cluster.violations().is_empty(), "{:?}", world.cluster.violations());
    });
}

async fn leader(world: &World) -> Result<Serving, String> {
    world.cluster.until("somebody leads", async || world.cluster.leader()).await
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// Pushes an image of the universe, at a replica.
async fn push(world: &World, serving: &Serving, name: &RepositoryName) -> Result<(Reference, usize), String> {
    let (value, manifest) = world.universe.new_manifest();
    let blobs = world.universe.blobs_of(value);
    for blob in &blobs {
        let content = world.universe.blobs[*blob].clone();
        let length = Some(content.len() as u64);
        let body = futures_util::stream::iter([Ok(content)]).boxed();
        let content = Content { range: None, length, body };
        serving.registry.upload_blob(name, world.universe.digest(*blob), content).await.map_err(text)?;
    }
    let reference = Reference::Digest(world.universe.manifest_digest(value));
    serving.registry.put_manifest(name, &reference, &[], Precondition::None, &manifest).await.map_err(text)?;
    Ok((reference, blobs[0]))
}

#[test]
fn p7_a_replica_that_lags_does_not_say_that_a_collected_blob_exists() {
    tell(1, async |world| {
        let name = &world.universe.repositories[0];
        let leader = leader(world).await?;
        let (reference, blob) = push(world, &leader, name).await?;
        let digest = world.universe.digest(blob);
        let all = world.cluster.serving();
        let lagging = all.iter().find(|serving| serving.process.name != leader.process.name).ok_or("a follower")?;
        lagging.metadata.linearize().await.map_err(text)?;
        lagging.registry.promise_blob(name, &digest).await.map_err(text)?;

        for other in all.iter().map(|serving| &serving.process.name) {
            world.cluster.network.cut(other, &lagging.process.name);
            world.cluster.network.cut(&lagging.process.name, other);
        }
        pause(Duration::from_secs(5)).await;
        leader.registry.delete_manifest(name, &reference).await.map_err(text)?;
        for _ in 0..4 {
            world.cluster.pass(GRACE + Duration::from_secs(1));
            leader.registry.sweep().await.map_err(text)?;
        }
        let gone = leader.registry.promise_blob(name, &digest).await;
        assert!(matches!(gone, Err(BlobReadError::Unknown)), "it was collected: {gone:?}");
        let said = lagging.registry.promise_blob(name, &digest).await;
        assert!(matches!(said, Err(BlobReadError::Fault(_))), "whoever lags by graces does not know: {said:?}");
        Ok(())
    });
}

/// A replica whose clock is ahead may count the hours in which nothing happens twice, and must not judge by that what
/// another one stamps.
#[test]
fn p7_what_is_pushed_after_hours_of_silence_is_not_collected_by_a_clock_that_is_ahead() {
    tell(2, async |world| {
        let leader = leader(world).await?;
        for replica in world.cluster.replicas().iter().filter(|replica| replica.address == leader.process.name) {
            replica.clock.set_ahead(365 * 24 * 3_600_000);
        }
        let all = world.cluster.serving();
        let follower = all.iter().find(|serving| serving.process.name != leader.process.name).ok_or("a follower")?;
        let name = &world.universe.repositories[0];
        push(world, follower, name).await?;
        world.cluster.pass(GRACE * 20);

        let (value, manifest) = world.universe.new_manifest();
        let upload = follower.registry.start_upload(name, false).await.map_err(text)?;
        for blob in world.universe.blobs_of(value) {
            let content = world.universe.blobs[blob].clone();
            let length = Some(content.len() as u64);
            let body = futures_util::stream::iter([Ok(content)]).boxed();
            let content = Content { range: None, length, body };
            follower.registry.upload_blob(name, world.universe.digest(blob), content).await.map_err(text)?;
        }
        leader.registry.sweep().await.map_err(text)?;
        follower.registry.upload_status(name, upload).await.map_err(text)?;
        let reference = Reference::Digest(world.universe.manifest_digest(value));
        let put = follower.registry.put_manifest(name, &reference, &[], Precondition::None, &manifest).await;
        put.map(drop).map_err(text)
    });
}

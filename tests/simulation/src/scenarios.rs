//! Single stories that chance seldom tells.

use std::time::Duration;

use futures_util::StreamExt;
use roadstead_domain::{BlobReadError, Content, Precondition};
use roadstead_metadata::Role;
use roadstead_oci::{Reference, RepositoryName};

use crate::bugs::Bugs;
use crate::history::{Condition, TagOperation};
use crate::promises::check_tags;
use crate::run::{Plan, World, block_on};
use crate::trace::Trace;
use crate::world::network::pause;
use crate::world::replica::{GRACE, Serving};

/// A world of three replicas in which nothing has gone wrong.
fn tell(seed: u64, story: impl AsyncFnOnce(&World) -> Result<(), String>) {
    tell_with(seed, Bugs::default(), story);
}

fn tell_with(seed: u64, bugs: Bugs, story: impl AsyncFnOnce(&World) -> Result<(), String>) {
    block_on(seed, async {
        let world = World::new(Plan { bugs, ..Plan::of(seed) }, Trace::begin(false));
        world.cluster.begin(3).await.expect("a cluster");
        story(&world).await.expect("the story ends well");
        assert!(world.cluster.violations().is_empty(), "{:?}", world.cluster.violations());
    });
}

async fn leader(world: &World) -> Result<Serving, String> {
    world.cluster.until("somebody leads", async || world.cluster.leader()).await
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

/// Pushes a blob in one request.
async fn upload(world: &World, serving: &Serving, name: &RepositoryName, blob: usize) -> Result<(), String> {
    let content = world.universe.blobs[blob].clone();
    let length = Some(content.len() as u64);
    let content = Content { range: None, length, body: futures_util::stream::iter([Ok(content)]).boxed() };
    serving.registry.upload_blob(name, world.universe.digest(blob), content).await.map_err(text)
}

/// Pushes an image of the universe, at a replica.
async fn push(world: &World, serving: &Serving, name: &RepositoryName) -> Result<(Reference, usize), String> {
    let (value, manifest) = world.universe.new_manifest();
    let blobs = world.universe.blobs_of(value);
    for blob in &blobs {
        upload(world, serving, name, *blob).await?;
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
            self::upload(world, follower, name, blob).await?;
        }
        leader.registry.sweep().await.map_err(text)?;
        follower.registry.upload_status(name, upload).await.map_err(text)?;
        let reference = Reference::Digest(world.universe.manifest_digest(value));
        let put = follower.registry.put_manifest(name, &reference, &[], Precondition::None, &manifest).await;
        put.map(drop).map_err(text)
    });
}

/// Puts a manifest under the first tag, at a replica; both go into the history.
async fn tag(world: &World, serving: &Serving) -> Result<(), String> {
    let name = &world.universe.repositories[0];
    push(world, serving, name).await?;
    let (value, manifest) = world.universe.new_manifest();
    for blob in world.universe.blobs_of(value) {
        upload(world, serving, name, blob).await?;
    }
    let reference = Reference::Tag(world.universe.tag(0).clone());
    let begins = world.history.moment();
    serving.registry.put_manifest(name, &reference, &[], Precondition::None, &manifest).await.map_err(text)?;
    let operation = TagOperation::Put { tags: vec![0], value, condition: Condition::Any, done: Some(true) };
    world.history.tag_operation(0, begins, true, operation);
    Ok(())
}

/// A leader is cut off, another one takes a push, and the old one is asked for the tag.
async fn ask_an_old_leader(world: &World) -> Result<(), String> {
    let old = leader(world).await?;
    tag(world, &old).await?;
    pause(Duration::from_secs(1)).await;
    for other in world.cluster.addresses().iter().filter(|other| **other != old.process.name) {
        world.cluster.network.cut(other, &old.process.name);
        world.cluster.network.cut(&old.process.name, other);
    }
    let others = world.cluster.serving().into_iter().filter(|serving| serving.process.name != old.process.name);
    let others: Vec<Serving> = others.collect();
    let leads = |serving: &&Serving| serving.metadata.status().role == Role::Leader;
    let new = world.cluster.until("another one leads", async || others.iter().find(leads).cloned()).await?;
    tag(world, &new).await?;

    let begins = world.history.moment();
    let reference = Reference::Tag(world.universe.tag(0).clone());
    let found = old.registry.find_manifest(&world.universe.repositories[0], &reference).await.map_err(text)?;
    if found.stale.is_none() {
        let found = world.universe.value_of(&found.digest);
        world.history.tag_operation(0, begins, true, TagOperation::Get { tag: 0, found });
    }
    check_tags(world)
}

#[test]
fn p3_an_old_leader_does_not_pass_off_what_it_has_for_the_newest() {
    tell(3, async |world| ask_an_old_leader(world).await);
}

/// The bug that a leader that was cut off takes its followers' heartbeats for acknowledged.
#[test]
fn p3_a_stale_read_on_an_old_leader_is_caught() {
    let bugs = Bugs { answers_for_the_absent: true, ..Bugs::default() };
    tell_with(3, bugs, async |world| match ask_an_old_leader(world).await {
        Err(violation) if violation.starts_with("P3") => Ok(()),
        other => Err(format!("it is not caught: {other:?}")),
    });
}

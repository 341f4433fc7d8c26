//! P6: without quorum pulls go on, by tag with a declared staleness; pushes end in time. How long answers take is checked
//! at each of them (`client/mod.rs`).

use std::time::Duration;

use roadstead_domain::{Fault, ManifestPutError, ManifestReadError, Precondition};
use roadstead_metadata::Metadata;
use roadstead_oci::Reference;
use tokio::time::{Instant, timeout};

use crate::history::{TAGS, TagOperation};
use crate::run::World;
use crate::world::network::pause;
use crate::world::replica::{MAX_STALENESS, Serving};

/// On top of the product's own deadlines.
const SLACK: Duration = Duration::from_secs(1);

pub(super) async fn check(world: &World) -> Result<(), String> {
    check_what_was_stale(world)?;
    for address in world.cluster.addresses() {
        for other in world.cluster.addresses().iter().filter(|other| **other != address) {
            world.cluster.network.cut(&address, other);
        }
    }
    let cut_off = Instant::now();
    pause(Duration::from_secs(3)).await;
    let mut pulled = 0;
    for serving in world.cluster.serving() {
        let ended = check_alone(world, &serving, cut_off).await;
        pulled += ended.map_err(|why| format!("P6: at {}: {why}", serving.process.name))?;
    }
    world.cluster.heal();
    let is_expected = world.history.with(|records| !records.stored.is_empty());
    if is_expected && pulled == 0 { Err("P6: nothing was pulled without a quorum".to_owned()) } else { Ok(()) }
}

/// What a replica that reaches nobody answers; how much of what was acknowledged it has.
async fn check_alone(world: &World, serving: &Serving, cut_off: Instant) -> Result<usize, String> {
    let stored = world.history.with(|records| records.stored.clone());
    let mut pulled = 0;
    for (value, stored) in stored.iter().take(5) {
        let name = &world.universe.repositories[stored.repository];
        let reference = Reference::Digest(world.universe.manifest_digest(*value));
        let found = timeout(SLACK, serving.registry.find_manifest(name, &reference)).await;
        found.map_err(|_| "a pull by digest waits".to_owned())?.map_err(|error| error.to_string())?;
        for blob in &stored.blobs {
            let found = timeout(SLACK, serving.registry.find_blob(name, &world.universe.digest(*blob))).await;
            found.map_err(|_| "a pull of a blob waits".to_owned())?.map_err(|error| error.to_string())?;
        }
        pulled += 1;
    }
    let (name, reference) = (&world.universe.repositories[0], Reference::Tag(world.universe.tag(0).clone()));
    let read = timeout(Metadata::READ_DEADLINE + SLACK, serving.registry.find_manifest(name, &reference)).await;
    match read.map_err(|_| "a pull by tag does not end".to_owned())? {
        Ok(found) => {
            let alone = cut_off.elapsed();
            let declared = found.stale.ok_or("a tag was read without a quorum as if it were the newest")?;
            if declared + SLACK < alone {
                return Err(format!("a tag's answer is declared {declared:?} old, after {alone:?} alone"));
            }
        }
        Err(ManifestReadError::Fault(Fault::Leaderless | Fault::Read(_))) => {}
        Err(error) => return Err(format!("a pull by tag: {error}")),
    }
    let (_, manifest) = world.universe.new_manifest();
    let put = serving.registry.put_manifest(name, &reference, &[], Precondition::None, &manifest);
    match timeout(Metadata::WRITE_DEADLINE * 2 + SLACK, put).await {
        Ok(Err(ManifestPutError::Fault(Fault::Propose(_)))) => Ok(pulled),
        Ok(other) => Err(format!("a push without a quorum is answered {other:?}")),
        Err(_) => Err("a push does not end".to_owned()),
    }
}

/// What was answered with a declared staleness was once so.
fn check_what_was_stale(world: &World) -> Result<(), String> {
    world.history.with(|records| {
        for stale in &records.stale {
            if stale.declared > MAX_STALENESS {
                return Err(format!("P6: {stale:?} is older than may be shown"));
            }
            let pushed = records.tags.get(&stale.repository).into_iter().flatten().any(|call| {
                matches!(&call.operation, TagOperation::Put { tags, value, done, .. }
                    if *value == stale.value && *done != Some(false) && tags.iter().all(|tag| *tag < TAGS))
            });
            if !pushed {
                return Err(format!("P6: {stale:?} was never so"));
            }
        }
        Ok(())
    })
}

//! P8: what a mirror shows by tag or digest, all its blobs are servable there. What pulls are answered is checked at each of
//! them (`client/mirrors.rs`); here, what its facts say at any moment, and what it serves when home is away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use roadstead_blobs::ObjectStore as _;
use roadstead_metadata::Query;
use roadstead_oci::{Reference, RepositoryName};

use crate::history::{TAGS, Value};
use crate::random::Random;
use crate::regions::{Regions, puller};
use crate::world::cluster::Cluster;
use crate::world::network::pause;
use crate::world::replica::Serving;
use crate::world::wan::{Direction, Wan};

/// Longer than a mirror takes a silent home for being there.
const SILENCE: Duration = Duration::from_secs(5);

/// Rows at once.
const PAGE: usize = 1_000;

/// Claim 1: in the facts of each replica of a mirror, whatever stands under a tag is there, and all that it names is held
/// and in the bucket; unless somebody has asked for its deletion at home.
pub(crate) fn audit(regions: &Regions, mirror: &Arc<Cluster>) -> Result<(), String> {
    let going = regions.home.history.with(|records| records.uncertain.clone());
    for serving in mirror.serving() {
        let at = |why: String| format!("P8: at {}: {why}", serving.process.name);
        let query = serving.metadata.query().map_err(|error| at(error.to_string()))?;
        for repository in &regions.home.universe.repositories {
            audit_repository(regions, mirror, &query, repository, &going).map_err(at)?;
        }
    }
    Ok(())
}

fn audit_repository(
    regions: &Regions,
    mirror: &Cluster,
    query: &Query,
    repository: &RepositoryName,
    going: &BTreeSet<Value>,
) -> Result<(), String> {
    let universe = &regions.home.universe;
    let failed = |error: roadstead_metadata::QueryError| error.to_string();
    for tag in query.tags(repository, None, PAGE).map_err(failed)? {
        let Some(digest) = query.tag(repository, &tag).map_err(failed)? else { continue };
        if query.manifest(repository, &digest).map_err(failed)?.is_none() {
            return Err(format!("{repository}:{tag} names {digest}, which is not there"));
        }
    }
    for digest in query.manifest_digests(repository, None, PAGE).map_err(failed)? {
        let value = universe.value_of(&digest).ok_or_else(|| format!("nobody pushed {digest} to {repository}"))?;
        if going.contains(&value) {
            continue;
        }
        for blob in universe.blobs_of(value) {
            let fact = query.blob(repository, &universe.digest(blob)).map_err(failed)?;
            let fact = fact.ok_or_else(|| format!("{repository} has manifest {value} without its blob {blob}"))?;
            let found = mirror.bucket.content().head(&fact.key).now_or_never();
            if !matches!(found, Some(Ok(Some(_)))) {
                return Err(format!("blob {blob} of manifest {value} in {repository} is not in the bucket"));
            }
        }
    }
    Ok(())
}

/// Cuts each mirror off: what it shows then can be pulled from it alone.
pub(super) async fn check(regions: &Regions) -> Result<(), String> {
    let ways = || regions.mirrors.iter().filter_map(|mirror| Some(&mirror.upstream.as_ref()?.wan));
    ways().for_each(|wan| wan.cut(&[Direction::Home, Direction::Mirror], false));
    pause(SILENCE).await;
    for mirror in &regions.mirrors {
        audit(regions, mirror)?;
        for serving in mirror.serving() {
            let pulled = check_alone(regions, mirror, &serving).await;
            pulled.map_err(|why| format!("P8: at {}, which is cut off: {why}", serving.process.name))?;
        }
    }
    ways().for_each(Wan::heal);
    Ok(())
}

async fn check_alone(regions: &Regions, mirror: &Arc<Cluster>, serving: &Serving) -> Result<(), String> {
    let universe = &regions.home.universe;
    let here = serving.mirror.as_ref().ok_or("it is no mirror")?;
    let mut client = puller(regions, mirror, 97, &mut Random::new(1));
    client.loses = 0;
    for (number, name) in universe.repositories.iter().enumerate() {
        for tag in 0..TAGS {
            let facts = serving.metadata.query().and_then(|query| query.tag(name, universe.tag(tag)));
            let Some(expected) = facts.map_err(|error| error.to_string())? else { continue };
            let reference = Reference::Tag(universe.tag(tag).clone());
            let found = here.find_manifest(name, &reference).await;
            let found = found.map_err(|error| format!("tag {tag} of {name} is not shown: {error}"))?;
            if found.digest != expected {
                return Err(format!("tag {tag} of {name} is shown as {}, and it is {expected}", found.digest));
            }
            let value = universe.value_of(&found.digest).ok_or("nobody pushed that")?;
            if !client.pull_content(number, value).await {
                return Err(format!("manifest {value} of {name} is shown, and not served"));
            }
        }
    }
    Ok(())
}

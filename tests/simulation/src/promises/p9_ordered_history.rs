//! P9: what a mirror has published of each repository is home's history in home's order, and what home has deleted does not
//! come back; when nothing fails any more, it has all that home has.
//!
//! Home's feed tells what happened there, and a mirror's own feed what was published there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roadstead_metadata::{Change, ChangeKind, Metadata, Position, Query, QueryError};
use roadstead_oci::{Digest, RepositoryName, Tag};

use crate::history::SeenAtMirror;
use crate::regions::Regions;
use crate::world::cluster::Cluster;
use crate::world::upstream::Part;

/// How long a mirror may take to be as home, once nothing fails: it asks for what failed after a minute at most.
const PATIENCE: Duration = Duration::from_mins(5);

/// Rows at once.
const PAGE: usize = 1_000;

/// Of each tag, what it named from which change on.
type Tags = BTreeMap<(RepositoryName, Tag), Vec<(u64, Option<Digest>)>>;

pub(super) async fn check(regions: &Regions) -> Result<(), String> {
    check_history(regions, false).await?;
    for mirror in &regions.mirrors {
        converge(regions, mirror).await?;
    }
    check_history(regions, true).await
}

/// Checks what mirrors have published so far, which is all if it `is_complete`.
async fn check_history(regions: &Regions, is_complete: bool) -> Result<(), String> {
    let home = &regions.home.cluster;
    let home = home.until("home has a leader", async || home.leader()).await?;
    home.metadata.linearize().await.map_err(|error| format!("P9: home is away: {error}"))?;
    let history = changes(&home.metadata)?;
    let tags = tags_of(&history);
    for mirror in &regions.mirrors {
        let leader = mirror.until("a mirror has a leader", async || mirror.leader()).await?;
        let published = changes(&leader.metadata)?;
        let at = |why: String| format!("P9: at {}: {why}", leader.process.name);
        check_tags(&tags, &tags_of(&published)).map_err(at)?;
        let is_by_feed_alone =
            mirror.upstream.as_ref().is_some_and(|upstream| upstream.snapshots.load(Ordering::Relaxed) == 0);
        if is_by_feed_alone {
            check_order(regions, part_of(mirror), &history, &published, is_complete).map_err(at)?;
        }
    }
    let seen = regions.home.history.with(|records| records.seen_at_mirrors.clone());
    seen.iter().try_for_each(|seen| check_seen(regions, &tags, seen))
}

/// A mirror comes to hold what its home holds.
async fn converge(regions: &Regions, mirror: &Arc<Cluster>) -> Result<(), String> {
    let home = &regions.home.cluster;
    let mut differs = String::from("it does not follow");
    let same = async || {
        let leader = home.leader()?;
        leader.process.unless_dead(leader.metadata.linearize()).await.ok()?.ok()?;
        let all = mirror.serving();
        if all.len() != mirror.replicas().len() {
            return None;
        }
        let home = leader.metadata.query().ok()?;
        for serving in all {
            match difference(regions, part_of(mirror), &home, &serving.metadata.query().ok()?) {
                Ok(None) => {}
                Ok(Some(difference)) => {
                    differs = format!("{}: {difference}", serving.process.name);
                    return None;
                }
                Err(_) => return None,
            }
        }
        Some(())
    };
    let converged = home.until_within(PATIENCE, "a mirror is as its home", same).await;
    converged.map_err(|why| format!("P9: {why}: {differs}"))
}

/// What a mirror follows.
fn part_of(mirror: &Cluster) -> Part {
    mirror.upstream.as_ref().map_or(Part::Everything, |upstream| upstream.part)
}

/// In what a mirror is not as its home, of what it follows.
fn difference(regions: &Regions, part: Part, home: &Query, mirror: &Query) -> Result<Option<String>, QueryError> {
    let Some(following) = mirror.following()? else { return Ok(Some("it follows nobody".to_owned())) };
    let newest = home.position()?;
    if following.position != newest || following.waiting > 0 || following.comparing {
        return Ok(Some(format!("{following:?}, and home is at {newest:?}")));
    }
    let universe = &regions.home.universe;
    for (number, repository) in universe.repositories.iter().enumerate() {
        let (theirs, ours) = match part {
            Part::Of(followed, _) if number != followed => (
                Holdings::default(),
                (tags(mirror, repository)?, mirror.manifest_digests(repository, None, PAGE)?, Vec::new()),
            ),
            Part::Of(_, Some(tag)) => {
                let mut theirs = tags(home, repository)?;
                theirs.retain(|(name, _)| name == universe.tag(tag));
                ((theirs, Vec::new(), Vec::new()), (tags(mirror, repository)?, Vec::new(), Vec::new()))
            }
            Part::Everything | Part::Of(_, None) => (holdings(home, repository)?, holdings(mirror, repository)?),
        };
        if theirs != ours {
            return Ok(Some(format!("{repository} is {ours:?}, and at home {theirs:?}")));
        }
    }
    Ok(None)
}

type Holdings = (Vec<(Tag, Option<Digest>)>, Vec<Digest>, Vec<(Digest, u64)>);

fn holdings(query: &Query, repository: &RepositoryName) -> Result<Holdings, QueryError> {
    let manifests = query.manifest_digests(repository, None, PAGE)?;
    Ok((tags(query, repository)?, manifests, query.held_blobs(repository, None, PAGE)?))
}

fn tags(query: &Query, repository: &RepositoryName) -> Result<Vec<(Tag, Option<Digest>)>, QueryError> {
    let tags = query.tags(repository, None, PAGE)?.into_iter().map(|tag| {
        let digest = query.tag(repository, &tag)?;
        Ok((tag, digest))
    });
    tags.collect()
}

/// All that a feed has.
fn changes(metadata: &Metadata) -> Result<Vec<Change>, String> {
    let (mut all, mut after) = (Vec::new(), Position::default());
    loop {
        let page = metadata.changes(after, PAGE).map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.position;
        all.extend(page);
    }
}

fn tags_of(history: &[Change]) -> Tags {
    let mut tags = Tags::new();
    for Change { position, kind, .. } in history {
        let mut point = |repository: &RepositoryName, tag: &Tag, digest: Option<Digest>| {
            let states = tags.entry((repository.clone(), tag.clone())).or_insert_with(|| vec![(0, None)]);
            if states.last().is_none_or(|(_, former)| *former != digest) {
                states.push((position.sequence, digest));
            }
        };
        match kind {
            ChangeKind::ManifestPut { repository, digest, tags } => {
                for tag in tags {
                    point(repository, tag, Some(*digest));
                }
            }
            ChangeKind::TagDeleted { repository, tag } => point(repository, tag, None),
            ChangeKind::ManifestDeleted { repository, digest } => {
                let pointing = tags.iter().filter(|((name, _), states)| {
                    name == repository && states.last().is_some_and(|(_, state)| *state == Some(*digest))
                });
                let pointing: Vec<Tag> = pointing.map(|((_, tag), _)| tag.clone()).collect();
                for tag in pointing {
                    let states = tags.entry((repository.clone(), tag)).or_default();
                    states.push((position.sequence, None));
                }
            }
            ChangeKind::BlobLinked { .. } | ChangeKind::BlobUnlinked { .. } => {}
        }
    }
    tags
}

/// Claims 2 and 12, of each tag: what it was at the mirror it was at home, in this order. Each push has a manifest of its
/// own, so nothing that was overwritten or deleted is taken for something newer.
fn check_tags(home: &Tags, mirror: &Tags) -> Result<(), String> {
    let never = [(0, None)];
    for ((repository, tag), states) in mirror {
        let there = home.get(&(repository.clone(), tag.clone())).map_or(&never[..], Vec::as_slice);
        let mut at = 0;
        for (sequence, state) in states {
            let Some(found) = there.iter().skip(at).position(|(_, theirs)| theirs == state) else {
                return Err(format!(
                    "{repository}:{tag} became {state:?} by change {sequence}, out of order: at home it was {there:?}, \
                     here {states:?}"
                ));
            };
            at += found;
        }
    }
    Ok(())
}

/// Claim 2, of all manifests of a repository that is followed together: each is put, and deleted, in home's order, and none is left out but
/// what home has deleted.
fn check_order(
    regions: &Regions,
    part: Part,
    home: &[Change],
    mirror: &[Change],
    is_complete: bool,
) -> Result<(), String> {
    let going = regions.home.history.with(|records| records.uncertain.clone());
    for (number, repository) in regions.home.universe.repositories.iter().enumerate() {
        // Of a part of a repository, what is left out is told by its tags.
        if !matches!(part, Part::Everything) && part != Part::Of(number, None) {
            continue;
        }
        let of = |changes: &[Change]| -> Vec<(ChangeKind, u64)> {
            let manifests = changes.iter().filter(|change| {
                change.kind.repository() == repository
                    && matches!(change.kind, ChangeKind::ManifestPut { .. } | ChangeKind::ManifestDeleted { .. })
            });
            manifests.map(|change| (change.kind.clone(), change.position.sequence)).collect()
        };
        let (there, mut at) = (of(home), 0);
        let left_out = |left: &[(ChangeKind, u64)]| {
            left.iter().find_map(|(kind, sequence)| match kind {
                ChangeKind::ManifestPut { digest, .. } => {
                    let value = regions.home.universe.value_of(digest).filter(|value| !going.contains(value))?;
                    Some(format!("manifest {value} of {repository}, home's change {sequence}, was left out"))
                }
                _ => None,
            })
        };
        for (kind, sequence) in of(mirror) {
            let Some(found) = there.iter().skip(at).position(|(theirs, _)| *theirs == kind) else {
                return Err(format!("change {sequence} ({kind:?}) is out of order"));
            };
            if let Some(left_out) = left_out(&there[at..at + found]) {
                return Err(left_out);
            }
            at += found + 1;
        }
        if is_complete && let Some(left_out) = left_out(&there[at..]) {
            return Err(left_out);
        }
    }
    Ok(())
}

/// What a tag was said to be, where all of home's changes up to one were published and nothing waited: what it was at home
/// then, or later.
fn check_seen(regions: &Regions, home: &Tags, seen: &SeenAtMirror) -> Result<(), String> {
    let SeenAtMirror { mirror, repository, tag, after, found } = seen;
    let universe = &regions.home.universe;
    let name = (universe.repositories[*repository].clone(), universe.tag(*tag).clone());
    let never = vec![(0, None)];
    let states = home.get(&name).unwrap_or(&never);
    let then = states.iter().rposition(|(sequence, _)| sequence <= after).unwrap_or_default();
    let found = found.map(|value| universe.manifest_digest(value));
    let going = |digest: &Digest| {
        let value = universe.value_of(digest);
        regions.home.history.with(|records| value.is_some_and(|value| records.uncertain.contains(&value)))
    };
    // A manifest that home has deleted before it came is passed over: the tag stays what it was until the feed says more.
    if states[then].1.as_ref().is_some_and(going) || states[then..].iter().any(|(_, state)| *state == found) {
        return Ok(());
    }
    Err(format!(
        "P9: {mirror} has published home's changes up to {after}, and shows {}:{} as {found:?}: at home it was {states:?}",
        name.0, name.1
    ))
}

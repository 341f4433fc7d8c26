//! What holds of any state, recounted from its rows.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_oci::{Digest, ObjectKey, RepositoryName};
use serde::de::DeserializeOwned;

use crate::state::keyspace::{
    ASIDE_KEYS, CHANGES, CONDEMNED, DEDUP, DEDUP_BY_AGE, HEAD, HOLDERS, KEYS, LAST_NODE, MANIFESTS, MEMBERSHIPS, NODES,
    OBJECTS, PARTS, Parts, QUARANTINED_MANIFESTS, QUARANTINED_OBJECTS, REFERRERS, REPOSITORIES, RESERVED, RETIRED,
    Region, SHOWN_PARTS, TAGS, TAGS_OF, UNNAMED, UNREFERENCED, UPLOADS, UPLOADS_BY_AGE,
};
use crate::state::rows::{KeyRow, ManifestRow, ObjectRow, Phase, RepositoryRow};
use crate::state::{FIRST_NODE, ReadRows};
use crate::{ManifestContent, Tail};

/// Panics unless the rows fit together.
pub(super) fn check(rows: &ReadRows) {
    check_manifests(rows);
    check_blobs(rows);
    check_keys(rows);
    check_uploads(rows);
    check_history(rows);
    check_nodes(rows);
}

fn all<K: Parts, V: DeserializeOwned>(rows: &ReadRows, region: Region<K, V>) -> Vec<(K, V)> {
    rows.scan(region, region.all()).unwrap().collect::<Result<_, _>>().unwrap()
}

fn keys<K: Parts + Ord, V: DeserializeOwned>(rows: &ReadRows, region: Region<K, V>) -> BTreeSet<K> {
    all(rows, region).into_iter().map(|(key, _)| key).collect()
}

/// Of all manifests, set aside or not.
fn manifests(rows: &ReadRows) -> BTreeMap<(RepositoryName, Digest), ManifestRow> {
    both(all(rows, MANIFESTS), all(rows, QUARANTINED_MANIFESTS))
}

/// Of all blobs, set aside or not.
fn objects(rows: &ReadRows) -> BTreeMap<Digest, ObjectRow> {
    both(all(rows, OBJECTS), all(rows, QUARANTINED_OBJECTS))
}

fn both<K: Ord, V>(sound: Vec<(K, V)>, quarantined: Vec<(K, V)>) -> BTreeMap<K, V> {
    let count = sound.len() + quarantined.len();
    let both: BTreeMap<_, _> = sound.into_iter().chain(quarantined).collect();
    assert_eq!(both.len(), count, "what is set aside is nowhere else");
    both
}

fn check_manifests(rows: &ReadRows) {
    let mut counts: BTreeMap<RepositoryName, RepositoryRow> = BTreeMap::new();
    let mut referrers = BTreeSet::new();
    for ((repository, digest), manifest) in manifests(rows) {
        referrers.extend(manifest.subject.map(|subject| (repository.clone(), subject, digest)));
        counts.entry(repository).or_default().manifests += 1;
    }
    let mut tags_of = BTreeSet::new();
    for ((repository, tag), digest) in all(rows, TAGS) {
        let known = [MANIFESTS, QUARANTINED_MANIFESTS].map(|region| rows.has(region, (&repository, &digest)).unwrap());
        assert!(known != [false, false], "{repository}:{tag} names a missing manifest");
        tags_of.insert((repository.clone(), digest, tag));
        counts.entry(repository).or_default().tags += 1;
    }
    for ((repository, _), membership) in all(rows, MEMBERSHIPS) {
        if membership.held {
            counts.entry(repository).or_default().blobs += 1;
        }
    }
    assert_eq!(keys(rows, TAGS_OF), tags_of);
    assert_eq!(keys(rows, REFERRERS), referrers);
    assert_eq!(all(rows, REPOSITORIES).into_iter().collect::<BTreeMap<_, _>>(), counts);
}

fn check_blobs(rows: &ReadRows) {
    let mut named: BTreeMap<(RepositoryName, Digest), u64> = BTreeMap::new();
    for ((repository, _), manifest) in manifests(rows) {
        for blob in manifest.blobs {
            *named.entry((repository.clone(), blob)).or_default() += 1;
        }
    }
    let mut holders = BTreeSet::new();
    let mut unnamed = BTreeSet::new();
    let mut memberships: BTreeMap<Digest, u64> = BTreeMap::new();
    for ((repository, digest), membership) in all(rows, MEMBERSHIPS) {
        assert!(membership.held || membership.manifests > 0, "an empty membership");
        let manifests = named.remove(&(repository.clone(), digest)).unwrap_or_default();
        assert_eq!(membership.manifests, manifests, "manifests of {repository} that name {digest}");
        if membership.held && manifests == 0 {
            unnamed.insert((membership.leased, repository.clone(), digest));
        }
        if membership.held {
            *memberships.entry(digest).or_default() += 1;
            holders.insert((digest, repository));
        }
    }
    assert_eq!(named, BTreeMap::new(), "named without a membership");
    assert_eq!(keys(rows, HOLDERS), holders);
    assert_eq!(keys(rows, UNNAMED), unnamed);
    let mut unreferenced = BTreeSet::new();
    for (digest, object) in objects(rows) {
        assert_eq!(object.memberships, memberships.remove(&digest).unwrap_or_default(), "holders of {digest}");
        assert_eq!(object.memberships == 0, object.unreferenced.is_some());
        unreferenced.extend(object.unreferenced.map(|since| (since, digest)));
    }
    assert_eq!(memberships, BTreeMap::new(), "held without an object");
    assert_eq!(keys(rows, UNREFERENCED), unreferenced);
}

fn check_keys(rows: &ReadRows) {
    let objects = objects(rows).into_values().map(|object| object.key);
    let contents = manifests(rows).into_values().filter_map(|manifest| match manifest.content {
        ManifestContent::Object(key) => Some(key),
        ManifestContent::Inline(_) => None,
    });
    let mut linked: Vec<_> = objects.chain(contents).collect();
    let aside: BTreeSet<_> = keys(rows, ASIDE_KEYS).into_iter().map(|(key, _)| key).collect();
    linked.extend(aside.into_iter().filter(|key| !linked.contains(key)).collect::<Vec<_>>());
    linked.sort();
    let mut held: Vec<(ObjectKey, _)> = Vec::new();
    for (upload, session) in all(rows, UPLOADS) {
        match session.phase {
            Phase::Receiving(receiving) => {
                held.extend(receiving.multipart.map(|multipart| (multipart.key, upload)));
                if let Some(Tail::Object { key, .. }) = receiving.tail {
                    held.push((key, upload));
                }
            }
            Phase::Completing { multipart, .. } => held.push((multipart.key, upload)),
            Phase::Finished { .. } => {}
        }
    }
    held.sort();
    let (mut is_linked, mut is_held) = (Vec::new(), Vec::new());
    let (mut reserved, mut condemned, mut retired) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (key, row) in all(rows, KEYS) {
        match row {
            KeyRow::Linked => is_linked.push(key),
            KeyRow::Held { upload } => is_held.push((key, upload)),
            KeyRow::Reserved { since } => drop(reserved.insert((since, key))),
            KeyRow::Condemned { due, .. } => drop(condemned.insert((due, key))),
            KeyRow::Retired { since } => drop(retired.insert((since, key))),
        }
    }
    assert_eq!(is_linked, linked, "a linked key is that of exactly one object");
    assert_eq!(is_held, held, "a held key is held by exactly one session");
    assert_eq!(keys(rows, RESERVED), reserved);
    assert_eq!(keys(rows, CONDEMNED), condemned);
    assert_eq!(keys(rows, RETIRED), retired);
}

fn check_uploads(rows: &ReadRows) {
    let uploads = all(rows, UPLOADS);
    let by_age: BTreeSet<_> = uploads.iter().map(|(upload, session)| (session.touched, *upload)).collect();
    assert_eq!(keys(rows, UPLOADS_BY_AGE), by_age);
    let open: BTreeSet<_> = uploads
        .iter()
        .filter(|(_, session)| !matches!(session.phase, Phase::Finished { .. }))
        .map(|(upload, _)| *upload)
        .collect();
    assert_eq!(rows.get(HEAD, ()).unwrap().unwrap_or_default().uploads_open, open.len() as u64);
    for (upload, _) in keys(rows, PARTS) {
        assert!(open.contains(&upload), "parts of a session that is over");
    }
    for (upload, _) in keys(rows, SHOWN_PARTS) {
        let session = rows.get(UPLOADS, &upload).unwrap();
        let receives = session.is_some_and(|session| matches!(session.phase, Phase::Receiving(_)));
        assert!(receives, "parts are shown of a session that takes no more");
    }
}

fn check_history(rows: &ReadRows) {
    let newest = rows.get(HEAD, ()).unwrap().unwrap_or_default().position.sequence;
    let sequences: Vec<_> = keys(rows, CHANGES).into_iter().map(|position| position.sequence).collect();
    assert_eq!(sequences, (1..=newest).collect::<Vec<_>>(), "the feed has no gaps");
    let results: BTreeSet<_> = all(rows, DEDUP).into_iter().map(|(id, result)| (result.at, id)).collect();
    assert_eq!(keys(rows, DEDUP_BY_AGE), results);
}

fn check_nodes(rows: &ReadRows) {
    let nodes: Vec<u64> = all(rows, NODES).into_iter().map(|(_, node)| node).collect();
    let distinct: BTreeSet<u64> = nodes.iter().copied().collect();
    assert_eq!(distinct.len(), nodes.len(), "a node id was given twice");
    let allocated = distinct.last().copied().filter(|node| *node != FIRST_NODE);
    assert_eq!(allocated, rows.get(LAST_NODE, ()).unwrap(), "the highest id is remembered");
}

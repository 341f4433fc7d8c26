//! What has to be there, from what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use roadstead_blobs::ObjectStore as _;
use roadstead_metadata::{ManifestContent, Query};
use roadstead_oci::{Manifest, MediaType, ObjectKey, RepositoryName};

use crate::fixture::{World, bytes, repository, sha256};
use crate::ports::Clock as _;

/// What the clients of an interleaving push, each known by its place here.
pub(super) struct Universe {
    pub(super) repositories: Vec<RepositoryName>,
    pub(super) blobs: Vec<Vec<u8>>,
    /// With the blobs that they name.
    pub(super) manifests: Vec<(Manifest, [usize; 2])>,
}

impl Universe {
    pub(super) fn new() -> Self {
        // One part, one part, three parts.
        let blobs: Vec<_> = [10, 700, 2300].map(bytes).into();
        // The last is too large for the log.
        let manifests = [([0, 1], 0), ([1, 2], 0), ([0, 2], 70_000)];
        let manifests = manifests.map(|(named, padding)| (manifest(named.map(|blob| &*blobs[blob]), padding), named));
        Self { repositories: ["race/a", "race/b"].map(repository).into(), blobs, manifests: manifests.into() }
    }
}

fn manifest(blobs: [&[u8]; 2], padding: usize) -> Manifest {
    let [config, layer] =
        blobs.map(|blob| format!(r#"{{"mediaType":"a/b","digest":"{}","size":{}}}"#, sha256(blob), blob.len()));
    let padding = "x".repeat(padding);
    let json = format!(
        r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}],"annotations":{{"padding":"{padding}"}}}}"#
    );
    Manifest::parse(Some(&MediaType::OCI_MANIFEST), json.into()).expect("a manifest")
}

/// A blob in a repository.
pub(super) type Held = (usize, usize);

/// A manifest in a repository.
pub(super) type Named = (usize, usize);

#[derive(Default)]
pub(super) struct Oracle {
    /// Until when a blob was promised.
    promised: BTreeMap<Held, SystemTime>,
    /// Which blobs a manifest that was acknowledged still has to have.
    named: BTreeMap<Named, BTreeSet<usize>>,
    /// Deletions under way: what is answered meanwhile may have come before or after them.
    blob_deletions: Vec<Held>,
    manifest_deletions: Vec<Named>,
    /// What went wrong first.
    pub(super) violation: Option<String>,
    pub(super) tally: Tally,
}

/// How often what this is about has happened, over all interleavings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) pushed: u64,
    pub(super) mounted: u64,
    pub(super) asked: u64,
    pub(super) stored: u64,
    pub(super) unlinked: u64,
    pub(super) condemned: u64,
    pub(super) abandoned: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        let Self { pushed, mounted, asked, stored, unlinked, condemned, abandoned } = other;
        self.pushed += pushed;
        self.mounted += mounted;
        self.asked += asked;
        self.stored += stored;
        self.unlinked += unlinked;
        self.condemned += condemned;
        self.abandoned += abandoned;
    }

    /// Over many interleavings each of these happens, or the test shows nothing.
    pub(super) fn assert_that_it_was_a_race(&self, races: u64) {
        let Self { pushed, mounted, asked, stored, unlinked, condemned, abandoned } = *self;
        let least = [pushed, mounted, asked, stored, unlinked, condemned, abandoned].into_iter().min();
        assert!(races < 500 || least >= Some(races / 50), "{self:?} in {races} races");
    }
}

impl Oracle {
    pub(super) fn promise(&mut self, held: Held, now: SystemTime, lasts: Duration) {
        if !self.blob_deletions.contains(&held) {
            let until = self.promised.entry(held).or_insert(now);
            *until = (*until).max(now + lasts);
        }
    }

    pub(super) fn name(&mut self, named: Named, blobs: [usize; 2]) {
        if !self.manifest_deletions.contains(&named) {
            let (repository, deletions) = (named.0, &self.blob_deletions);
            let stay = blobs.into_iter().filter(|&blob| !deletions.contains(&(repository, blob)));
            self.named.insert(named, stay.collect());
        }
    }

    pub(super) fn begin_blob_deletion(&mut self, held: Held) {
        self.blob_deletions.push(held);
        self.promised.remove(&held);
        let (repository, blob) = held;
        let naming = self.named.iter_mut().filter(|((its, _), _)| *its == repository);
        naming.for_each(|(_, blobs)| {
            blobs.remove(&blob);
        });
    }

    pub(super) fn end_blob_deletion(&mut self, held: Held) {
        remove_one(&mut self.blob_deletions, &held);
    }

    pub(super) fn begin_manifest_deletion(&mut self, named: Named) {
        self.manifest_deletions.push(named);
        self.named.remove(&named);
    }

    pub(super) fn end_manifest_deletion(&mut self, named: Named) {
        remove_one(&mut self.manifest_deletions, &named);
    }

    pub(super) fn is_promised(&self, held: Held, now: SystemTime) -> bool {
        self.promised.get(&held).is_some_and(|until| *until >= now)
    }

    pub(super) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Compares facts and objects with each other and with what was promised.
    pub(super) fn check(&mut self, world: &World, universe: &Universe) {
        let now = world.clock.now();
        let query = world.registry.metadata.query().expect("facts");
        for (repository, name) in universe.repositories.iter().enumerate() {
            for (blob, content) in universe.blobs.iter().enumerate() {
                let fact = query.blob(name, &sha256(content)).expect("a fact");
                let needed = self.named.iter().any(|((its, _), blobs)| *its == repository && blobs.contains(&blob));
                match fact {
                    Some(fact) if !has_object(world, &fact.key, content.len()) => {
                        self.violated(format!("blob {blob} of {name} has a fact and no object {}", fact.key));
                    }
                    None if needed => self.violated(format!("blob {blob} of {name} is named by a manifest and gone")),
                    None if self.is_promised((repository, blob), now) => {
                        self.violated(format!("blob {blob} of {name} was promised and is gone"));
                    }
                    Some(_) | None => {}
                }
            }
        }
        let gone: Vec<_> = self.named.keys().filter(|named| !is_stored(world, universe, &query, **named)).collect();
        if let Some((repository, manifest)) = gone.first() {
            let what = format!("manifest {manifest} of {} was stored and is gone", universe.repositories[*repository]);
            self.violated(what);
        }
    }
}

fn is_stored(world: &World, universe: &Universe, query: &Query, (repository, manifest): Named) -> bool {
    let content = universe.manifests[manifest].0.bytes();
    let stored = query.manifest(&universe.repositories[repository], &sha256(content)).expect("a fact");
    match stored.map(|stored| stored.content) {
        Some(ManifestContent::Inline(_)) => true,
        Some(ManifestContent::Object(key)) => has_object(world, &key, content.len()),
        None => false,
    }
}

fn has_object(world: &World, key: &ObjectKey, size: usize) -> bool {
    let head = world.store.inner().head(key).now_or_never().expect("memory does not wait").expect("an answer");
    head.is_some_and(|object| object.size == size as u64)
}

fn remove_one<T: PartialEq>(list: &mut Vec<T>, item: &T) {
    if let Some(at) = list.iter().position(|one| one == item) {
        list.swap_remove(at);
    }
}

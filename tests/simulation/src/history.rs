//! What clients asked for and were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use roadstead_simulation::linearizability::Call;

/// Tags of a repository that clients push to.
pub(crate) const TAGS: usize = 3;

/// A manifest: each push brings one of its own, so that a value names who wrote it.
pub(crate) type Value = u32;

/// A blob in a repository, both by their place in the universe.
pub(crate) type Held = (usize, usize);

/// Something done to the tags of one repository, with its answer.
#[derive(Clone, Debug)]
pub(crate) enum TagOperation {
    Put {
        tags: Vec<usize>,
        value: Value,
        condition: Condition,
        /// `None` if it is not known.
        done: Option<bool>,
    },
    Get {
        tag: usize,
        found: Option<Value>,
    },
    DeleteTag {
        tag: usize,
        /// Whether there was one; `None` if that is not known.
        existed: Option<bool>,
    },
    /// Which takes every tag with it that points there.
    DeleteManifest {
        value: Value,
    },
}

/// What a push wants its tags to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Any,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Is(Value),
    /// `If-Match: *`
    Exists,
}

/// A manifest of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) repository: usize,
    pub(crate) blobs: Vec<usize>,
}

/// A tag's answer without a leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StaleRead {
    pub(crate) repository: usize,
    pub(crate) value: Value,
    pub(crate) declared: Duration,
}

/// All of it.
#[derive(Default)]
pub(crate) struct History(Mutex<Records>);

#[derive(Default)]
pub(crate) struct Records {
    moments: u64,
    /// By repository.
    pub(crate) tags: BTreeMap<usize, Vec<Call<TagOperation>>>,
    /// Acknowledged, and not asked to be deleted.
    pub(crate) stored: BTreeMap<Value, Stored>,
    /// Pushed or deleted without a known end.
    pub(crate) uncertain: BTreeSet<Value>,
    pub(crate) stale: Vec<StaleRead>,
    /// Until when a blob has to be there, by the time that has really passed.
    pub(crate) promised: BTreeMap<Held, Duration>,
    /// Bytes that were taken in by uploads, and by how many requests.
    pub(crate) sent: u64,
    pub(crate) requests: u64,
    pub(crate) tally: Tally,
    pub(crate) seen_at_mirrors: Vec<SeenAtMirror>,
    pub(crate) at_mirrors: MirrorTally,
}

/// What a tag was at a mirror, once all changes of home up to `after` were published there.
#[derive(Clone, Debug)]
pub(crate) struct SeenAtMirror {
    pub(crate) mirror: String,
    pub(crate) repository: usize,
    pub(crate) tag: usize,
    pub(crate) after: u64,
    pub(crate) found: Option<Value>,
}

/// How often what this is about has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) blobs_pushed: u64,
    pub(crate) sessions_moved: u64,
    pub(crate) resumed: u64,
    pub(crate) manifests_stored: u64,
    pub(crate) conditions_failed: u64,
    pub(crate) tags_read: u64,
    pub(crate) stale_reads: u64,
    pub(crate) pulled: u64,
    pub(crate) mounted: u64,
    pub(crate) promised: u64,
    pub(crate) deleted: u64,
    pub(crate) lost_answers: u64,
    pub(crate) unavailable: u64,
    pub(crate) gave_up: u64,
}

/// How often what is about mirrors has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MirrorTally {
    pub(crate) tags: u64,
    pub(crate) images: u64,
    pub(crate) from_here: u64,
    pub(crate) streamed: u64,
    pub(crate) pushed: u64,
    pub(crate) unknown: u64,
    pub(crate) away: u64,
    pub(crate) broken: u64,
    pub(crate) gave_up: u64,
    pub(crate) audits: u64,
    pub(crate) snapshots: u64,
    pub(crate) needless: u64,
}

impl MirrorTally {
    pub(crate) fn add(&mut self, mut other: Self) {
        let pairs = self.fields().into_iter().zip(other.fields().map(|(_, value)| *value));
        for ((_, mine), theirs) in pairs {
            *mine += theirs;
        }
    }

    /// Each by its name.
    pub(crate) fn fields(&mut self) -> [(&'static str, &mut u64); 12] {
        let Self {
            tags,
            images,
            from_here,
            streamed,
            pushed,
            unknown,
            away,
            broken,
            gave_up,
            audits,
            snapshots,
            needless,
        } = self;
        [
            ("tags read", tags),
            ("images pulled", images),
            ("blobs from the mirror itself", from_here),
            ("blobs streamed from home", streamed),
            ("images pushed", pushed),
            ("manifests not known yet", unknown),
            ("pulls answered 503", away),
            ("pulls broken off", broken),
            ("pulls given up", gave_up),
            ("looks at all facts", audits),
            ("comparisons with home", snapshots),
            ("requests for what was here", needless),
        ]
    }
}

impl Tally {
    pub(crate) fn add(&mut self, mut other: Self) {
        let pairs = self.fields().into_iter().zip(other.fields().map(|(_, value)| *value));
        for ((_, mine), theirs) in pairs {
            *mine += theirs;
        }
    }

    /// Each by its name.
    pub(crate) fn fields(&mut self) -> [(&'static str, &mut u64); 14] {
        let Self {
            blobs_pushed,
            sessions_moved,
            resumed,
            manifests_stored,
            conditions_failed,
            tags_read,
            stale_reads,
            pulled,
            mounted,
            promised,
            deleted,
            lost_answers,
            unavailable,
            gave_up,
        } = self;
        [
            ("blobs pushed", blobs_pushed),
            ("sessions moved", sessions_moved),
            ("uploads resumed", resumed),
            ("manifests stored", manifests_stored),
            ("conditions failed", conditions_failed),
            ("tags read", tags_read),
            ("stale reads", stale_reads),
            ("blobs pulled", pulled),
            ("blobs mounted", mounted),
            ("blobs promised", promised),
            ("manifests and tags deleted", deleted),
            ("answers lost", lost_answers),
            ("requests answered 503", unavailable),
            ("pushes given up", gave_up),
        ]
    }
}

impl History {
    /// A moment of its own.
    pub(crate) fn moment(&self) -> u64 {
        let mut records = self.0.lock();
        records.moments += 1;
        records.moments
    }

    /// Takes down an operation that began at `begins` and has just ended, unless nobody knows how.
    pub(crate) fn tag_operation(&self, repository: usize, begins: u64, ended: bool, operation: TagOperation) {
        let ends = ended.then(|| self.moment());
        self.0.lock().tags.entry(repository).or_default().push(Call { begins, ends, operation });
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Records) -> T) -> T {
        work(&mut self.0.lock())
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Tally) -> &mut u64) {
        *count(&mut self.0.lock().tally) += 1;
    }
}

//! What a pass tells.

use parking_lot::Mutex;
use roadstead_metadata::Examined;
use roadstead_oci::{Digest, ObjectKey, RepositoryName};
use tokio::sync::mpsc;

/// How far a pass is, and what it has found. Counts contents: a blob, or a manifest in a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// About how many of a hundred blobs were examined; 100 when the pass is over.
    pub percent: u8,
    /// Contents examined.
    pub contents: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Contents with other bytes than they should have.
    pub damaged: u64,
    /// Contents whose objects are not there.
    pub missing: u64,
    /// Contents that the store failed to read: perhaps sound.
    pub unreadable: u64,
    /// Blobs whose count of holders is wrong.
    pub miscounted: u64,
    /// Contents that were in quarantine and are sound.
    pub released: u64,
    /// Objects that no fact knows.
    pub orphans: u64,
    /// Bytes of them.
    pub orphan_bytes: u64,
    /// Orphans that were condemned, to be deleted.
    pub condemned: u64,
    /// Multipart uploads of no session, which the janitor aborts when they are a day old.
    pub multiparts: u64,
}

impl Tally {
    /// Whether everything is there and as it should be. Orphans and left-over uploads cost room and nothing else.
    pub const fn is_sound(&self) -> bool {
        self.damaged == 0 && self.missing == 0 && self.unreadable == 0 && self.miscounted == 0
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// Other bytes than it should have. In quarantine.
    Damaged,
    /// Its object is not there. In quarantine.
    Missing,
    /// The store failed to read it.
    Unreadable,
    /// The count of its holders is wrong: a bug of this program.
    Miscounted,
    /// It was in quarantine, is sound, and is served again.
    Released,
    /// An object that no fact knows.
    Orphan,
}

impl FindingKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Miscounted => "miscounted",
            Self::Released => "released",
            Self::Orphan => "orphan",
        }
    }
}

/// Something that is not as it should be, or is again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Of which blob or manifest.
    pub digest: Option<Digest>,
    /// Of a manifest: in which repository.
    pub repository: Option<RepositoryName>,
    /// The object, if there is or should be one.
    pub key: Option<ObjectKey>,
    /// In words.
    pub reason: String,
}

impl Finding {
    pub(super) fn of_blob(kind: FindingKind, digest: Digest, key: &ObjectKey, reason: String) -> Self {
        Self { kind, digest: Some(digest), repository: None, key: Some(key.clone()), reason }
    }

    pub(super) fn of(kind: FindingKind, examined: &Examined, key: Option<ObjectKey>, reason: String) -> Self {
        let (digest, repository) = match examined {
            Examined::Blob { digest, .. } => (*digest, None),
            Examined::Manifest { repository, digest, .. } => (*digest, Some(repository.clone())),
        };
        Self { kind, digest: Some(digest), repository, key, reason }
    }

    pub(super) fn of_orphan(key: ObjectKey, size: u64) -> Self {
        let reason = format!("no fact knows this object of {size} bytes");
        Self { kind: FindingKind::Orphan, digest: None, repository: None, key: Some(key), reason }
    }
}

/// Where a pass tells what it does. Whoever listens to the findings and does not take them holds the pass up.
pub struct ScrubWatch {
    tally: Mutex<Tally>,
    findings: mpsc::Sender<Finding>,
}

impl ScrubWatch {
    /// Findings not taken yet: enough to keep a pass going while its listener writes one down.
    const FINDINGS_WAITING: usize = 16;

    /// A watch, and what is found. The findings end when the watch is dropped.
    pub fn new() -> (Self, mpsc::Receiver<Finding>) {
        let (findings, found) = mpsc::channel(Self::FINDINGS_WAITING);
        (Self { tally: Mutex::default(), findings }, found)
    }

    /// How far it is.
    pub fn tally(&self) -> Tally {
        *self.tally.lock()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock());
    }

    pub(super) async fn find(&self, finding: Finding) {
        self.count(|tally| {
            *match finding.kind {
                FindingKind::Damaged => &mut tally.damaged,
                FindingKind::Missing => &mut tally.missing,
                FindingKind::Unreadable => &mut tally.unreadable,
                FindingKind::Miscounted => &mut tally.miscounted,
                FindingKind::Released => &mut tally.released,
                FindingKind::Orphan => &mut tally.orphans,
            } += 1;
        });
        // Nobody listens any more: it is counted.
        let _ = self.findings.send(finding).await;
    }
}

//! Bringing facts back from the store alone.
//!
//! ```text
//! newest marker -> whose history -> newest snapshot that is not too late -> the log after it, up to the place
//!                                       '-> <folder>.restoring: a folder of facts, made anew
//!   -> a history of its own, that goes on from there -> rename to <folder> -> the next marker: the store is taken over
//! ```
//!
//! A crash leaves `<folder>.restoring`, which the next attempt removes, or the whole folder, whose first start takes the
//! store over.

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use roadstead_blobs::{BlobError, BlobStore, ObjectInfo};
use roadstead_metadata::{Ancestor, History, LogTime, Rebuild, RebuildError, Until};
use roadstead_oci::ObjectKind;
use tracing::warn;
use uuid::Uuid;

use super::format::{SNAPSHOT_HEADER, Segment, SnapshotHeader};
use super::inventory::folder as keys_of;
use super::marker::{self, ClaimError};
use super::missing::{Missing, missing};
use super::prune::header;
use super::{Place, format, rfc3339};
use crate::fault::Fault;
use crate::limits::SEGMENTS_AHEAD;
use crate::ports::Ports;

/// What is to be restored.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The new folder of facts: not there yet, or empty.
    pub folder: PathBuf,
    /// Which history; the store's own unless it is said.
    pub history: Option<Uuid>,
    /// How far.
    pub until: Until,
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreProgress {
    /// Bytes of the snapshot.
    Snapshot {
        /// Fetched.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Segments of the log.
    Log {
        /// Applied.
        done: usize,
        /// Of at most so many.
        total: usize,
        /// The newest change so far.
        sequence: u64,
    },
    /// Objects that the facts name.
    Objects {
        /// Looked for.
        checked: u64,
    },
}

/// What a restore brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// From which history, and up to which place in it.
    pub from: Ancestor,
    /// The time of the facts there.
    pub time: LogTime,
    /// The history that goes on from there.
    pub history: History,
    /// What the store does not have of what the facts name.
    pub missing: Missing,
    /// Why it could not go as far as was asked for, if so.
    pub stopped: Option<String>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There are facts in the folder.
    #[error("{0} has facts in it already")]
    NotEmpty(PathBuf),
    /// The store has no backup of that history, or of any.
    #[error("the store has no backup{}", .0.map(|history| format!(" of the history {history}")).unwrap_or_default())]
    NoBackup(Option<Uuid>),
    /// There is no marker, and several histories.
    #[error("the store does not say which history is its own, and has several: {}", list(.0))]
    Ambiguous(Vec<Uuid>),
    /// The backup does not go back so far.
    #[error("the backup begins at sequence {} of {}", .0.position.sequence, rfc3339(&.0.time))]
    TooEarly(Place),
    /// A file of the new folder could not be written.
    #[error("{path}: {source}")]
    Io {
        /// Of the file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What is in the store cannot be made into facts.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// Somebody else took the store over meanwhile.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The store failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<BlobError> for RestoreError {
    fn from(error: BlobError) -> Self {
        Self::Fault(error.into())
    }
}

/// What a store has of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptHistory {
    /// Its name.
    pub id: Uuid,
    /// Whether the store's marker names it.
    pub is_current: bool,
    /// By their number of entries.
    pub snapshots: Vec<KeptSnapshot>,
    /// Objects with entries of its log, and their bytes.
    pub segments: usize,
    /// See `segments`.
    pub bytes: u64,
    /// The last place that is known: more may follow.
    pub last: Option<Place>,
}

/// A snapshot that the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// How many entries of the log are in it, from the first on.
    pub entries: u64,
    /// In bytes.
    pub size: u64,
    /// Where the facts stood.
    pub place: Place,
}

/// Everything that can be restored, the store's own history first.
pub async fn kept(store: &dyn BlobStore) -> Result<Vec<KeptHistory>, RestoreError> {
    let current = marker::newest(store).await?.map(|marker| marker.id);
    let mut kept = Vec::new();
    for id in histories(store).await? {
        let objects = Objects::of(store, id).await?;
        let mut snapshots = Vec::new();
        for object in &objects.snapshots {
            let SnapshotHeader { entries, place, .. } = header(store, &object.key).await?;
            snapshots.push(KeptSnapshot { entries, size: object.size, place });
        }
        let newest = match objects.segments.last() {
            Some(last) => fetch(store, last.info.clone()).await?.reached,
            None => None,
        };
        let last =
            newest.into_iter().chain(snapshots.last().map(|snapshot| snapshot.place)).max_by_key(|place| place.time);
        let bytes = objects.segments.iter().map(|segment| segment.info.size).sum();
        let segments = objects.segments.len();
        kept.push(KeptHistory { id, is_current: current == Some(id), snapshots, segments, bytes, last });
    }
    kept.sort_by_key(|history| (!history.is_current, std::cmp::Reverse(history.last.map(|place| place.time))));
    Ok(kept)
}

/// Makes a folder of facts out of what the store has, and takes the store over for it.
pub async fn restore(
    store: Arc<dyn BlobStore>,
    ports: &Ports,
    options: &RestoreOptions,
    progress: impl Fn(RestoreProgress) + Sync,
) -> Result<Restored, RestoreError> {
    let marker = marker::newest(&*store).await?;
    let (history, until, bounded) = choose(&*store, marker.as_ref(), options).await?;
    let objects = Objects::of(&*store, history).await?;
    let staging = Staging::begin(&options.folder)?;
    let mut rebuild = Rebuild::begin(&staging.folder)?;
    for snapshot in bases(&*store, history, &objects, until).await? {
        let file = download(&*store, &staging, &snapshot, &progress).await?;
        let loaded;
        (rebuild, loaded) = blocking(move || {
            let loaded = rebuild.load(file);
            (rebuild, loaded)
        })
        .await?;
        match loaded {
            // An older one and the log after it make the same facts.
            Err(RebuildError::Snapshot(why)) => {
                warn!(key = %snapshot.key, reason = %why, "a snapshot is damaged: {why}");
            }
            loaded => {
                loaded?;
                break;
            }
        }
    }
    let (rebuild, stopped) = replay(Arc::clone(&store), rebuild, history, objects, until, &progress).await?;

    let from = Ancestor { history, entries: rebuild.entries(), position: rebuild.position() };
    let storage = marker.as_ref().map_or_else(|| ports.uuid(), |marker| marker.storage);
    let next = History {
        id: ports.uuid(),
        storage,
        incarnation: marker.map_or(1, |marker| marker.incarnation + 1),
        parent: Some(from),
        begun: ports.wall(),
    };
    let time = rebuild.time();
    let checked = |checked| progress(RestoreProgress::Objects { checked });
    let missing = missing(&*store, &rebuild.query().map_err(Fault::from)?, &checked).await?;
    rebuild.finish(&next).await?;
    staging.publish(&options.folder)?;
    marker::claim(&*store, &next).await?;
    Ok(Restored { from, time, history: next, missing, stopped: stopped.or(bounded) })
}

/// Which history, and how far: one that has nothing of its own yet is as far as its parent was taken. Then also why that
/// is not as far as was asked for, if so.
async fn choose(
    store: &dyn BlobStore,
    marker: Option<&History>,
    options: &RestoreOptions,
) -> Result<(Uuid, Until, Option<String>), RestoreError> {
    let histories = histories(store).await?;
    let wanted = options.history.or(marker.map(|marker| marker.id));
    match (wanted, &histories[..]) {
        (Some(wanted), kept) if kept.contains(&wanted) => Ok((wanted, options.until, None)),
        (Some(wanted), kept) => match marker.filter(|marker| marker.id == wanted).and_then(|marker| marker.parent) {
            Some(parent) if kept.contains(&parent.history) => {
                let (until, bounded) = within(options.until, parent);
                Ok((parent.history, until, bounded))
            }
            Some(_) | None => Err(RestoreError::NoBackup(Some(wanted))),
        },
        (None, []) => Err(RestoreError::NoBackup(None)),
        (None, [only]) => Ok((*only, options.until, None)),
        (None, several) => Err(RestoreError::Ambiguous(several.to_vec())),
    }
}

fn within(until: Until, parent: Ancestor) -> (Until, Option<String>) {
    let Ancestor { history, position, .. } = parent;
    let end = Until::Sequence(position.sequence);
    match until {
        Until::End => (end, None),
        Until::Sequence(sequence) if sequence <= position.sequence => (until, None),
        Until::Sequence(_) | Until::Time(_) => {
            let bounded = format!(
                "the store was restored to sequence {} of the history {history}, and has nothing of what followed; for \
                 another place of that history, say --history {history}",
                position.sequence
            );
            (end, Some(bounded))
        }
    }
}

/// The histories of which the store has anything.
async fn histories(store: &dyn BlobStore) -> Result<Vec<Uuid>, BlobError> {
    let mut histories: Vec<Uuid> = Vec::new();
    let mut next = None;
    loop {
        let page = store.list("meta/", next.as_deref()).await?;
        for object in page.items {
            if let ObjectKind::Snapshot { history, .. } | ObjectKind::LogSegment { history, .. } = object.key.kind()
                && histories.last() != Some(&history)
            {
                histories.push(history);
            }
        }
        match page.next {
            Some(token) => next = Some(token),
            None => return Ok(histories),
        }
    }
}

/// What the store has of one history, in order.
struct Objects {
    snapshots: Vec<ObjectInfo>,
    segments: Vec<KnownSegment>,
}

#[derive(Clone)]
struct KnownSegment {
    first: u64,
    last: u64,
    info: ObjectInfo,
}

impl Objects {
    async fn of(store: &dyn BlobStore, history: Uuid) -> Result<Self, BlobError> {
        let mut objects = Self { snapshots: Vec::new(), segments: Vec::new() };
        let mut next = None;
        loop {
            let page = store.list(&keys_of(history), next.as_deref()).await?;
            for info in page.items {
                match info.key.kind() {
                    ObjectKind::LogSegment { first, last, .. } => {
                        objects.segments.push(KnownSegment { first, last, info });
                    }
                    _ => objects.snapshots.push(info),
                }
            }
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(objects),
            }
        }
    }
}

/// The snapshots that are not behind the place to go to, the newest first; none where the log goes back to its
/// beginning.
async fn bases(
    store: &dyn BlobStore,
    history: Uuid,
    objects: &Objects,
    until: Until,
) -> Result<Vec<ObjectInfo>, RestoreError> {
    let (mut bases, mut oldest) = (Vec::new(), None);
    for snapshot in objects.snapshots.iter().rev() {
        let SnapshotHeader { place, .. } = header(store, &snapshot.key).await?;
        if until.includes(place.position, place.time) {
            bases.push(snapshot.clone());
        }
        oldest = Some(place);
    }
    if !bases.is_empty() || objects.segments.first().is_some_and(|segment| segment.first == 0) {
        return Ok(bases);
    }
    Err(oldest.map_or(RestoreError::NoBackup(Some(history)), RestoreError::TooEarly))
}

/// Fetches the rows of a snapshot to a file beside the new folder.
async fn download(
    store: &dyn BlobStore,
    staging: &Staging,
    snapshot: &ObjectInfo,
    progress: &(impl Fn(RestoreProgress) + Sync),
) -> Result<File, RestoreError> {
    let path = staging.file();
    let io = |source| RestoreError::Io { path: path.clone(), source };
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).map_err(io)?;
    // Nobody else needs its name.
    fs::remove_file(&path).map_err(io)?;
    let header = SNAPSHOT_HEADER as u64;
    let mut chunks = store.get(&snapshot.key, header..snapshot.size).await?;
    let (mut done, total) = (0, snapshot.size - header);
    while let Some(chunk) = chunks.try_next().await? {
        file.write_all(&chunk).map_err(io)?;
        done += chunk.len() as u64;
        progress(RestoreProgress::Snapshot { done, total });
    }
    file.rewind().map_err(io)?;
    Ok(file)
}

/// Applies the log up to the place, or as far as it is whole: then it says why that is not all.
async fn replay(
    store: Arc<dyn BlobStore>,
    mut rebuild: Rebuild,
    history: Uuid,
    objects: Objects,
    until: Until,
    progress: &(impl Fn(RestoreProgress) + Sync),
) -> Result<(Rebuild, Option<String>), RestoreError> {
    let known = rebuild.entries();
    let needed: Vec<_> = objects.segments.into_iter().filter(|segment| segment.last >= known).collect();
    let total = needed.len();
    let mut segments = stream::iter(needed.into_iter().map(|segment| {
        let store = Arc::clone(&store);
        async move { fetch(&*store, segment.info).await }
    }))
    .buffered(SEGMENTS_AHEAD);
    let mut done = 0;
    while let Some(segment) = segments.next().await {
        let segment = match segment {
            Ok(segment) if segment.history == history => segment,
            Ok(_) => return Ok((rebuild, Some("a segment of the log is of another history".to_owned()))),
            Err(Fault::Inconsistent(why)) => return Ok((rebuild, Some(why))),
            Err(fault) => return Err(fault.into()),
        };
        let (next, applied) = blocking(move || {
            let applied = rebuild.apply(&segment.entries, until);
            (rebuild, applied)
        })
        .await?;
        rebuild = next;
        done += 1;
        progress(RestoreProgress::Log { done, total, sequence: rebuild.position().sequence });
        match applied {
            Ok(true) => {}
            Ok(false) => return Ok((rebuild, None)),
            Err(why @ (RebuildError::Missing { .. } | RebuildError::Entry { .. })) => {
                return Ok((rebuild, Some(why.to_string())));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((rebuild, None))
}

async fn fetch(store: &dyn BlobStore, info: ObjectInfo) -> Result<Segment, Fault> {
    let bytes = marker::read(store, &info.key, info.size).await?;
    Segment::decode(bytes).map_err(|why: format::FormatError| Fault::Inconsistent(format!("{}: {why}", info.key)))
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Fault::Inconsistent(format!("a thread ended early: {error}")))
}

/// The folder while it is being made.
pub(super) struct Staging {
    pub(super) folder: PathBuf,
}

impl Staging {
    /// Begins beside `folder`, in which nothing may be.
    pub(super) fn begin(folder: &Path) -> Result<Self, RestoreError> {
        check_empty(folder)?;
        let staging = Self::beside(folder, "restoring");
        // What an attempt has left that did not come to its end.
        match fs::remove_dir_all(&staging.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(staging.io(error)),
            Ok(()) | Err(_) => Ok(staging),
        }
    }

    pub(super) fn beside(folder: &Path, suffix: &str) -> Self {
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(suffix);
        Self { folder: folder.with_file_name(name) }
    }

    fn io(&self, source: io::Error) -> RestoreError {
        RestoreError::Io { path: self.folder.clone(), source }
    }

    /// A file that is not part of it.
    fn file(&self) -> PathBuf {
        self.folder.with_extension("snapshot")
    }

    /// Gives it its name, durably.
    pub(super) fn publish(self, folder: &Path) -> Result<(), RestoreError> {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io(error)),
            Ok(()) | Err(_) => {}
        }
        fs::rename(&self.folder, folder).map_err(|error| self.io(error))?;
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| self.io(error))
    }
}

pub(super) fn check_empty(folder: &Path) -> Result<(), RestoreError> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(RestoreError::Io { path: folder.to_owned(), source }),
        Ok(false) => Ok(()),
        Ok(true) => Err(RestoreError::NotEmpty(folder.to_owned())),
    }
}

fn list(histories: &[Uuid]) -> String {
    histories.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ")
}

//! To whom the store belongs.
//!
//! ```text
//! no marker ----------------------------------> the first history to come writes marker 1
//! marker n names our history -----------------> ours
//! marker n, and ours is incarnation n + 1 ----> we are its restore: we write marker n + 1
//! anything else ------------------------------> another registry's
//! ```
//!
//! Markers are written once and only if they are not there, so of two that would begin the same incarnation one is
//! refused. Whoever owned the store before finds the newer marker when it looks next.

use bytes::Bytes;
use futures_util::TryStreamExt;
use roadstead_blobs::{BlobError, BlobStore, ObjectInfo};
use roadstead_metadata::{BeginHistory, History, LogTime};
use roadstead_oci::ObjectKey;
use tracing::info;

use super::format::{decode_marker, encode_marker};
use super::rfc3339;
use crate::fault::Fault;
use crate::registry::Registry;

/// What the keys of markers begin with.
const MARKERS: &str = "meta/marker-";

/// A longer object is no marker: they have a few hundred bytes.
const MAX_MARKER: u64 = 64 * 1024;

/// Why a registry may not use a store.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Its marker names another history.
    #[error(
        "it belongs to another registry: its marker names the history {} since {}, and this data folder has {}",
        .newest.id,
        rfc3339(&.newest.begun),
        .ours.as_ref().map_or_else(|| "none".to_owned(), |ours| ours.id.to_string())
    )]
    Foreign {
        /// Whose it is.
        newest: Box<History>,
        /// Who asks.
        ours: Option<Box<History>>,
    },
    /// Its backup has entries of this history that the data folder does not have.
    #[error(
        "its backup has {shipped} entries of this history, and the data folder {applied}: the folder was set back to an \
         earlier state"
    )]
    SetBack {
        /// How many entries are in the store.
        shipped: u64,
        /// How many there are here.
        applied: u64,
    },
    /// It could not be found out.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ClaimError {
    /// What a person can do.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Foreign { ours: Some(ours), newest }
                if newest.parent.is_some_and(|parent| parent.history == ours.id) =>
            {
                "it was restored into another data folder, or another replica was recovered without this one, which has taken \
                 over: put this data folder away, and let a replica with an empty one join it"
            }
            Self::Foreign { .. } => {
                "use another bucket, `s3-prefix` or `data`; if the data folder of that registry is lost, run \
                 `roadstead restore`"
            }
            Self::SetBack { .. } => {
                "restore the registry from the store into a new data folder with `roadstead restore`, which has what is \
                 missing here"
            }
            Self::Fault(_) => "look at the store",
        }
    }
}

impl From<BlobError> for ClaimError {
    fn from(error: BlobError) -> Self {
        Self::Fault(error.into())
    }
}

/// The newest marker of a store: whose it is.
pub async fn newest(store: &dyn BlobStore) -> Result<Option<History>, Fault> {
    let mut last = None;
    let mut next = None;
    loop {
        let page = store.list(MARKERS, next.as_deref()).await?;
        last = page.items.into_iter().next_back().or(last);
        match page.next {
            Some(token) => next = Some(token),
            None => break,
        }
    }
    let Some(ObjectInfo { key, size, .. }) = last else { return Ok(None) };
    let bytes = read(store, &key, size.min(MAX_MARKER)).await?;
    let marker = decode_marker(&bytes).map_err(|why| Fault::Inconsistent(format!("the marker {key}: {why}")))?;
    Ok(Some(marker))
}

/// An object that is small.
pub(super) async fn read(store: &dyn BlobStore, key: &ObjectKey, size: u64) -> Result<Bytes, BlobError> {
    if size == 0 {
        return Ok(Bytes::new());
    }
    let chunks: Vec<Bytes> = store.get(key, 0..size).await?.try_collect().await?;
    Ok(chunks.concat().into())
}

/// Makes the store that of `ours`, if it may be.
pub async fn claim(store: &dyn BlobStore, ours: &History) -> Result<(), ClaimError> {
    let key = ObjectKey::marker(ours.incarnation);
    // Twice, since somebody may write a marker between the look and ours; then theirs is the newest.
    for _ in 0..2 {
        let newest = newest(store).await?;
        match &newest {
            Some(newest) if newest.id == ours.id => return Ok(()),
            Some(other) if other.incarnation + 1 != ours.incarnation => break,
            Some(_) | None => {}
        }
        if store.put_new(&key, encode_marker(ours)).await? {
            info!(history = %ours.id, incarnation = ours.incarnation, "the store has been marked as this registry's");
            return Ok(());
        }
    }
    match newest(store).await? {
        Some(newest) if newest.id == ours.id => Ok(()),
        Some(newest) => Err(ClaimError::Foreign { newest: Box::new(newest), ours: Some(Box::new(ours.clone())) }),
        None => Err(Fault::Inconsistent(format!("the marker {key} is there and is not listed")).into()),
    }
}

impl Registry {
    /// Finds that the store is this registry's, or makes it so; names the history of facts that have none yet.
    pub async fn claim_store(&self) -> Result<(), ClaimError> {
        // A replica that has just joined does not know the history before it has caught up.
        self.metadata.linearize().await.map_err(Fault::from)?;
        let known = self.metadata.query().map_err(Fault::from)?.history().map_err(Fault::from)?;
        let ours = match known {
            Some(ours) => ours,
            None => self.begin_history().await?,
        };
        claim(&*self.blobs, &ours).await?;
        *self.backup.owner.lock() = Some(ours);
        Ok(())
    }

    /// Finds that no later history has taken the store over, as far as this replica knows its own without asking others: so
    /// a replica that was left behind is told before it speaks with anybody.
    pub async fn check_not_succeeded(&self) -> Result<(), ClaimError> {
        let Some(ours) = self.metadata.history().await.map_err(Fault::from)? else { return Ok(()) };
        match newest(&*self.blobs).await? {
            Some(newest) if newest.id != ours.id && newest.incarnation >= ours.incarnation => {
                Err(ClaimError::Foreign { newest: Box::new(newest), ours: Some(Box::new(ours)) })
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn begin_history(&self) -> Result<History, ClaimError> {
        if let Some(newest) = newest(&*self.blobs).await? {
            return Err(ClaimError::Foreign { newest: Box::new(newest), ours: None });
        }
        let (history, storage) = (self.ports.uuid(), self.ports.uuid());
        let Ok(history) = self.propose(BeginHistory { history, storage }).await?;
        Ok(history)
    }

    /// Finds that the store is still this registry's: nobody has restored it into another data folder.
    pub async fn check_store(&self) -> Result<(), ClaimError> {
        if let Some((shipped, applied)) = *self.backup.set_back.lock() {
            return Err(ClaimError::SetBack { shipped, applied });
        }
        let owner = self.backup.owner.lock().clone();
        let Some(ours) = owner else {
            // A claim takes a leader, and whoever was left behind may never have one again.
            self.check_not_succeeded().await?;
            return self.claim_store().await;
        };
        let next = ObjectKey::marker(ours.incarnation + 1);
        if self.blobs.head(&next).await?.is_none() {
            return Ok(());
        }
        *self.backup.owner.lock() = None;
        match newest(&*self.blobs).await? {
            Some(newest) if newest.id != ours.id => {
                Err(ClaimError::Foreign { newest: Box::new(newest), ours: Some(Box::new(ours)) })
            }
            Some(_) | None => Err(Fault::Inconsistent(format!("the marker {next} is there and is not listed")).into()),
        }
    }

    /// The history that this registry may write to the store.
    pub(super) fn owned_history(&self) -> Option<History> {
        self.backup.owner.lock().clone()
    }

    /// Until when nothing at all may be deleted: a restore may have left out what the former history still names.
    pub(crate) fn deletions_wait_until(&self, history: &History) -> LogTime {
        let retention = u64::try_from(self.options.backup_retention.as_millis()).unwrap_or(u64::MAX);
        LogTime(history.parent.map_or(0, |_| history.begun.0.saturating_add(retention)))
    }
}

//! Writes at a mirror: kept here, decided at home.
//!
//! ```text
//!  blob:      kept in the mirror's own store -> shown in its repository here -> sent home ahead of its manifest
//!  manifest:  home is asked what it lacks of its blobs -> they are sent -> home decides and commits
//!                -> answered when this mirror shows it: read-your-writes through any of its replicas
//!  deletion:  home decides and commits -> answered when this mirror shows it
//! ```
//!
//! There is one history of each tag, home's; so of two regions that push one tag at once, one wins everywhere, and
//! preconditions are judged where all writes meet. While home is away nothing is written, and a client is told so in
//! seconds.

use std::sync::Arc;

use roadstead_domain::{Fault, Identity, ManifestStored};
use roadstead_metadata::{AnnouncedManifest, Following, Position};
use roadstead_oci::{Digest, Reference, RepositoryName};
use tokio::time::{Instant, timeout_at};

use crate::follow::in_time;
use crate::home::HomeError;
use crate::home_writes::WrittenManifest;
use crate::limits::{AWAY_PATIENCE, LISTED_PATIENCE, SHOWN_PATIENCE};
use crate::mirror::Mirror;
use crate::ship::ShipError;
use crate::wire::WriteAnswer;

/// Why something was not written, or why that is not said.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The token that home has minted for this mirror is for reading only.
    #[error("home does not let this mirror write")]
    ReadOnly,
    /// Nothing was written: home does not answer.
    #[error("home does not answer: {0}")]
    HomeAway(String),
    /// Home did not answer after it was asked: it may have been written, or may be yet.
    #[error("home did not say whether it has written it: {0}")]
    Unclear(String),
    /// It is written, and this mirror does not show it yet.
    #[error("home has written it, and this mirror does not show it yet")]
    NotShownYet,
    /// The manifest names blobs that neither home nor this mirror has in that repository.
    #[error("{} blobs that the manifest names are neither here nor at home", .0.len())]
    BlobsUnknown(Vec<Digest>),
    /// Home has written it, and no mirror has said in time that it has it too.
    #[error("home has written it, and no mirror has said in time that it has it too")]
    NoRemote,
    /// A reference names another manifest than the client says, or none.
    #[error("the reference names another manifest than the precondition says")]
    PreconditionFailed,
    /// There is no such manifest or tag.
    #[error("home has no such manifest or tag")]
    Unknown,
    /// Home does not take the manifest.
    #[error("{0}")]
    Invalid(String),
    /// What this registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Mirror {
    /// Whether clients may push here, as home has said last. From then on these facts are a mirror's, even if home has
    /// nothing yet.
    pub async fn may_write(&self) -> Result<(), WriteError> {
        let Some(seen) = self.contact.seen() else {
            return Err(WriteError::HomeAway("it was never heard of".to_owned()));
        };
        if !seen.writes {
            return Err(WriteError::ReadOnly);
        }
        if self.following()?.is_none() {
            // Whoever was home itself has to be compared with the new one first. Somebody else may have been first.
            if !self.has_own_content()? {
                let _received = self.registry.receive_changes(seen.home, Position::default(), Vec::new()).await?;
            }
            if self.following()?.is_none() {
                return Err(WriteError::HomeAway("this region does not follow it yet".to_owned()));
            }
        }
        Ok(())
    }

    /// Shows a blob that was pushed here in its repository, and sends it home. `false` if its bytes are not here any more.
    pub async fn land(self: &Arc<Self>, repository: &RepositoryName, digest: Digest) -> Result<bool, Fault> {
        let landed = self.registry.land_blob(repository, digest).await?;
        if landed {
            self.ship_ahead(repository, digest);
        }
        Ok(landed)
    }

    /// Gives a repository a blob that another one has, here or at home; `false` if there is none that `identity` may pull.
    pub async fn mount(
        self: &Arc<Self>,
        identity: &Identity,
        repository: &RepositoryName,
        digest: Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, Fault> {
        if self.registry.land_mount(identity, repository, digest, from).await? {
            self.ship_ahead(repository, digest);
            return Ok(true);
        }
        let Some(from) = from.filter(|from| self.registry.access().rights(identity, from).pull) else {
            return Ok(false);
        };
        if !self.contact.is_there() || in_time(self.home.blob_size(from, &digest)).await.is_err() {
            return Ok(false);
        }
        let lacking = in_time(self.home.claim(repository, &[digest])).await;
        Ok(lacking.is_ok_and(|lacking| lacking.is_empty()))
    }

    /// Puts a manifest at home, which names these blobs; returns when this mirror shows it.
    pub async fn put_manifest(
        self: &Arc<Self>,
        manifest: WrittenManifest,
        blobs: &[Digest],
    ) -> Result<ManifestStored, WriteError> {
        self.require_home().await?;
        let repository = &manifest.repository;
        // What came from home is most likely there still.
        let landed = self.pushed_here(repository, blobs)?;
        self.bring(repository, &landed).await?;
        let mut answer = self.ask_to_put(&manifest).await?;
        if let WriteAnswer::BlobsUnknown { missing } = &answer {
            // Home has let go of what this mirror still has, or another replica has just taken it.
            if self.bring(repository, missing).await? {
                answer = self.ask_to_put(&manifest).await?;
            }
        }
        match answer {
            WriteAnswer::Done { position, digest: Some(digest), subject } => {
                self.until_shown(position).await?;
                self.until_listed(repository, &digest).await?;
                Ok(ManifestStored { digest, subject })
            }
            WriteAnswer::BlobsUnknown { missing } => Err(WriteError::BlobsUnknown(missing)),
            WriteAnswer::PreconditionFailed => Err(WriteError::PreconditionFailed),
            WriteAnswer::NoRemote => Err(WriteError::NoRemote),
            WriteAnswer::Done { digest: None, .. } | WriteAnswer::Unknown => Err(misunderstood()),
            WriteAnswer::Invalid { reason } => Err(WriteError::Invalid(reason)),
        }
    }

    /// Deletes a manifest or a tag at home; returns when it is gone here.
    pub async fn delete_manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<(), WriteError> {
        self.require_home().await?;
        match in_time(self.home.delete_manifest(repository, reference)).await.map_err(|error| unclear(&error))? {
            WriteAnswer::Done { position, .. } => {
                self.until_shown(position).await?;
                self.registry.metadata().settle().await;
                Ok(())
            }
            WriteAnswer::Unknown => Err(WriteError::Unknown),
            WriteAnswer::BlobsUnknown { .. }
            | WriteAnswer::PreconditionFailed
            | WriteAnswer::NoRemote
            | WriteAnswer::Invalid { .. } => Err(misunderstood()),
        }
    }

    async fn ask_to_put(&self, manifest: &WrittenManifest) -> Result<WriteAnswer, WriteError> {
        in_time(self.home.put_manifest(manifest)).await.map_err(|error| unclear(&error))
    }

    /// Has home hold those of these blobs that are here; whether any is.
    async fn bring(self: &Arc<Self>, repository: &RepositoryName, blobs: &[Digest]) -> Result<bool, WriteError> {
        let mut here = Vec::new();
        for digest in blobs {
            if self.registry.find_landed(repository, digest).await?.is_some() {
                here.push(*digest);
            }
        }
        let brought = self.bring_home(repository, &here).await;
        brought.map(|()| !here.is_empty()).map_err(|error| match error {
            ShipError::Home(HomeError::Refused(why)) => WriteError::HomeAway(why),
            ShipError::Home(error) => WriteError::HomeAway(error.to_string()),
            ShipError::NotHere => WriteError::HomeAway("a blob went away".to_owned()),
            ShipError::Unread(why) => WriteError::Fault(Fault::Inconsistent(why)),
        })
    }

    fn pushed_here(&self, repository: &RepositoryName, blobs: &[Digest]) -> Result<Vec<Digest>, Fault> {
        let query = self.registry.metadata().query()?;
        let mut pushed = Vec::new();
        for digest in blobs {
            if query.landed_blob(repository, digest)?.is_some() {
                pushed.push(*digest);
            }
        }
        Ok(pushed)
    }

    /// Waits a moment for a home that is not heard of.
    async fn require_home(&self) -> Result<(), WriteError> {
        let due = Instant::now() + AWAY_PATIENCE;
        let mut heard = self.contact.subscribe();
        while !self.contact.is_there() {
            if timeout_at(due, heard.changed()).await.is_err() {
                return Err(WriteError::HomeAway(self.contact.how_silent()));
            }
        }
        Ok(())
    }

    /// Waits until this mirror has received home's changes up to there: then every replica of it shows them, or something
    /// newer.
    async fn until_shown(&self, position: Position) -> Result<(), WriteError> {
        let due = Instant::now() + SHOWN_PATIENCE;
        let mut applied = self.registry.metadata().subscribe_applied();
        loop {
            applied.borrow_and_update();
            let following = self.following()?;
            if following.is_some_and(|following| !following.comparing && following.position >= position) {
                return Ok(());
            }
            if timeout_at(due, applied.changed()).await.is_err() {
                return Err(WriteError::NotShownYet);
            }
        }
    }

    /// Waits a moment until a manifest that is shown is listed too, and needs no home any more.
    async fn until_listed(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), Fault> {
        let due = Instant::now() + LISTED_PATIENCE;
        let mut applied = self.registry.metadata().subscribe_applied();
        loop {
            applied.borrow_and_update();
            let announced = self.registry.metadata().query()?.announced_manifest(repository, digest)?;
            if announced == AnnouncedManifest::Nothing || timeout_at(due, applied.changed()).await.is_err() {
                return Ok(());
            }
        }
    }

    fn following(&self) -> Result<Option<Following>, Fault> {
        Ok(self.registry.metadata().query()?.following()?)
    }
}

fn misunderstood() -> WriteError {
    WriteError::Unclear("its answer cannot be understood, it may be of another release".to_owned())
}

fn unclear(error: &HomeError) -> WriteError {
    WriteError::Unclear(error.to_string())
}

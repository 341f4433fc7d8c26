//! Pulls at a mirror: what is here, else what is on its way, else what home has.
//!
//! ```text
//!  tag:    home is there:  what was announced (streamed while it is copied) -> what is here -> home is asked
//!          home is away:   what is here: the last whole one
//!  digest: what is here -> what was announced or is wanted: from home, or 503 while it is away -> home is asked
//! ```
//!
//! Never 404 for what is known to exist at home, and no tag whose content could not be had (promise P8).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use roadstead_domain::{BlobReadError, Fault, FoundBlob, ManifestFound, ManifestReadError};
use roadstead_metadata::{AnnouncedManifest, AnnouncedTag, ManifestContent, Query};
use roadstead_oci::{Digest, Reference, RepositoryName, Tag};

use crate::fetch::{Fetch, FetchError, Pull};
use crate::follow::in_time;
use crate::home::HomeError;
use crate::mirror::Mirror;

/// Why a pull at a mirror was not answered.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Neither the mirror nor home has it, as far as can be known.
    #[error("neither this mirror nor its home has it")]
    Unknown,
    /// Home has it, and is away.
    #[error("it is at home, has not arrived here yet, and home does not answer: {0}")]
    HomeAway(String),
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A blob that can be pulled.
pub enum PulledBlob {
    /// It is here.
    Here(FoundBlob),
    /// It is on its way.
    Coming(Coming),
}

impl PulledBlob {
    /// In bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Here(blob) => blob.size(),
            Self::Coming(coming) => coming.size(),
        }
    }
}

/// A blob on its way, for one who pulls it.
pub struct Coming {
    fetch: Arc<Fetch>,
    mirror: Arc<Mirror>,
    repository: RepositoryName,
}

impl Coming {
    /// In bytes.
    pub fn size(&self) -> u64 {
        self.fetch.size()
    }

    /// The bytes of a range, which must lie within the blob, as they come.
    pub fn stream(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes, FetchError>> {
        self.fetch.read(&self.mirror, &self.repository, range, Some(Pull::of(&self.fetch)))
    }
}

impl Mirror {
    /// Finds a manifest by tag or digest.
    pub async fn find_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestFound, PullError> {
        match reference {
            Reference::Tag(tag) => self.find_by_tag(repository, tag).await,
            Reference::Digest(digest) => self.find_by_digest(repository, *digest).await,
        }
    }

    async fn find_by_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<ManifestFound, PullError> {
        let reference = Reference::Tag(tag.clone());
        // First what will be, then what is: so a tag that is published in between is not taken for what it was before.
        // Without a leader this replica answers from what it knows.
        let _ = self.registry.confirm_newest().await;
        let announced = self.query()?.announced_tag(repository, tag).map_err(Fault::from)?;
        let here = self.registry.find_manifest(repository, &reference).await;
        match (announced, self.contact.is_there()) {
            (AnnouncedTag::At(digest), true) => match self.coming(repository, digest).await {
                Err(PullError::HomeAway(why)) => found_or(here, PullError::HomeAway(why)),
                found => found,
            },
            (AnnouncedTag::At(_), false) => found_or(here, self.away()),
            (AnnouncedTag::Gone, true) => Err(PullError::Unknown),
            (AnnouncedTag::Nothing, true) => match here {
                Err(ManifestReadError::Unknown) => self.ask_home(repository, &reference).await,
                here => found_or(here, PullError::Unknown),
            },
            (AnnouncedTag::Gone | AnnouncedTag::Nothing, false) => found_or(here, PullError::Unknown),
        }
    }

    async fn find_by_digest(&self, repository: &RepositoryName, digest: Digest) -> Result<ManifestFound, PullError> {
        let reference = Reference::Digest(digest);
        match self.registry.find_manifest(repository, &reference).await {
            Err(ManifestReadError::Unknown) => {}
            here => return found_or(here, PullError::Unknown),
        }
        let announced = self.query()?.announced_manifest(repository, &digest).map_err(Fault::from)?;
        match (announced, self.contact.is_there()) {
            (AnnouncedManifest::Coming(_), true) => self.coming(repository, digest).await,
            (AnnouncedManifest::Coming(_), false) => Err(self.away()),
            (AnnouncedManifest::Gone, _) | (AnnouncedManifest::Nothing, false) => Err(PullError::Unknown),
            (AnnouncedManifest::Nothing, true) => self.ask_home(repository, &reference).await,
        }
    }

    /// A manifest that was announced, while home is there for its content.
    async fn coming(&self, repository: &RepositoryName, digest: Digest) -> Result<ManifestFound, PullError> {
        let reference = Reference::Digest(digest);
        match self.registry.find_manifest(repository, &reference).await {
            Err(ManifestReadError::Unknown) => {}
            here => return found_or(here, PullError::Unknown),
        }
        let announced = self.query()?.announced_manifest(repository, &digest).map_err(Fault::from)?;
        if let AnnouncedManifest::Coming(Some(manifest)) = announced {
            let media_type = manifest.media_type.clone();
            if let ManifestContent::Inline(bytes) = manifest.content {
                return Ok(ManifestFound::passing(digest, media_type, bytes));
            }
        }
        self.ask_home(repository, &reference).await
    }

    async fn ask_home(&self, repository: &RepositoryName, reference: &Reference) -> Result<ManifestFound, PullError> {
        match in_time(self.home.manifest(repository, reference)).await {
            Ok(manifest) => Ok(ManifestFound::passing(manifest.digest, manifest.media_type, manifest.bytes)),
            Err(error) => Err(unanswered(error)),
        }
    }

    /// Finds a blob.
    pub async fn find_blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<PulledBlob, PullError> {
        match self.registry.find_blob(repository, digest).await {
            Ok(blob) => return Ok(PulledBlob::Here(blob)),
            Err(BlobReadError::Unknown) => {}
            Err(BlobReadError::Fault(fault)) => return Err(fault.into()),
        }
        let wanted = self.query()?.is_wanted(repository, digest).map_err(Fault::from)?;
        match (wanted, self.contact.is_there()) {
            (None, false) => return Err(PullError::Unknown),
            (Some(_), false) => return Err(self.away()),
            (_, true) => {}
        }
        match self.fetch(repository, *digest, wanted).await {
            Ok(fetch) => {
                Ok(PulledBlob::Coming(Coming { fetch, mirror: Arc::clone(self), repository: repository.clone() }))
            }
            Err(FetchError::Home(error)) => Err(unanswered(error)),
            Err(error @ (FetchError::Spool(_) | FetchError::NotKept(_))) => Err(PullError::HomeAway(error.to_string())),
        }
    }

    /// The size of a blob, which is not begun to be brought for that.
    pub async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, PullError> {
        match self.registry.find_blob(repository, digest).await {
            Ok(blob) => return Ok(blob.size()),
            Err(BlobReadError::Unknown) => {}
            Err(BlobReadError::Fault(fault)) => return Err(fault.into()),
        }
        let wanted = self.query()?.is_wanted(repository, digest).map_err(Fault::from)?;
        match (wanted, self.contact.is_there()) {
            (None, false) => Err(PullError::Unknown),
            (Some(_), false) => Err(self.away()),
            (Some(size), true) => Ok(size),
            (None, true) => in_time(self.home.blob_size(repository, digest)).await.map_err(unanswered),
        }
    }

    fn away(&self) -> PullError {
        PullError::HomeAway(match self.contact.silence() {
            Some(silence) => format!("it was heard of {} s ago", silence.as_secs()),
            None => "it was never heard of".to_owned(),
        })
    }

    fn query(&self) -> Result<Query, Fault> {
        Ok(self.registry.metadata().query()?)
    }
}

/// What was found here, or else why not.
fn found_or(here: Result<ManifestFound, ManifestReadError>, otherwise: PullError) -> Result<ManifestFound, PullError> {
    match here {
        Ok(found) => Ok(found),
        Err(ManifestReadError::Unknown) => Err(otherwise),
        Err(ManifestReadError::Fault(fault)) => Err(fault.into()),
    }
}

fn unanswered(error: HomeError) -> PullError {
    match error {
        HomeError::Unknown { .. } => PullError::Unknown,
        HomeError::Away(why) | HomeError::Refused(why) | HomeError::Resynchronise(why) => PullError::HomeAway(why),
    }
}

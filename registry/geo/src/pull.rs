//! Pulls at a mirror: what is here, else what is on its way, else what home has.
//!
//! ```text
//!  tag:    home is there:  what was announced (streamed while it is copied) -> what is here -> home is asked
//!          home is away:   what is here: the last whole one
//!  digest: what is here -> home is asked, for what was announced or is wanted and for what is not known of; 503 while it is away
//! ```
//!
//! Never 404 for what may exist at home, since a tag that names it may have been passed on before anything was announced; and
//! no tag whose content could not be had (promise P8).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use roadstead_domain::{Fault, FoundBlob, ManifestFound, ManifestReadError};
use roadstead_metadata::{AnnouncedManifest, AnnouncedTag, ManifestContent, Query};
use roadstead_oci::{Digest, Hasher, Reference, RepositoryName, Tag};
use tokio::time::timeout;

use crate::fetch::{Fetch, FetchError, Pull};
use crate::follow::in_time;
use crate::home::HomeError;
use crate::limits::ANSWER_PATIENCE;
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

    /// The bytes of a range, which must lie within the blob, as they come. Whoever cannot have the first of them is told why,
    /// within [`ANSWER_PATIENCE`], instead of being promised bytes and cut off.
    pub async fn stream(&self, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, PullError> {
        let mut pieces = self.fetch.read(&self.mirror, &self.repository, range, Some(Pull::of(&self.fetch)));
        match timeout(ANSWER_PATIENCE, pieces.next()).await {
            Ok(None) => Ok(pieces),
            Ok(Some(Ok(first))) => Ok(stream::iter([Ok(first)]).chain(pieces).boxed()),
            Ok(Some(Err(error))) => Err(unbrought(error)),
            Err(_elapsed) => {
                Err(PullError::HomeAway(format!("nothing of it came within {} s", ANSWER_PATIENCE.as_secs())))
            }
        }
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
        let _ = self.registry.freshen().await;
        let announced = self.query()?.announced_tag(repository, tag).map_err(Fault::from)?;
        let here = self.registry.find_manifest(repository, &reference).await;
        match (announced, self.contact.is_there()) {
            (AnnouncedTag::At(digest), true) => match self.coming(repository, digest).await {
                Err(PullError::HomeAway(why)) => found_or(here, PullError::HomeAway(why)),
                found => found,
            },
            (AnnouncedTag::At(_), false) => found_or(here, self.away()),
            // Who was told that it is gone is not shown it again when home is lost.
            (AnnouncedTag::Gone, _) if self.follows_tag(repository, tag) && !self.contact.is_partial() => {
                Err(PullError::Unknown)
            }
            // Of what is left out nobody tells whether home has it again.
            (AnnouncedTag::Gone, true) => self.ask_home(repository, &reference).await,
            (AnnouncedTag::Gone, false) => Err(self.away()),
            (AnnouncedTag::Nothing, true) => match here {
                Err(ManifestReadError::Unknown) => self.ask_home(repository, &reference).await,
                here => found_or(here, PullError::Unknown),
            },
            (AnnouncedTag::Nothing, false) => found_or(here, self.away_or_unknown(repository, tag)?),
        }
    }

    async fn find_by_digest(&self, repository: &RepositoryName, digest: Digest) -> Result<ManifestFound, PullError> {
        let reference = Reference::Digest(digest);
        // First what will be, then what is, as with tags: one that is published in between is found in one of the two.
        let announced = self.query()?.announced_manifest(repository, &digest).map_err(Fault::from)?;
        match self.registry.find_manifest(repository, &reference).await {
            Err(ManifestReadError::Unknown) => {}
            here => return found_or(here, PullError::Unknown),
        }
        match (announced, self.contact.is_there()) {
            (AnnouncedManifest::Coming(_), true) => self.coming(repository, digest).await,
            (AnnouncedManifest::Gone, _) if !self.may_lack(repository) => Err(PullError::Unknown),
            (_, false) => Err(self.away()),
            // Of what is left out nobody tells whether home has it again.
            (AnnouncedManifest::Gone | AnnouncedManifest::Nothing, true) => self.ask_home(repository, &reference).await,
        }
    }

    /// A manifest that was announced, while home is there for its content.
    async fn coming(&self, repository: &RepositoryName, digest: Digest) -> Result<ManifestFound, PullError> {
        let reference = Reference::Digest(digest);
        let announced = self.query()?.announced_manifest(repository, &digest).map_err(Fault::from)?;
        match self.registry.find_manifest(repository, &reference).await {
            Err(ManifestReadError::Unknown) => {}
            here => return found_or(here, PullError::Unknown),
        }
        if let AnnouncedManifest::Coming(Some(manifest)) = announced {
            let media_type = manifest.media_type.clone();
            if let ManifestContent::Inline(bytes) = manifest.content {
                return Ok(ManifestFound::passing(digest, media_type, bytes));
            }
        }
        self.ask_home(repository, &reference).await
    }

    async fn ask_home(&self, repository: &RepositoryName, reference: &Reference) -> Result<ManifestFound, PullError> {
        let manifest = in_time(self.home.manifest(repository, reference)).await.map_err(unanswered)?;
        // No digest is answered with bytes that were not hashed here.
        let is_asked_for = match reference {
            Reference::Digest(digest) => *digest == manifest.digest,
            Reference::Tag(_) => true,
        };
        if !is_asked_for || Hasher::verify_bytes(manifest.digest, &manifest.bytes).is_err() {
            return Err(PullError::HomeAway("what came is not what its digest says".to_owned()));
        }
        Ok(ManifestFound::passing(manifest.digest, manifest.media_type, manifest.bytes))
    }

    /// Why a tag that is not found here is not, while home is away: what is damaged here is at home.
    fn away_or_unknown(&self, repository: &RepositoryName, tag: &Tag) -> Result<PullError, Fault> {
        let query = self.query()?;
        let is_damaged = match query.tag(repository, tag)? {
            Some(digest) => query.manifest_set_aside(repository, &digest)?,
            None => false,
        };
        Ok(if is_damaged { self.away() } else { self.unknown_here(repository) })
    }

    /// Finds a blob.
    pub async fn find_blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<PulledBlob, PullError> {
        // First what is wanted, then what is here: one that comes in between is found in one of the two.
        let wanted = self.at_home(repository, digest)?;
        if let Some(blob) = self.registry.find_landed(repository, digest).await? {
            return Ok(PulledBlob::Here(blob));
        }
        if !self.contact.is_there() {
            return Err(self.away());
        }
        match self.fetch(repository, *digest, wanted).await {
            Ok(fetch) => {
                Ok(PulledBlob::Coming(Coming { fetch, mirror: Arc::clone(self), repository: repository.clone() }))
            }
            Err(error) => Err(unbrought(error)),
        }
    }

    /// The size of a blob, which is not begun to be brought for that.
    pub async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, PullError> {
        let wanted = self.at_home(repository, digest)?;
        // Where clients push, whoever asks may rely on the answer, as at any registry; else they do that at home.
        let writes = self.contact.seen().is_some_and(|seen| seen.writes);
        let found = if writes {
            self.registry.promise_landed(repository, digest).await?
        } else {
            self.registry.find_landed(repository, digest).await?
        };
        if let Some(blob) = found {
            return Ok(blob.size());
        }
        match (wanted, self.contact.is_there()) {
            // Whoever pushes brings it then.
            (None, false) if writes => Err(PullError::Unknown),
            (_, false) => Err(self.away()),
            // What is not here, only home can promise.
            (Some(size), true) if !writes => Ok(self.fetches.size(digest, size)),
            (_, true) => in_time(self.home.blob_size(repository, digest)).await.map_err(unanswered),
        }
    }

    /// The size of a blob that is known to be at home and is not sound here: it is wanted, or damaged here.
    fn at_home(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Fault> {
        let query = self.query()?;
        Ok(match query.is_wanted(repository, digest)? {
            None => query.blob_set_aside(repository, digest)?,
            wanted => wanted,
        })
    }

    /// What is said of what is not here while home is away: of what is not followed, home alone knows whether it exists.
    fn unknown_here(&self, repository: &RepositoryName) -> PullError {
        if self.may_lack(repository) { self.away() } else { PullError::Unknown }
    }

    pub(crate) fn away(&self) -> PullError {
        PullError::HomeAway(self.contact.how_silent())
    }

    pub(crate) fn query(&self) -> Result<Query, Fault> {
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

fn unbrought(error: FetchError) -> PullError {
    match error {
        FetchError::Home(error) => unanswered(error),
        FetchError::Spool(_)
        | FetchError::Busy
        | FetchError::OtherSize { .. }
        | FetchError::PutOff
        | FetchError::NotKept(_) => PullError::HomeAway(error.to_string()),
    }
}

pub(crate) fn unanswered(error: HomeError) -> PullError {
    match error {
        HomeError::Unknown { .. } => PullError::Unknown,
        HomeError::Away(why) | HomeError::Refused(why) | HomeError::Resynchronise(why) => PullError::HomeAway(why),
        HomeError::NotServed => PullError::HomeAway(error.to_string()),
    }
}

//! Home as its mirror sees it.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use roadstead_metadata::{Position, RemoteProgress};
use roadstead_oci::{Digest, Reference, RepositoryName, UploadId};

use crate::home_writes::HomeWrites;
use crate::referrers::HomeReferrers;
use crate::region::{DemotionToken, HandoverRequest, RegionReport};
use crate::wire::{FeedLine, SnapshotLine};

/// Lines as they come. They end with an error, or when home ends them.
pub type Lines<T> = BoxStream<'static, Result<T, HomeError>>;

/// Why home did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomeError {
    /// It does not answer, or says that it cannot now.
    #[error("home does not answer: {0}")]
    Away(String),
    /// It knows neither what was asked for, nor that it ever will; it was at this place of its feed when it said so.
    #[error("home does not have it")]
    Unknown {
        /// The newest change then.
        newest: Position,
    },
    /// The feed does not go on from there.
    #[error("home's feed does not go on from where this mirror is: {0}")]
    Resynchronise(String),
    /// It does not take this mirror's token, or says what cannot be understood: somebody has to look.
    #[error("{0}")]
    Refused(String),
    /// It knows no such question.
    #[error("what answers there is no Roadstead, or an earlier release: look at `upstream`")]
    NotServed,
}

/// A manifest as home has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeManifest {
    /// Its digest.
    pub digest: Digest,
    /// As its client declared it.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A stretch of a blob as home sends it.
pub struct HomeBlob {
    /// The whole blob's, in bytes.
    pub size: u64,
    /// The bytes; what they hash to has to be looked at.
    pub bytes: BoxStream<'static, Result<Bytes, HomeError>>,
}

/// The other replicas of a mirror.
#[async_trait]
pub trait Siblings: Send + Sync + 'static {
    /// A stretch of a blob from the replica that leads, which has it or brings it: so it crosses the link to home once for
    /// all of them. `None` if this is not to be had, for whatever reason.
    async fn blob(&self, repository: &RepositoryName, digest: &Digest, range: Range<u64>) -> Option<HomeBlob>;
}

/// How a mirror reaches its home. Each call may use a connection of its own.
#[async_trait]
pub trait Home: HomeWrites {
    /// What people call it.
    fn name(&self) -> &str;

    /// The feed after a place.
    async fn feed(&self, after: Position) -> Result<Lines<FeedLine>, HomeError>;

    /// How far home is, each second.
    async fn watermarks(&self) -> Result<Lines<FeedLine>, HomeError>;

    /// Everything that home has.
    async fn snapshot(&self) -> Result<Lines<SnapshotLine>, HomeError>;

    /// What it says of who is home.
    async fn region(&self) -> Result<RegionReport, HomeError>;

    /// Lets it take no changes any more, for the mirror that is home next.
    async fn hand_over(&self, to: HandoverRequest) -> Result<DemotionToken, HomeError>;

    /// Tells it how far this mirror is.
    async fn report(&self, progress: &RemoteProgress) -> Result<(), HomeError>;

    /// A manifest by tag or digest.
    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<HomeManifest, HomeError>;

    /// A page of what refers to a manifest, behind `last`. Empty if nothing does. [`HomeError::NotServed`] of a home that is
    /// of an earlier release.
    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<&Digest>,
    ) -> Result<HomeReferrers, HomeError>;

    /// The size of a blob.
    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, HomeError>;

    /// A stretch of an upload in progress, which must lie within what home has told of it, and not be empty. It may end
    /// early.
    async fn upload(
        &self,
        _repository: &RepositoryName,
        _upload: &UploadId,
        _range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, HomeError>>, HomeError> {
        Err(HomeError::Away("it shows no upload before it is a blob".to_owned()))
    }

    /// A stretch of a blob, which must not be empty, and begins within it: what of it is behind the blob's end is left out.
    async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<HomeBlob, HomeError>;
}

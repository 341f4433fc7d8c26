//! The verbs of a mirror, which follows another registry's feed, and of the home that lets it.
//!
//! ```text
//!  feed --> received_manifest --> receive_changes    what has come, in home's order
//!  bytes -> transfer_blob --------------------------> a blob, hashed here; what waited for it is published by the same entry
//! ```
//!
//! A blob that is larger than a part comes by way of an upload session that is named after the blob: so it is the journal
//! of the transfer, and whoever goes on with it, after a crash or on another replica, begins at its last checkpoint.

use std::sync::Arc;

use bytes::Bytes;
use roadstead_metadata::{
    AdmitMirror, AdmitWriter, AdmittedMirror, AdvanceInbox, Advanced, Arrival, ClusterId, Comparison, DismissMirror,
    ForsakeBlob, LogTime, MendManifest, NewManifest, OpenUpload, OpenUploadRefused, Position, Precondition,
    PutManifest, ReceiveChanges, ReceiveChangesRefused, ReceiveChosen, ReceiveSnapshot, ReceiveSnapshotRefused,
    ReceivedChange, ResolveManifest, ResolveManifestRefused, SnapshotStep, UploadState,
};
use roadstead_oci::{Algorithm, Digest, Hasher, Manifest, MediaType, RepositoryName, Tag, UploadId, Verified};
use uuid::Builder;

use crate::fault::Fault;
use crate::manifest::referrer;
use crate::registry::Registry;
use crate::upload::{Body, Content, UploadError};

/// Sessions of one blob that are looked at: each but the last was finished lately, and its blob deleted since.
const MAX_TRANSFERS_OF_A_BLOB: u8 = 8;

/// Bytes of a mirror's token: nobody guesses them.
const TOKEN_BYTES: usize = 32;

/// Why a manifest that home sent is none that can be kept here.
#[derive(Debug, thiserror::Error)]
pub enum ReceivedManifestError {
    /// It is not what its digest says, or no manifest.
    #[error("the manifest {digest} that home sent cannot be kept: {reason}")]
    Unfit {
        /// What home calls it.
        digest: Digest,
        /// Why not.
        reason: String,
    },
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Where a blob's transfer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub(crate) upload: Option<UploadId>,
    /// Bytes that are here already.
    pub offset: u64,
}

/// A manifest that home sent, hashed and read here, and not stored.
pub struct HomesManifest {
    verified: Verified<Digest>,
    media_type: String,
    manifest: Manifest,
}

impl HomesManifest {
    /// Looks at what home sent as `digest`.
    pub fn verify(digest: Digest, media_type: &str, bytes: Bytes) -> Result<Self, ReceivedManifestError> {
        let unfit = |reason: String| ReceivedManifestError::Unfit { digest, reason };
        let declared = MediaType::from_content_type(media_type).map_err(|error| unfit(error.to_string()))?;
        let manifest = Manifest::parse(Some(&declared), bytes).map_err(|error| unfit(error.to_string()))?;
        let verified = Hasher::verify_bytes(digest, manifest.bytes()).map_err(|error| unfit(error.to_string()))?;
        Ok(Self { verified, media_type: media_type.to_owned(), manifest })
    }

    /// The blobs that it names.
    pub fn blobs(&self) -> Vec<Digest> {
        self.manifest.blobs()
    }
}

impl Registry {
    /// What is to be put of a manifest that home sent: verified, with its content stored if that is large.
    pub async fn received_manifest(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        media_type: &str,
        tags: Vec<Tag>,
        bytes: Bytes,
    ) -> Result<PutManifest, ReceivedManifestError> {
        Ok(self.store_received(repository, HomesManifest::verify(digest, media_type, bytes)?, tags).await?)
    }

    /// What is to be put of a manifest that was verified, with its content stored if that is large.
    pub async fn store_received(
        &self,
        repository: &RepositoryName,
        received: HomesManifest,
        tags: Vec<Tag>,
    ) -> Result<PutManifest, Fault> {
        let HomesManifest { verified, media_type, manifest } = received;
        let subject = manifest.subject().map(|subject| subject.digest);
        let received = NewManifest {
            repository: repository.clone(),
            media_type,
            size: manifest.bytes().len() as u64,
            content: self.store_content(*verified.get(), manifest.bytes()).await?,
            blobs: manifest.blobs(),
            referrer: subject.map(|subject| referrer(subject, &manifest)),
            tags,
            precondition: Precondition::None,
            // Whether home has all of it is home's business; what is missing here, the inbox waits for.
            sparse: true,
        };
        Ok(PutManifest::new(verified, received))
    }

    /// Takes in changes of home's feed.
    pub async fn receive_changes(
        &self,
        home: ClusterId,
        after: Position,
        changes: Vec<ReceivedChange>,
    ) -> Result<Result<Advanced, ReceiveChangesRefused>, Fault> {
        self.propose(ReceiveChanges { home, after, changes }).await
    }

    /// Takes in what is followed of changes of home's feed.
    pub async fn receive_chosen(
        &self,
        chosen: ReceiveChosen,
    ) -> Result<Result<Advanced, ReceiveChangesRefused>, Fault> {
        self.propose(chosen).await
    }

    /// Begins a comparison with `home`, which has not been asked for its snapshot yet.
    pub async fn begin_comparison(&self, home: ClusterId) -> Result<Comparison, Fault> {
        let mut id = [0; 16];
        self.ports.entropy.fill(&mut id);
        let comparison = Comparison(u128::from_be_bytes(id));
        match self.receive_snapshot(home, comparison, SnapshotStep::Begins).await? {
            Ok(_) => Ok(comparison),
            Err(refused) => Err(Fault::Inconsistent(refused.to_string())),
        }
    }

    /// Takes in a step of a comparison with home.
    pub async fn receive_snapshot(
        &self,
        home: ClusterId,
        comparison: Comparison,
        step: SnapshotStep,
    ) -> Result<Result<Advanced, ReceiveSnapshotRefused>, Fault> {
        self.propose(ReceiveSnapshot { home, comparison, step }).await
    }

    /// Says what home has told of a manifest; `false` if it cannot be published yet, or somebody else has said so.
    pub async fn resolve_manifest(
        &self,
        repository: &RepositoryName,
        arrival: Arrival,
        manifest: Option<PutManifest>,
    ) -> Result<bool, Fault> {
        let resolve = ResolveManifest { repository: repository.clone(), arrival, manifest };
        match self.propose(resolve).await? {
            Ok(_advanced) => Ok(true),
            Err(ResolveManifestRefused::NotWaiting | ResolveManifestRefused::Incomplete(_)) => Ok(false),
            Err(refused @ ResolveManifestRefused::KeyNotReserved) => Err(Fault::Inconsistent(refused.to_string())),
        }
    }

    /// Puts a manifest that is set aside, had from home once more; whether it was set aside still.
    pub async fn mend_manifest(&self, repository: &RepositoryName, received: HomesManifest) -> Result<bool, Fault> {
        let manifest = self.store_received(repository, received, Vec::new()).await?;
        let Ok(mended) = self.propose(MendManifest { manifest }).await?;
        Ok(mended)
    }

    /// Stops waiting for a blob that home does not hold there any more, and that was wanted by the change `arrival`.
    pub async fn forsake_blob(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        arrival: Arrival,
    ) -> Result<(), Fault> {
        let Ok(_advanced) = self.propose(ForsakeBlob { repository: repository.clone(), digest, arrival }).await?;
        Ok(())
    }

    /// Publishes what has its turn in a repository.
    pub async fn advance_inbox(&self, repository: &RepositoryName) -> Result<Advanced, Fault> {
        let Ok(advanced) = self.propose(AdvanceInbox { repository: repository.clone() }).await?;
        Ok(advanced)
    }

    /// Where the transfer of a blob of `size` bytes begins, or goes on.
    pub async fn begin_transfer(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
    ) -> Result<Transfer, UploadError> {
        if size <= self.options.part_size {
            return Ok(Transfer { upload: None, offset: 0 });
        }
        for attempt in 0..MAX_TRANSFERS_OF_A_BLOB {
            let upload = transfer_session(repository, &digest, attempt);
            match self.upload_state(&upload)? {
                None => {
                    self.open_named(repository, upload, digest.algorithm() == Algorithm::Sha512).await?;
                    return Ok(Transfer { upload: Some(upload), offset: 0 });
                }
                Some(UploadState::Receiving(progress)) => {
                    return Ok(Transfer { upload: Some(upload), offset: progress.offset });
                }
                // Its closing request needs only be repeated.
                Some(UploadState::Completing { size, .. }) => {
                    return Ok(Transfer { upload: Some(upload), offset: size });
                }
                Some(UploadState::Finished { .. }) => {}
            }
        }
        Err(Fault::Inconsistent(format!("{digest} was transferred too often lately")).into())
    }

    /// Where a session stands, as far as is known here.
    pub(crate) fn upload_state(&self, upload: &UploadId) -> Result<Option<UploadState>, Fault> {
        Ok(self.metadata.query()?.upload(upload)?.map(|known| known.state))
    }

    /// Opens a session whose name says what it is for, unless another replica has.
    pub(crate) async fn open_named(
        &self,
        repository: &RepositoryName,
        upload: UploadId,
        sha512: bool,
    ) -> Result<(), Fault> {
        let (repository, owner, hash) = (repository.clone(), self.incarnation, Hasher::new().state());
        match self.propose(OpenUpload { upload, repository, owner, sha512, hash }).await? {
            Ok(()) | Err(OpenUploadRefused::UploadExists) => Ok(()),
        }
    }

    /// Makes a blob of what `body` brings from the transfer's offset on, if it has this digest.
    pub async fn transfer_blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: Digest,
        size: u64,
        transfer: Transfer,
        body: Body,
    ) -> Result<(), UploadError> {
        let rest = size - transfer.offset;
        let Some(upload) = transfer.upload else {
            return self.upload_blob(repository, digest, Content { range: None, length: Some(rest), body }).await;
        };
        if rest > 0 {
            let content = Content { range: None, length: Some(rest), body };
            self.append_upload(repository, upload, content).await?;
        }
        let nothing = Content { range: None, length: Some(0), body: Box::pin(futures_util::stream::empty()) };
        self.close_upload(repository, upload, digest, nothing).await
    }

    /// Lets whoever has the token that is returned follow this registry, and write to it what is pushed there, if it
    /// `writes`. The token is told once, and kept as a hash.
    pub async fn admit_mirror(&self, name: &str, writes: bool) -> Result<String, Fault> {
        let mut secret = [0; TOKEN_BYTES];
        self.ports.entropy.fill(&mut secret);
        let token = secret.iter().fold("rsm_".to_owned(), |token, byte| token + &format!("{byte:02x}"));
        let (name, hashed) = (name.to_owned(), hash(&token));
        let Ok(()) = if writes {
            self.propose(AdmitWriter { name, token: hashed }).await?
        } else {
            self.propose(AdmitMirror { name, token: hashed }).await?
        };
        self.metadata.settle().await;
        Ok(token)
    }

    /// Takes a mirror's token back; whether there was one.
    pub async fn dismiss_mirror(&self, name: &str) -> Result<bool, Fault> {
        let Ok(known) = self.propose(DismissMirror { name: name.to_owned() }).await?;
        self.metadata.settle().await;
        Ok(known)
    }

    /// Whose token this is.
    pub fn mirror_of(&self, token: &str) -> Result<Option<AdmittedMirror>, Fault> {
        Ok(self.metadata.query()?.admitted_mirror(&hash(token))?)
    }

    /// What time it is in this registry's log.
    pub fn log_time(&self) -> LogTime {
        self.ports.now(&self.metadata)
    }

    /// After it, what this replica has is no older than what was acknowledged anywhere before.
    pub async fn confirm_newest(&self) -> Result<(), Fault> {
        self.linearize().await
    }
}

fn hash(token: &str) -> Digest {
    *Hasher::digest(Algorithm::Sha256, token.as_bytes()).get()
}

/// The session by which a blob comes: the same on every replica and after every restart.
fn transfer_session(repository: &RepositoryName, digest: &Digest, attempt: u8) -> UploadId {
    named_session(&format!("transfer {attempt} of {digest} to {repository}"))
}

/// The session that is for this.
pub(crate) fn named_session(purpose: &str) -> UploadId {
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash(purpose).hash()) {
        *byte = *hashed;
    }
    UploadId::new(Builder::from_custom_bytes(bytes).into_uuid())
}

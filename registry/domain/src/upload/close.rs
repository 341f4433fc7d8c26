//! Making a blob of a session.
//!
//! ```text
//!   one object:  verify -> put ------------------------------------------> LinkBlob
//!   parts:       verify -> final part -> BeginCompletion -> complete ----> FinishUpload
//! ```
//!
//! A Raft epoch does not fence the store, and some stores do not know an upload any more once it is complete. So the
//! completion is written down before it is asked for, and whoever finds it unfinished repeats it.

use futures_util::TryStreamExt;
use roadstead_metadata::{BeginCompletion, CancelUpload, Epoch, FinishUpload, LinkBlob, Multipart, Tail};
use roadstead_oci::{Digest, Hasher, ObjectKey, Part, RepositoryName, UploadId, Verified, VerifyError};

use super::UploadError;
use super::receive::{Buffer, Received};
use super::session::{Completing, Session};
use crate::budget::Reservation;
use crate::fault::Fault;
use crate::limits::MAX_REHASH;
use crate::registry::Registry;

impl Registry {
    /// Makes a blob of a session and what its closing request brought, if it has the digest `claimed`.
    pub(super) async fn close(
        &self,
        mut session: Session,
        claimed: Digest,
        received: Received,
    ) -> Result<(), UploadError> {
        let verified = match session.hashing.hasher().await?.verify(claimed) {
            Ok(verified) => Some(verified),
            Err(VerifyError::Mismatch { actual, .. }) => return self.abandon(&session, actual).await,
            Err(VerifyError::NotComputed(_)) if session.position > MAX_REHASH => {
                return Err(UploadError::Sha512NotAnnounced);
            }
            Err(VerifyError::NotComputed(_)) => None,
        };
        let Received { parts, buffer } = received;
        if session.progress.parts.is_empty() && parts.is_empty() {
            let verified = verified.ok_or_else(|| Fault::Inconsistent("SHA-512 was dropped within a part".into()))?;
            let key = self.single_object(&session, buffer).await?;
            return self.link(&session, verified, key).await;
        }
        let parts = self.with_final_part(&mut session, parts, buffer).await?;
        self.persist(&session, &parts).await?;
        match verified {
            Some(verified) => self.complete(&session, verified, parts).await,
            None => self.complete_unverified(&session, claimed, parts).await,
        }
    }

    /// The object of a blob without parts: the tail, if nothing came after it.
    async fn single_object(&self, session: &Session, rest: Option<Buffer>) -> Result<ObjectKey, Fault> {
        match (rest, &session.progress.tail) {
            (None, Some(Tail::Object { key, .. })) => Ok(key.clone()),
            (rest, _) => {
                let key = self.keys.blob(&self.metadata, &self.ports).await?;
                let mut memory = rest.map(|rest| rest.memory);
                let content = memory.as_mut().map(Reservation::freeze).unwrap_or_default();
                self.blobs.put(&key, content).await?;
                Ok(key)
            }
        }
    }

    /// The parts that are written and not committed, with the last one of the object.
    async fn with_final_part(
        &self,
        session: &mut Session,
        mut parts: Vec<Part>,
        rest: Option<Buffer>,
    ) -> Result<Vec<Part>, UploadError> {
        let mut memory = match (rest, &session.progress.tail) {
            (Some(rest), _) => rest.memory,
            // A tail that is still there has no parts after it.
            (None, Some(Tail::FinalPart(part))) if parts.is_empty() => {
                parts.push(part.clone());
                return Ok(parts);
            }
            (None, Some(Tail::Object { key, size })) if parts.is_empty() => {
                let mut memory = self.budget.reserve(*size).await;
                self.read_into(key, 0, *size, &mut memory.bytes).await?;
                memory
            }
            (None, _) => return Ok(parts),
        };
        let Multipart { key, id } = self.multipart(session).await?;
        let number = u32::try_from(session.progress.parts.len() + parts.len() + 1).unwrap_or(u32::MAX);
        let (blobs, part_size) = (&self.blobs, self.options.part_size);
        let part = blobs.put_part(&key, &id, number, part_size, memory.freeze()).await;
        parts.push(part.map_err(Fault::from)?);
        Ok(parts)
    }

    async fn complete(
        &self,
        session: &Session,
        verified: Verified<Digest>,
        parts: Vec<Part>,
    ) -> Result<(), UploadError> {
        let (upload, epoch, size) = (session.upload, session.epoch, session.position);
        let begin = BeginCompletion::new(upload, epoch, verified, size, parts.clone());
        self.propose(begin).await?.map_err(|refused| self.refused(upload, refused))?;
        self.complete_object(upload, &session.repository, &multipart_of(session)?, &all_parts(session, parts), size)
            .await?;
        self.finish(upload, epoch).await
    }

    /// Repeats a completion that somebody began.
    pub(super) async fn finish_completing(
        &self,
        upload: UploadId,
        repository: &RepositoryName,
        completing: &Completing,
    ) -> Result<(), UploadError> {
        self.complete_object(upload, repository, &completing.multipart, &completing.parts, completing.size).await?;
        self.finish(upload, completing.epoch).await
    }

    async fn finish(&self, upload: UploadId, epoch: Epoch) -> Result<(), UploadError> {
        let finish = FinishUpload { upload, epoch };
        self.propose(finish).await?.map(|_linked| ()).map_err(|refused| self.refused(upload, refused))
    }

    /// Completes an object whose digest is not known yet, and reads it once to learn it.
    async fn complete_unverified(
        &self,
        session: &Session,
        claimed: Digest,
        parts: Vec<Part>,
    ) -> Result<(), UploadError> {
        let (multipart, size) = (multipart_of(session)?, session.position);
        self.complete_object(session.upload, &session.repository, &multipart, &all_parts(session, parts.clone()), size)
            .await?;
        let mut hasher = Hasher::new();
        let mut bytes = self.blobs.get(&multipart.key, 0..size).await.map_err(Fault::from)?;
        while let Some(piece) = bytes.try_next().await.map_err(Fault::from)? {
            hasher.update(&piece);
        }
        match hasher.verify(claimed) {
            Ok(verified) => self.complete(session, verified, parts).await,
            Err(VerifyError::Mismatch { actual, .. }) => self.abandon(session, actual).await,
            Err(error @ VerifyError::NotComputed(_)) => Err(Fault::Inconsistent(error.to_string()).into()),
        }
    }

    async fn link(&self, session: &Session, verified: Verified<Digest>, key: ObjectKey) -> Result<(), UploadError> {
        let finishes = Some((session.upload, session.epoch));
        let link = LinkBlob::new(session.repository.clone(), verified, session.position, key, finishes);
        self.propose(link).await?.map(|_linked| ()).map_err(|refused| self.refused(session.upload, refused))
    }

    /// Ends a session whose content is not what the client said, and says so.
    async fn abandon(&self, session: &Session, actual: Digest) -> Result<(), UploadError> {
        let cancel = CancelUpload { upload: session.upload, repository: session.repository.clone() };
        match self.propose(cancel).await? {
            Ok(()) | Err(_) => Err(UploadError::DigestMismatch { actual }), // gone either way
        }
    }
}

fn multipart_of(session: &Session) -> Result<Multipart, Fault> {
    let none = || Fault::Inconsistent(format!("upload session {} has parts and no multipart upload", session.upload));
    session.progress.multipart.clone().ok_or_else(none)
}

fn all_parts(session: &Session, parts: Vec<Part>) -> Vec<Part> {
    session.progress.parts.iter().cloned().chain(parts).collect()
}

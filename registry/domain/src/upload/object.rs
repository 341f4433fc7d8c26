//! The object behind an upload: its multipart upload, its tail, and what is committed of them.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use roadstead_blobs::BlobError;
use roadstead_metadata::{BeginMultipart, CancelUpload, CheckpointUpload, Multipart, ShowParts, Tail};
use roadstead_oci::{HashState, ObjectKey, Part, RepositoryName, UploadId};
use tokio::time::interval;

use super::UploadError;
use super::session::Session;
use crate::fault::Fault;
use crate::limits::{COMPLETION_LOOK, COMPLETION_LOOKS};
use crate::registry::Registry;

impl Registry {
    /// The session's multipart upload. Begun when the first part is cut, and committed before anything is written to
    /// it, so that whoever finds the session later can abort it.
    pub(super) async fn multipart(&self, session: &mut Session) -> Result<Multipart, UploadError> {
        if let Some(multipart) = &session.progress.multipart {
            return Ok(multipart.clone());
        }
        let multipart = self.create_multipart().await?;
        let tail = session.progress.tail.clone();
        self.begin_multipart(session, multipart.clone(), Vec::new(), tail).await?;
        Ok(multipart)
    }

    async fn create_multipart(&self) -> Result<Multipart, Fault> {
        let key = self.keys.blob(&self.metadata, &self.ports).await?;
        let id = self.blobs.create_multipart(&key).await?;
        Ok(Multipart { key, id })
    }

    /// Commits which multipart upload the session writes to, and with which parts and tail it goes on there.
    async fn begin_multipart(
        &self,
        session: &mut Session,
        multipart: Multipart,
        parts: Vec<Part>,
        tail: Option<Tail>,
    ) -> Result<(), UploadError> {
        let Multipart { key, id } = multipart.clone();
        let (upload, epoch) = (session.upload, session.epoch);
        let begin = BeginMultipart { upload, epoch, key, multipart: id, parts: parts.clone(), tail: tail.clone() };
        self.propose(begin).await?.map_err(|refused| self.refused(upload, refused))?;
        session.progress.multipart = Some(multipart);
        session.progress.parts = parts;
        session.progress.tail = tail;
        Ok(())
    }

    /// Commits where the session stands, once the parts behind it are durable.
    pub(super) async fn commit_checkpoint(
        &self,
        session: &mut Session,
        offset: u64,
        parts: Vec<Part>,
        tail: Option<Tail>,
        hash: HashState,
    ) -> Result<(), UploadError> {
        let mut written = parts.clone();
        if let Some(Tail::FinalPart(part)) = &tail {
            written.push(part.clone());
        }
        self.persist(session, &written).await?;
        let (upload, epoch) = (session.upload, session.epoch);
        let checkpoint =
            CheckpointUpload { upload, epoch, offset, parts: parts.clone(), tail: tail.clone(), hash: hash.clone() };
        self.propose(checkpoint).await?.map_err(|refused| self.refused(upload, refused))?;
        session.progress.offset = offset;
        session.progress.parts.extend(parts);
        session.progress.tail = tail;
        session.progress.hash = hash;
        Ok(())
    }

    /// Shows mirrors full parts that this closing request has written, and that are durable; the session stays where it is.
    /// Without parts, it only does not expire.
    pub(super) async fn show_parts(&self, session: &Session, parts: Vec<Part>) -> Result<(), UploadError> {
        let show = ShowParts { upload: session.upload, epoch: session.epoch, parts };
        self.propose(show).await?.map_err(|refused| self.refused(session.upload, refused))
    }

    /// Makes parts durable that this request has written.
    pub(super) async fn persist(&self, session: &Session, parts: &[Part]) -> Result<(), Fault> {
        match &session.progress.multipart {
            Some(Multipart { key, id }) if !parts.is_empty() => Ok(self.blobs.persist(key, id, parts).await?),
            _ => Ok(()),
        }
    }

    /// Makes bytes that are no full part durable in an object of their own. Where nothing was cut before them, that
    /// object is the blob if the session closes here.
    pub(super) async fn put_tail(&self, after_parts: bool, bytes: Bytes) -> Result<Tail, Fault> {
        let key = if after_parts {
            self.keys.tail(&self.metadata, &self.ports).await?
        } else {
            self.keys.blob(&self.metadata, &self.ports).await?
        };
        let size = bytes.len() as u64;
        self.blobs.put(&key, bytes).await?;
        Ok(Tail::Object { key, size })
    }

    /// Puts the tail that an earlier request left into `buffer`, since more bytes follow it.
    pub(super) async fn reopen_tail(
        &self,
        session: &mut Session,
        tail: Tail,
        buffer: &mut BytesMut,
    ) -> Result<(), UploadError> {
        match tail {
            Tail::Object { key, size } => Ok(self.read_into(&key, 0, size, buffer).await?),
            Tail::FinalPart(part) => self.reopen_final_part(session, &part, buffer).await,
        }
    }

    /// The short last part of a multipart upload cannot be read, nor grow. So that upload is completed as it is; its
    /// full parts are taken over by the store into a new one, and only the short part is read. The client was told
    /// by `OCI-Chunk-Min-Length` how to avoid this.
    async fn reopen_final_part(
        &self,
        session: &mut Session,
        last: &Part,
        buffer: &mut BytesMut,
    ) -> Result<(), UploadError> {
        let former = self.multipart(session).await?;
        let (part_size, parts) = (self.options.part_size, &session.progress.parts);
        let full = parts.len() as u64 * part_size;
        let all: Vec<Part> = parts.iter().chain([last]).cloned().collect();
        self.complete_object(session.upload, &session.repository, &former, &all, full + last.size).await?;
        self.read_into(&former.key, full, last.size, buffer).await?;

        let tail = self.put_tail(true, Bytes::copy_from_slice(buffer)).await?;
        let multipart = self.create_multipart().await?;
        let count = last.number - 1;
        let parts = self
            .blobs
            .copy_parts(&former.key, &multipart.key, &multipart.id, part_size, count)
            .await
            .map_err(Fault::from)?;
        self.begin_multipart(session, multipart, parts, Some(tail)).await
    }

    /// Appends `size` bytes of an object to `buffer`.
    pub(super) async fn read_into(
        &self,
        key: &ObjectKey,
        from: u64,
        size: u64,
        buffer: &mut BytesMut,
    ) -> Result<(), Fault> {
        let mut bytes = self.blobs.get(key, from..from + size).await?;
        while let Some(piece) = bytes.try_next().await? {
            buffer.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// Completes the multipart upload of a session. May be repeated, by whoever takes over: some stores do not know an
    /// upload any more once it is complete, so then the object itself is looked at. Where there is neither, the session
    /// ends, since nobody can complete it any more.
    pub(super) async fn complete_object(
        &self,
        upload: UploadId,
        repository: &RepositoryName,
        multipart: &Multipart,
        parts: &[Part],
        size: u64,
    ) -> Result<(), Fault> {
        let Multipart { key, id } = multipart;
        let (looks, error) = match self.blobs.complete(key, id, parts).await {
            Ok(()) => return Ok(()),
            Err(error @ BlobError::MultipartUnknown) => (COMPLETION_LOOKS, error),
            // A server may say so of parts that an earlier completion has used up.
            Err(error @ BlobError::Broken(_)) => (1, error),
            Err(error) => return Err(error.into()),
        };
        let mut pause = interval(COMPLETION_LOOK);
        for _ in 0..looks {
            pause.tick().await;
            if self.blobs.head(key).await?.is_some_and(|object| object.size == size) {
                return Ok(());
            }
        }
        let cancel = CancelUpload { upload, repository: repository.clone() };
        let _ = self.propose(cancel).await?; // refused if it is over already
        Err(Fault::Inconsistent(format!("{key} of {size} bytes cannot be completed, and is not there: {error}")))
    }
}

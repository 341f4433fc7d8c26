//! Upload sessions: who owns them, how far they are, and which keys end with them.

use roadstead_oci::{Digest, ObjectKey, Part, UploadId};

use super::{Apply, Halt, require};
use crate::state::keyspace::{PARTS, SHOWN_PARTS, UPLOADS, UPLOADS_BY_AGE};
use crate::state::rows::{PartRow, Phase, Receiving, UploadRow};
use crate::{
    AdvanceUploadRefused, BeginCompletion, BeginMultipart, CancelUpload, CancelUploadRefused, CheckpointUpload,
    ClaimUpload, ClaimUploadRefused, Epoch, ExpireUploads, FinishUpload, FinishUploadRefused, Linked, Multipart,
    NeverRefused, OpenUpload, OpenUploadRefused, QueryError, ShowParts, Tail,
};

impl Apply<'_> {
    pub(super) fn open_upload(&mut self, operation: OpenUpload) -> Result<(), Halt<OpenUploadRefused>> {
        let OpenUpload { upload, repository, owner, sha512, hash } = operation;
        require(!self.rows.has(UPLOADS, &upload)?, OpenUploadRefused::UploadExists)?;
        let phase = Phase::Receiving(Receiving { offset: 0, hash, multipart: None, tail: None });
        let session = UploadRow { repository, owner, epoch: Epoch(1), sha512, touched: self.now(), phase };
        self.head.uploads_open += 1;
        Ok(self.put_session(upload, session)?)
    }

    pub(super) fn claim_upload(&mut self, operation: &ClaimUpload) -> Result<Epoch, Halt<ClaimUploadRefused>> {
        let session = self.session(operation.upload)?;
        let mut session = session.ok_or(Halt::Refused(ClaimUploadRefused::UploadUnknown))?;
        if let Phase::Finished { digest, size, .. } = session.phase {
            return Err(Halt::Refused(ClaimUploadRefused::Finished { digest, size }));
        }
        session.owner = operation.owner;
        session.epoch.0 += 1;
        let epoch = session.epoch;
        self.put_session(operation.upload, session)?;
        Ok(epoch)
    }

    pub(super) fn begin_multipart(&mut self, operation: BeginMultipart) -> Result<(), Halt<AdvanceUploadRefused>> {
        let BeginMultipart { upload, epoch, key, multipart: id, parts, tail } = operation;
        let (session, mut receiving) = self.receiving(upload, epoch)?;
        let multipart = Multipart { key, id };
        if receiving.multipart.as_ref() == Some(&multipart) {
            return Ok(());
        }
        // Each key in one place only, so that it can be told what to do with it when that ends.
        require(self.is_reserved(&multipart.key)?, AdvanceUploadRefused::KeyNotReserved)?;
        self.require_tail(tail.as_ref(), &receiving)?;
        let shared = matches!(&tail, Some(Tail::Object { key, .. }) if *key == multipart.key);
        require(!shared, AdvanceUploadRefused::KeyNotReserved)?;

        self.hide_parts(upload, 0)?;
        self.hold(&multipart.key, upload)?;
        if let Some(former) = receiving.multipart.replace(multipart) {
            self.condemn(&former.key, Some(former.id))?;
            self.drop_parts(upload)?;
            self.replace_tail(&mut receiving, tail, upload)?;
        } else if tail.is_some() {
            self.replace_tail(&mut receiving, tail, upload)?;
        }
        self.put_parts(upload, parts)?;
        Ok(self.put_session(upload, UploadRow { phase: Phase::Receiving(receiving), ..session })?)
    }

    pub(super) fn checkpoint_upload(&mut self, operation: CheckpointUpload) -> Result<(), Halt<AdvanceUploadRefused>> {
        let CheckpointUpload { upload, epoch, offset, parts, tail, hash } = operation;
        let (session, mut receiving) = self.receiving(upload, epoch)?;
        self.require_tail(tail.as_ref(), &receiving)?;
        require(parts.is_empty() || receiving.multipart.is_some(), AdvanceUploadRefused::NoMultipart)?;

        self.hide_parts(upload, 0)?;
        if offset < receiving.offset {
            self.drop_parts_beyond(upload, offset)?;
        }
        self.replace_tail(&mut receiving, tail, upload)?;
        self.put_parts(upload, parts)?;
        let phase = Phase::Receiving(Receiving { offset, hash, ..receiving });
        Ok(self.put_session(upload, UploadRow { phase, ..session })?)
    }

    pub(super) fn show_parts(&mut self, operation: ShowParts) -> Result<(), Halt<AdvanceUploadRefused>> {
        let ShowParts { upload, epoch, parts } = operation;
        let (session, receiving) = self.receiving(upload, epoch)?;
        require(parts.is_empty() || receiving.multipart.is_some(), AdvanceUploadRefused::NoMultipart)?;
        if let Some(last) = parts.last() {
            self.hide_parts(upload, last.number)?;
        }
        for Part { number, size, etag } in parts {
            self.rows.put(SHOWN_PARTS, (&upload, &number), &PartRow { size, etag })?;
        }
        Ok(self.put_session(upload, session)?)
    }

    pub(super) fn begin_completion(&mut self, operation: BeginCompletion) -> Result<(), Halt<AdvanceUploadRefused>> {
        let (upload, digest, size) = (operation.upload, operation.digest(), operation.size);
        let session = self.owned(upload, operation.epoch)?;
        let receiving = match &session.phase {
            Phase::Receiving(receiving) => receiving.clone(),
            Phase::Completing { digest: begun, .. } if *begun == digest => return Ok(()),
            Phase::Completing { .. } | Phase::Finished { .. } => {
                return Err(Halt::Refused(AdvanceUploadRefused::NotReceiving));
            }
        };
        let multipart = receiving.multipart.clone().ok_or(Halt::Refused(AdvanceUploadRefused::NoMultipart))?;
        if let Some(key) = receiving.tail_key() {
            self.condemn(key, None)?; // its bytes are in the final part
        }
        self.hide_parts(upload, 0)?;
        self.put_parts(upload, operation.parts)?;
        let phase = Phase::Completing { digest, size, multipart };
        Ok(self.put_session(upload, UploadRow { phase, ..session })?)
    }

    pub(super) fn finish_upload(&mut self, operation: &FinishUpload) -> Result<Linked, Halt<FinishUploadRefused>> {
        let upload = operation.upload;
        let session = self.session(upload)?.ok_or(Halt::Refused(FinishUploadRefused::UploadUnknown))?;
        let (digest, size, multipart) = match &session.phase {
            Phase::Finished { deduplicated, .. } => return Ok(Linked { deduplicated: *deduplicated }),
            Phase::Receiving(_) => return Err(Halt::Refused(FinishUploadRefused::NotCompleting)),
            Phase::Completing { digest, size, multipart } => (*digest, *size, multipart.clone()),
        };
        require(session.epoch == operation.epoch, FinishUploadRefused::Fenced)?;
        let linked = self.attach(&session.repository, digest, size, &multipart.key, Some(multipart.id))?;
        self.close(upload, session, digest, size, linked)?;
        Ok(linked)
    }

    pub(super) fn cancel_upload(&mut self, operation: &CancelUpload) -> Result<(), Halt<CancelUploadRefused>> {
        let session = self.session(operation.upload)?.filter(|session| {
            session.repository == operation.repository && !matches!(session.phase, Phase::Finished { .. })
        });
        let session = session.ok_or(Halt::Refused(CancelUploadRefused::UploadUnknown))?;
        Ok(self.end(operation.upload, &session)?)
    }

    pub(super) fn expire_uploads(&mut self, operation: &ExpireUploads) -> Result<u32, Halt<NeverRefused>> {
        let untouched = UPLOADS_BY_AGE.all().before(UPLOADS_BY_AGE.start_at(&operation.before));
        let limit = operation.limit.min(ExpireUploads::MAX_LIMIT) as usize;
        let mut ended = 0;
        for (_, upload) in self.rows.keys(UPLOADS_BY_AGE, untouched, limit)? {
            if let Some(session) = self.session(upload)? {
                self.end(upload, &session)?;
                ended += 1;
            }
        }
        Ok(ended)
    }

    pub(super) fn session(&self, upload: UploadId) -> Result<Option<UploadRow>, QueryError> {
        self.rows.get(UPLOADS, &upload)
    }

    /// Turns a session into the blob that it became; it stays known, so that a repeated close is answered alike.
    pub(super) fn close(
        &mut self,
        upload: UploadId,
        session: UploadRow,
        digest: Digest,
        size: u64,
        linked: Linked,
    ) -> Result<(), QueryError> {
        self.drop_parts(upload)?;
        self.head.uploads_open -= 1;
        let phase = Phase::Finished { digest, size, deduplicated: linked.deduplicated };
        self.put_session(upload, UploadRow { phase, ..session })
    }

    /// Condemns every key that a session holds but one.
    pub(super) fn condemn_held(&mut self, receiving: &Receiving, keep: Option<&ObjectKey>) -> Result<(), QueryError> {
        if let Some(Multipart { key, id }) = &receiving.multipart
            && Some(key) != keep
        {
            self.condemn(key, Some(id.clone()))?;
        }
        if let Some(key) = receiving.tail_key()
            && Some(key) != keep
        {
            self.condemn(key, None)?;
        }
        Ok(())
    }

    /// Removes a session and condemns what it wrote.
    fn end(&mut self, upload: UploadId, session: &UploadRow) -> Result<(), QueryError> {
        match &session.phase {
            Phase::Receiving(receiving) => self.condemn_held(receiving, None)?,
            Phase::Completing { multipart, .. } => self.condemn(&multipart.key, Some(multipart.id.clone()))?,
            Phase::Finished { .. } => {}
        }
        if !matches!(session.phase, Phase::Finished { .. }) {
            self.head.uploads_open -= 1;
        }
        self.drop_parts(upload)?;
        self.rows.remove(UPLOADS_BY_AGE, (&session.touched, &upload))?;
        self.rows.remove(UPLOADS, &upload)
    }

    fn owned(&self, upload: UploadId, epoch: Epoch) -> Result<UploadRow, Halt<AdvanceUploadRefused>> {
        let session = self.session(upload)?.ok_or(Halt::Refused(AdvanceUploadRefused::UploadUnknown))?;
        require(session.epoch == epoch, AdvanceUploadRefused::Fenced)?;
        Ok(session)
    }

    fn receiving(&self, upload: UploadId, epoch: Epoch) -> Result<(UploadRow, Receiving), Halt<AdvanceUploadRefused>> {
        let session = self.owned(upload, epoch)?;
        match session.phase.clone() {
            Phase::Receiving(receiving) => Ok((session, receiving)),
            Phase::Completing { .. } | Phase::Finished { .. } => Err(Halt::Refused(AdvanceUploadRefused::NotReceiving)),
        }
    }

    /// Writes a session that has just changed.
    fn put_session(&mut self, upload: UploadId, mut session: UploadRow) -> Result<(), QueryError> {
        self.rows.remove(UPLOADS_BY_AGE, (&session.touched, &upload))?;
        session.touched = self.now();
        self.rows.put(UPLOADS_BY_AGE, (&session.touched, &upload), &())?;
        self.rows.put(UPLOADS, &upload, &session)
    }

    fn require_tail(&self, tail: Option<&Tail>, receiving: &Receiving) -> Result<(), Halt<AdvanceUploadRefused>> {
        match tail {
            Some(Tail::Object { key, .. }) if receiving.tail_key() != Some(key) => {
                require(self.is_reserved(key)?, AdvanceUploadRefused::KeyNotReserved)
            }
            Some(Tail::Object { .. } | Tail::FinalPart(_)) | None => Ok(()),
        }
    }

    fn replace_tail(
        &mut self,
        receiving: &mut Receiving,
        tail: Option<Tail>,
        upload: UploadId,
    ) -> Result<(), QueryError> {
        if let Some(former) = receiving.tail_key() {
            self.condemn(former, None)?;
        }
        receiving.tail = tail;
        if let Some(key) = receiving.tail_key() {
            self.hold(key, upload)?; // also where it is the former one
        }
        Ok(())
    }

    fn put_parts(&mut self, upload: UploadId, parts: Vec<Part>) -> Result<(), QueryError> {
        parts.into_iter().try_for_each(|Part { number, size, etag }| {
            self.rows.put(PARTS, (&upload, &number), &PartRow { size, etag })
        })
    }

    /// Parts that were shown to mirrors, behind number `after`, are not any more.
    fn hide_parts(&mut self, upload: UploadId, after: u32) -> Result<(), QueryError> {
        let span = SHOWN_PARTS.within::<UploadId>(&upload).after(SHOWN_PARTS.key((&upload, &after)));
        let parts = self.rows.keys(SHOWN_PARTS, span, usize::MAX)?;
        parts.iter().try_for_each(|(upload, number)| self.rows.remove(SHOWN_PARTS, (upload, number)))
    }

    /// Drops all parts of a session, and what was shown of it.
    fn drop_parts(&mut self, upload: UploadId) -> Result<(), QueryError> {
        self.hide_parts(upload, 0)?;
        let parts = self.rows.keys(PARTS, PARTS.within::<UploadId>(&upload), usize::MAX)?;
        parts.iter().try_for_each(|(upload, number)| self.rows.remove(PARTS, (upload, number)))
    }

    /// Drops the parts that reach beyond an offset: a session that went back has not got them any more.
    fn drop_parts_beyond(&mut self, upload: UploadId, offset: u64) -> Result<(), QueryError> {
        let parts: Vec<_> = self.rows.scan(PARTS, PARTS.within::<UploadId>(&upload))?.collect::<Result<_, _>>()?;
        let mut end = 0;
        for ((_, number), part) in parts {
            end += part.size;
            if end > offset {
                self.rows.remove(PARTS, (&upload, &number))?;
            }
        }
        Ok(())
    }
}

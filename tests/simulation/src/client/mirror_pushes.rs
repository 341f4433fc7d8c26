//! Pushing at a mirror: blobs stay beside the client, home decides what becomes of the manifest.

use std::sync::Arc;

use futures_util::FutureExt;
use roadstead_domain::{Content, Precondition};
use roadstead_geo::{Mirror, WriteError, WrittenManifest};
use roadstead_oci::Reference;

use super::images::Push;
use super::{ATTEMPTS, Asked, Client};
use crate::history::{Condition, Held, TAGS};
use crate::world::replica::Serving;

impl Client {
    /// Pushes an image of its own under one tag, which others push to at home and at other mirrors at the same time.
    pub(crate) async fn push_at_mirror(&mut self, repository: usize) {
        let (value, manifest) = self.universe.new_manifest();
        for blob in self.universe.blobs_of(value) {
            if !self.push_blob_at_mirror((repository, blob)).await {
                return;
            }
        }
        let condition = match self.random.below(6) {
            0 => Condition::Absent,
            1 => Condition::Exists,
            _ => Condition::Any,
        };
        let push = Push { repository, value, manifest, tags: vec![self.random.below(TAGS)], condition };
        for _ in 0..ATTEMPTS {
            let Some((serving, mirror)) = self.any_mirror().await else { continue };
            if self.try_to_put_at_mirror(&push, &serving, &mirror).await {
                return;
            }
            self.back_off().await;
        }
    }

    async fn push_blob_at_mirror(&mut self, held: Held) -> bool {
        let (name, content) = (self.repository(held.0).clone(), self.universe.blobs[held.1].clone());
        let digest = self.universe.digest(held.1);
        for _ in 0..ATTEMPTS {
            let Some((serving, mirror)) = self.any_mirror().await else { continue };
            let (body, _sending) = self.body(&content);
            let landed = async {
                mirror.may_write().await.ok()?;
                if mirror.blob_size(&name, &digest).await.is_ok() {
                    return Some(());
                }
                let content = Content { range: None, length: Some(content.len() as u64), body };
                serving.registry.upload_blob(&name, digest, content).await.ok()?;
                mirror.land(&name, digest).await.ok()?.then_some(())
            };
            let asked = self.ask(&format!("POST of blob {} to a mirror", held.1), &serving, None, landed.boxed()).await;
            if matches!(asked, Asked::Answered(Some(()))) {
                return true;
            }
            self.back_off().await;
        }
        false
    }

    /// Whether there is an answer that needs no further try.
    async fn try_to_put_at_mirror(&mut self, push: &Push, serving: &Serving, mirror: &Arc<Mirror>) -> bool {
        let Push { repository, value, manifest, tags, condition } = push;
        let written = WrittenManifest {
            repository: self.repository(*repository).clone(),
            reference: Reference::Tag(self.universe.tag(tags[0]).clone()),
            tags: Vec::new(),
            precondition: match condition {
                Condition::Any | Condition::Is(_) => Precondition::None,
                Condition::Absent => Precondition::Absent,
                Condition::Exists => Precondition::Exists,
            },
            declared: Some(manifest.media_type().clone()),
            bytes: manifest.bytes().clone(),
        };
        let begins = self.history.moment();
        let blobs = manifest.blobs();
        let put = mirror.put_manifest(written, &blobs);
        let (ended, done) =
            match self.ask(&format!("PUT of manifest {value} to a mirror"), serving, None, put.boxed()).await {
                Asked::Answered(Ok(_) | Err(WriteError::NotShownYet)) => (true, Some(true)),
                Asked::Answered(Err(WriteError::PreconditionFailed)) => (true, Some(false)),
                // Nothing was written.
                Asked::Answered(Err(WriteError::HomeAway(_))) | Asked::Refused => return false,
                // Hours have passed since they were pushed.
                Asked::Answered(Err(WriteError::BlobsUnknown(_))) => return true,
                Asked::Answered(Err(WriteError::Unclear(_) | WriteError::Fault(_))) | Asked::Lost => (false, None),
                Asked::Answered(Err(
                    error
                    @ (WriteError::ReadOnly | WriteError::NoRemote | WriteError::Unknown | WriteError::Invalid(_)),
                )) => {
                    self.cluster.violated(format!("P3: manifest {value} was refused at a mirror: {error}"));
                    return true;
                }
            };
        self.note_put(push, begins, ended, done);
        if done == Some(true) {
            self.count_at_mirror(|tally| &mut tally.pushed);
        }
        ended
    }
}

//! Pushing images: blobs that are asked for, mounted or uploaded, then a manifest with its tags; and deleting them.

use std::time::Duration;

use futures_util::FutureExt;
use roadstead_domain::{BlobReadError, Identity, ManifestPutError, ManifestReadError, Precondition};
use roadstead_metadata::Metadata;
use roadstead_oci::{Digest, Manifest, Reference, Tag};

use super::{ATTEMPTS, Asked, Client, Effect};
use crate::history::{Condition, Held, Stored, TAGS, TagOperation, Value};
use crate::universe::SCRATCH;

/// A manifest on its way.
pub(super) struct Push {
    pub(super) repository: usize,
    pub(super) value: Value,
    pub(super) manifest: Manifest,
    pub(super) tags: Vec<usize>,
    pub(super) condition: Condition,
}

impl Client {
    /// As every builder does it: asks for each blob, brings what is not there, then names them.
    pub(crate) async fn push_image(&mut self, repository: usize) {
        let (value, manifest) = self.universe.new_manifest();
        for blob in self.universe.blobs_of(value) {
            let held = (repository, blob);
            let is_there = self.is_there(held).await || (self.random.chance(2) && self.mount(held).await);
            if !is_there && !self.push_blob(held).await {
                return;
            }
        }
        self.put_manifest(repository, value, manifest).await;
    }

    /// Names blobs that may be there without asking for them.
    pub(crate) async fn retag(&mut self, repository: usize) {
        let (value, manifest) = self.universe.new_manifest();
        self.put_manifest(repository, value, manifest).await;
    }

    /// Whether a blob is said to be there.
    async fn is_there(&mut self, held: Held) -> bool {
        let Some(serving) = self.somebody().await else { return false };
        let (name, digest) = (self.repository(held.0).clone(), self.universe.digest(held.1));
        let time = self.cluster.time.passed();
        // A look-up, and a touch.
        let within = Some(Metadata::READ_DEADLINE + Metadata::WRITE_DEADLINE);
        let asked = serving.registry.promise_blob(&name, &digest);
        match self.ask(&format!("HEAD of blob {}", held.1), &serving, within, asked.boxed()).await {
            Asked::Answered(Ok(_found)) => {
                self.told(held);
                self.history.count(|tally| &mut tally.promised);
                true
            }
            Asked::Answered(Err(BlobReadError::Fault(fault))) => {
                self.failed("a HEAD", &fault, time);
                false
            }
            Asked::Answered(Err(BlobReadError::Unknown)) | Asked::Refused | Asked::Lost => false,
        }
    }

    async fn mount(&mut self, held: Held) -> bool {
        let Some(serving) = self.somebody().await else { return false };
        let (name, digest) = (self.repository(held.0).clone(), self.universe.digest(held.1));
        let other = (held.0 + 1 + self.random.below(SCRATCH)) % (SCRATCH + 1);
        let other = self.repository(other).clone();
        let from = self.random.chance(2).then_some(&other);
        let time = self.cluster.time.passed();
        let within = Some(Metadata::READ_DEADLINE + Metadata::WRITE_DEADLINE);
        let mounted = serving.registry.mount_blob(&Identity::Anonymous, &name, digest, from);
        match self.ask(&format!("mount of blob {}", held.1), &serving, within, mounted.boxed()).await {
            Asked::Answered(Ok(true)) => {
                self.told(held);
                self.history.count(|tally| &mut tally.mounted);
                true
            }
            Asked::Answered(Err(fault)) => {
                self.failed("a mount", &fault, time);
                false
            }
            Asked::Answered(Ok(false)) | Asked::Refused | Asked::Lost => false,
        }
    }

    /// Pushes a manifest under one tag, under several, or under none.
    async fn put_manifest(&mut self, repository: usize, value: Value, manifest: Manifest) {
        let mut tags: Vec<usize> = (0..TAGS).filter(|_| self.random.chance(2)).collect();
        if tags.is_empty() || self.random.chance(2) {
            tags = vec![self.random.below(TAGS)];
        }
        let condition = match self.random.below(8) {
            0 => Condition::Absent,
            1 | 2 => {
                let Some(current) = self.tag(repository, tags[0]).await else { return };
                tags.truncate(1);
                Condition::Is(current)
            }
            3 => Condition::Exists,
            _ => Condition::Any,
        };
        let push = Push { repository, value, manifest, tags, condition };
        for _ in 0..ATTEMPTS {
            if self.try_to_put(&push).await {
                return;
            }
            self.back_off().await;
        }
        self.history.count(|tally| &mut tally.gave_up);
    }

    /// Whether there is an answer that needs no further try.
    async fn try_to_put(&mut self, push: &Push) -> bool {
        let Push { repository, value, manifest, tags, condition } = push;
        let Some(serving) = self.somebody().await else { return false };
        let name = self.repository(*repository).clone();
        let names: Vec<Tag> = tags.iter().map(|tag| self.universe.tag(*tag).clone()).collect();
        let reference = match &names[..] {
            [tag] => Reference::Tag(tag.clone()),
            _ => Reference::Digest(self.universe.manifest_digest(*value)),
        };
        let precondition = match condition {
            Condition::Any => Precondition::None,
            Condition::Absent => Precondition::Absent,
            Condition::Exists => Precondition::Exists,
            Condition::Is(value) => Precondition::Match(vec![self.universe.manifest_digest(*value)]),
        };
        let promised = self.promised(*repository, *value);
        let (begins, time) = (self.history.moment(), self.cluster.time.passed());
        // One that is too large for the log reserves a key and waits for the bucket.
        let is_inline = manifest.bytes().len() <= roadstead_metadata::PutManifest::MAX_INLINE;
        let within = is_inline.then_some(Metadata::WRITE_DEADLINE);
        let put = serving.registry.put_manifest(&name, &reference, &names, precondition, manifest);
        let (ended, done) = match self.ask(&format!("PUT of manifest {value}"), &serving, within, put.boxed()).await {
            Asked::Answered(Ok(_stored)) => (true, Some(true)),
            Asked::Answered(Err(ManifestPutError::PreconditionFailed)) => (true, Some(false)),
            Asked::Answered(Err(ManifestPutError::BlobsUnknown(missing))) => {
                self.check_promises(&promised, *value, &missing);
                return true;
            }
            Asked::Answered(Err(ManifestPutError::DigestMismatch { actual })) => {
                self.cluster.violated(format!("P1: manifest {value} was refused for its digest {actual}"));
                return true;
            }
            Asked::Answered(Err(ManifestPutError::Invalid(error))) => {
                self.cluster.violated(format!("manifest {value} was refused for what it is: {error}"));
                return true;
            }
            Asked::Answered(Err(ManifestPutError::Fault(fault))) => {
                match self.failed("a PUT of a manifest", &fault, time) {
                    Effect::None => return false,
                    Effect::Unknown => (false, None),
                }
            }
            Asked::Answered(Err(ManifestPutError::NoRemote)) => {
                self.cluster.violated(format!("manifest {value} waited for a mirror, and there is none"));
                return true;
            }
            Asked::Refused => return false,
            Asked::Lost => (false, None),
        };
        self.note_put(push, begins, ended, done);
        ended
    }

    /// Takes down a push that began at `begins`, and what its answer says of it.
    pub(super) fn note_put(&self, push: &Push, begins: u64, ended: bool, done: Option<bool>) {
        let Push { repository, value, tags, condition, .. } = push;
        let operation = TagOperation::Put { tags: tags.clone(), value: *value, condition: *condition, done };
        self.history.tag_operation(*repository, begins, ended, operation);
        match done {
            Some(true) => {
                let stored = Stored { repository: *repository, blobs: self.universe.blobs_of(*value) };
                self.history.with(|records| {
                    if !records.uncertain.contains(value) {
                        records.stored.insert(*value, stored);
                    }
                });
                self.history.count(|tally| &mut tally.manifests_stored);
            }
            Some(false) => self.history.count(|tally| &mut tally.conditions_failed),
            None => {}
        }
    }

    /// Which of a manifest's blobs have been said to be there, and until when.
    fn promised(&self, repository: usize, value: Value) -> Vec<(usize, Duration)> {
        let blobs = self.universe.blobs_of(value).into_iter();
        self.history.with(|records| {
            blobs.filter_map(|blob| Some((blob, *records.promised.get(&(repository, blob))?))).collect()
        })
    }

    /// P7: what was said to be there before a manifest named it is there.
    fn check_promises(&self, promised: &[(usize, Duration)], value: Value, missing: &[Digest]) {
        let now = self.cluster.time.passed();
        for (blob, until) in promised {
            if *until >= now && missing.contains(&self.universe.digest(*blob)) {
                self.cluster.violated(format!(
                    "P7: manifest {value} was refused for blob {blob}, which is promised until {until:?}, at {now:?}"
                ));
            }
        }
    }

    /// Takes a blob out of a repository, whose object others may have.
    pub(crate) async fn delete_blob(&mut self, held: Held) {
        let Some(serving) = self.somebody().await else { return };
        let (name, digest) = (self.repository(held.0).clone(), self.universe.digest(held.1));
        let time = self.cluster.time.passed();
        let within = Some(Metadata::WRITE_DEADLINE + Metadata::SETTLE_DEADLINE);
        let deleted = serving.registry.delete_blob(&name, digest);
        match self.ask(&format!("DELETE of blob {}", held.1), &serving, within, deleted.boxed()).await {
            Asked::Answered(Ok(())) => self.history.count(|tally| &mut tally.deleted),
            Asked::Answered(Err(BlobReadError::Fault(fault))) => drop(self.failed("a DELETE", &fault, time)),
            Asked::Answered(Err(BlobReadError::Unknown)) | Asked::Refused | Asked::Lost => {}
        }
    }

    pub(crate) async fn delete_tag(&mut self, repository: usize) {
        let tag = self.random.below(TAGS);
        let Some(serving) = self.somebody().await else { return };
        let (name, reference) = (self.repository(repository).clone(), Reference::Tag(self.universe.tag(tag).clone()));
        let (begins, time) = (self.history.moment(), self.cluster.time.passed());
        let deleted = serving.registry.delete_manifest(&name, &reference);
        let asked =
            self.ask(&format!("DELETE of tag {tag}"), &serving, Some(Metadata::WRITE_DEADLINE), deleted.boxed()).await;
        let existed = match asked {
            Asked::Answered(Ok(())) => Some(true),
            Asked::Answered(Err(ManifestReadError::Unknown)) => Some(false),
            Asked::Answered(Err(ManifestReadError::Fault(fault))) => match self.failed("a DELETE", &fault, time) {
                Effect::None => return,
                Effect::Unknown => None,
            },
            Asked::Refused => return,
            Asked::Lost => None,
        };
        let operation = TagOperation::DeleteTag { tag, existed };
        self.history.tag_operation(repository, begins, existed.is_some(), operation);
        self.history.count(|tally| &mut tally.deleted);
    }

    pub(crate) async fn delete_manifest(&mut self, repository: usize) {
        let Some(serving) = self.somebody().await else { return };
        let acknowledged: Vec<Value> = self.history.with(|records| {
            let within = records.stored.iter().filter(|(_, stored)| stored.repository == repository);
            within.map(|(value, _)| *value).collect()
        });
        if acknowledged.is_empty() {
            return;
        }
        let value = *self.random.pick(&acknowledged);
        self.history.with(|records| {
            records.stored.remove(&value);
            records.uncertain.insert(value);
        });
        let name = self.repository(repository).clone();
        let reference = Reference::Digest(self.universe.manifest_digest(value));
        let (begins, time) = (self.history.moment(), self.cluster.time.passed());
        let within = Some(Metadata::WRITE_DEADLINE + Metadata::SETTLE_DEADLINE);
        let deleted = serving.registry.delete_manifest(&name, &reference);
        let ended = match self.ask(&format!("DELETE of manifest {value}"), &serving, within, deleted.boxed()).await {
            Asked::Answered(Ok(())) => true,
            Asked::Answered(Err(ManifestReadError::Unknown)) => {
                self.cluster.violated(format!("P2: manifest {value} was acknowledged, and cannot be deleted: 404"));
                return;
            }
            Asked::Answered(Err(ManifestReadError::Fault(fault))) => match self.failed("a DELETE", &fault, time) {
                Effect::None => return,
                Effect::Unknown => false,
            },
            Asked::Refused => return,
            Asked::Lost => false,
        };
        self.history.tag_operation(repository, begins, ended, TagOperation::DeleteManifest { value });
        self.history.count(|tally| &mut tally.deleted);
    }
}

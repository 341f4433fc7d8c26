//! Reading tags, manifests and blobs.

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use roadstead_domain::{BlobReadError, BlobSource, Fault, ManifestReadError};
use roadstead_metadata::Metadata;
use roadstead_oci::Reference;

use super::{Asked, Client};
use crate::history::{StaleRead, TAGS, TagOperation, Value};
use crate::world::replica::Serving;

impl Client {
    /// Asks which manifest a tag names; what is answered goes into the history.
    pub(crate) async fn read_tag(&mut self, repository: usize) {
        let tag = self.random.below(TAGS);
        self.tag(repository, tag).await;
    }

    /// The manifest that a tag names now, if that was answered.
    pub(crate) async fn tag(&mut self, repository: usize, tag: usize) -> Option<Value> {
        let serving = self.somebody().await?;
        let (name, reference) = (self.repository(repository).clone(), Reference::Tag(self.universe.tag(tag).clone()));
        let (begins, time) = (self.history.moment(), self.cluster.time.passed());
        let read = async {
            let found = serving.registry.find_manifest(&name, &reference).await?;
            let bytes = serving.registry.read_manifest(&found).await;
            Ok::<_, ManifestReadError>((found, bytes))
        };
        let within = Some(Metadata::READ_DEADLINE);
        let found = match self.ask(&format!("tag {tag}"), &serving, within, read.boxed()).await {
            Asked::Answered(Ok((found, bytes))) => {
                let Some(value) = self.universe.value_of(&found.digest) else {
                    self.cluster
                        .violated(format!("P3: tag {tag} of {name} names {}, which nobody pushed", found.digest));
                    return None;
                };
                if bytes.is_ok_and(|bytes| bytes != self.universe.manifest(value).bytes()) {
                    self.cluster.violated(format!("P1: manifest {value} has other bytes at {}", serving.process.name));
                }
                if let Some(declared) = found.stale {
                    let stale = StaleRead { repository, value, declared };
                    self.history.with(|records| records.stale.push(stale));
                    self.history.count(|tally| &mut tally.stale_reads);
                    return Some(value);
                }
                Some(value)
            }
            Asked::Answered(Err(ManifestReadError::Unknown)) => None,
            Asked::Answered(Err(ManifestReadError::Fault(fault))) => {
                self.failed("a pull by tag", &fault, time);
                return None;
            }
            Asked::Refused | Asked::Lost => return None,
        };
        self.history.tag_operation(repository, begins, true, TagOperation::Get { tag, found });
        self.history.count(|tally| &mut tally.tags_read);
        found
    }

    /// Pulls an image that was acknowledged, by digest.
    pub(crate) async fn pull(&mut self, repository: usize) {
        let acknowledged: Vec<Value> = self.history.with(|records| {
            let within = records.stored.iter().filter(|(_, stored)| stored.repository == repository);
            within.map(|(value, _)| *value).collect()
        });
        let (false, Some(serving)) = (acknowledged.is_empty(), self.somebody().await) else { return };
        let value = *self.random.pick(&acknowledged);
        self.pull_from(&serving, repository, value).await;
    }

    /// Whether a manifest that was acknowledged could be pulled with all its blobs.
    pub(crate) async fn pull_from(&mut self, serving: &Serving, repository: usize, value: Value) -> bool {
        let name = self.repository(repository).clone();
        let reference = Reference::Digest(self.universe.manifest_digest(value));
        let time = self.cluster.time.passed();
        let found = serving.registry.find_manifest(&name, &reference);
        match self.ask(&format!("manifest {value}"), serving, Some(Metadata::READ_DEADLINE), found.boxed()).await {
            Asked::Answered(Ok(_found)) => {}
            Asked::Answered(Err(ManifestReadError::Unknown)) => {
                if self.is_acknowledged(value) {
                    let at = &serving.process.name;
                    self.cluster.violated(format!("P2: manifest {value} was acknowledged, and {at} says 404"));
                }
                return false;
            }
            Asked::Answered(Err(ManifestReadError::Fault(fault))) => {
                self.failed("a pull by digest", &fault, time);
                return false;
            }
            Asked::Refused | Asked::Lost => return false,
        }
        for blob in self.universe.blobs_of(value) {
            if !self.pull_blob(serving, repository, blob, value).await {
                return false;
            }
        }
        true
    }

    async fn pull_blob(&mut self, serving: &Serving, repository: usize, blob: usize, value: Value) -> bool {
        let (name, digest) = (self.repository(repository).clone(), self.universe.digest(blob));
        let time = self.cluster.time.passed();
        let read = async {
            let found = serving.registry.find_blob(&name, &digest).await?;
            match serving.registry.open_blob(&found, 0..found.size()).await? {
                BlobSource::Stream(bytes) => Ok(bytes.try_collect::<Vec<Bytes>>().await.map_err(Fault::from)?.concat()),
                BlobSource::Redirect(url) => Err(Fault::Inconsistent(format!("a redirect to {url}")).into()),
            }
        };
        match self.ask(&format!("blob {blob}"), serving, None, read.boxed()).await {
            Asked::Answered(Ok(content)) => {
                self.history.count(|tally| &mut tally.pulled);
                if content != self.universe.blobs[blob] {
                    self.cluster.violated(format!("P1: blob {blob} has other bytes at {}", serving.process.name));
                }
                true
            }
            Asked::Answered(Err(BlobReadError::Unknown)) => {
                if self.is_acknowledged(value) {
                    let at = &serving.process.name;
                    self.cluster.violated(format!("P2: blob {blob} of manifest {value} is not known at {at}"));
                }
                false
            }
            Asked::Answered(Err(BlobReadError::Fault(fault))) => {
                self.failed("a pull of a blob", &fault, time);
                false
            }
            Asked::Refused | Asked::Lost => false,
        }
    }

    pub(crate) fn is_acknowledged(&self, value: Value) -> bool {
        self.history.with(|records| records.stored.contains_key(&value))
    }
}

//! Pulling at a mirror.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use roadstead_domain::{BlobReadError, Fault};
use roadstead_geo::{Mirror, PullError, PulledBlob};
use roadstead_oci::{Digest, Reference};
use tokio_util::sync::CancellationToken;

use super::{ATTEMPTS, Asked, Client};
use crate::history::{MirrorTally, SeenAtMirror, TAGS, Value};
use crate::universe::SCRATCH;
use crate::world::network::pause;
use crate::world::replica::Serving;

/// A tag's answer at a mirror takes at most: twice what a read takes there, and what home may take.
const TAG_ANSWER: Duration = Duration::from_secs(25);

/// Why a blob was not had.
enum Missed {
    Unknown,
    /// Home would have it, and is away.
    Away,
    /// It broke off on its way, after its answer had begun.
    Broken,
    Fault(Fault),
}

impl Client {
    /// Pulls one image after the other at a mirror, until `stop`.
    pub(crate) async fn run_at_mirror(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let time = self.random.time(Duration::from_millis(1), Duration::from_millis(600));
            pause(time).await;
            let repository = self.random.below(SCRATCH);
            match self.random.below(16) {
                0 => self.push_at_mirror(repository).await,
                1..4 => self.pull_by_digest(repository).await,
                _ => self.pull_by_tag(repository).await,
            }
        }
    }

    pub(super) fn count_at_mirror(&self, count: impl FnOnce(&mut MirrorTally) -> &mut u64) {
        self.history.with(|records| *count(&mut records.at_mirrors) += 1);
    }

    /// Any replica of the mirror.
    pub(super) async fn any_mirror(&mut self) -> Option<(Serving, Arc<Mirror>)> {
        let serving = self.somebody().await?;
        let mirror = serving.mirror.clone()?;
        Some((serving, mirror))
    }

    /// Pulls what a tag names.
    async fn pull_by_tag(&mut self, repository: usize) {
        let tag = self.random.below(TAGS);
        let Some((serving, mirror)) = self.any_mirror().await else { return };
        let name = self.repository(repository).clone();
        let reference = Reference::Tag(self.universe.tag(tag).clone());
        let after = published_up_to(&serving);
        let time = self.cluster.time.passed();
        let read = async {
            let found = mirror.find_manifest(&name, &reference).await?;
            let bytes = serving.registry.read_manifest(&found).await?;
            Ok::<_, PullError>((found, bytes))
        };
        let asked = self.ask(&format!("tag {tag} of {name}"), &serving, Some(TAG_ANSWER), read.boxed()).await;
        let (found, is_stale) = match asked {
            Asked::Answered(Ok((found, bytes))) => match self.recognise(&found.digest, &bytes, &serving) {
                Some(value) => (Some(value), found.stale.is_some()),
                None => return,
            },
            Asked::Answered(Err(PullError::Unknown)) => (None, false),
            Asked::Answered(Err(error)) => return self.not_answered("a pull by tag", &error, time),
            Asked::Refused | Asked::Lost => return,
        };
        self.count_at_mirror(|tally| &mut tally.tags);
        if let Some(after) = after.filter(|_| !is_stale) {
            let mirror = serving.process.name.clone();
            let seen = SeenAtMirror { mirror, repository, tag, after, found };
            self.history.with(|records| records.seen_at_mirrors.push(seen));
        }
        if let Some(value) = found {
            self.pull_content(repository, value).await;
        }
    }

    /// Pulls an image that was acknowledged at home, by digest.
    async fn pull_by_digest(&mut self, repository: usize) {
        let acknowledged: Vec<Value> = self.history.with(|records| {
            let within = records.stored.iter().filter(|(_, stored)| stored.repository == repository);
            within.map(|(value, _)| *value).collect()
        });
        let (false, Some((serving, mirror))) = (acknowledged.is_empty(), self.any_mirror().await) else { return };
        let value = *self.random.pick(&acknowledged);
        let name = self.repository(repository).clone();
        let reference = Reference::Digest(self.universe.manifest_digest(value));
        let is_whole = self.is_whole_at(&serving, repository, value);
        let time = self.cluster.time.passed();
        let read = async {
            let found = mirror.find_manifest(&name, &reference).await?;
            let bytes = serving.registry.read_manifest(&found).await?;
            Ok::<_, PullError>((found.digest, bytes))
        };
        match self.ask(&format!("manifest {value}"), &serving, Some(TAG_ANSWER), read.boxed()).await {
            Asked::Answered(Ok((digest, bytes))) => {
                if self.recognise(&digest, &bytes, &serving).is_some() {
                    self.pull_content(repository, value).await;
                }
            }
            Asked::Answered(Err(PullError::Unknown | PullError::HomeAway(_))) if is_whole && self.is_kept(value) => {
                let at = &serving.process.name;
                self.cluster.violated(format!("P8: {at} has all of manifest {value}, and does not show it"));
            }
            // One that has not been announced yet is not known of while home is away.
            Asked::Answered(Err(PullError::Unknown)) => self.count_at_mirror(|tally| &mut tally.unknown),
            Asked::Answered(Err(error)) => self.not_answered("a pull by digest", &error, time),
            Asked::Refused | Asked::Lost => {}
        }
    }

    /// Which manifest it is, if it is one that somebody pushed.
    fn recognise(&self, digest: &Digest, bytes: &Bytes, serving: &Serving) -> Option<Value> {
        let at = &serving.process.name;
        let Some(value) = self.universe.value_of(digest) else {
            self.cluster.violated(format!("P9: {at} shows {digest}, which nobody pushed"));
            return None;
        };
        if bytes != self.universe.manifest(value).bytes() {
            self.cluster.violated(format!("P1: manifest {value} has other bytes at {at}"));
        }
        Some(value)
    }

    /// Nobody has asked for its deletion.
    fn is_kept(&self, value: Value) -> bool {
        self.history.with(|records| !records.uncertain.contains(&value))
    }

    /// Whether the facts of a replica say that all of an image is there.
    fn is_whole_at(&self, serving: &Serving, repository: usize, value: Value) -> bool {
        let (name, digest) = (self.repository(repository), self.universe.manifest_digest(value));
        let Ok(query) = serving.metadata.query() else { return false };
        let has_blob = |blob| matches!(query.blob(name, &self.universe.digest(blob)), Ok(Some(_)));
        matches!(query.manifest(name, &digest), Ok(Some(_))) && self.universe.blobs_of(value).into_iter().all(has_blob)
    }

    /// Pulls all blobs of an image whose manifest the mirror has shown. Whether they came.
    pub(crate) async fn pull_content(&mut self, repository: usize, value: Value) -> bool {
        for blob in self.universe.blobs_of(value) {
            if !self.pull_blob_at_mirror(repository, blob, value).await {
                return false;
            }
        }
        self.count_at_mirror(|tally| &mut tally.images);
        true
    }

    async fn pull_blob_at_mirror(&mut self, repository: usize, blob: usize, value: Value) -> bool {
        let (name, digest) = (self.repository(repository).clone(), self.universe.digest(blob));
        for _ in 0..ATTEMPTS {
            let Some((serving, mirror)) = self.any_mirror().await else { continue };
            let time = self.cluster.time.passed();
            let read = async {
                let found = mirror.find_blob(&name, &digest).await.map_err(missed)?;
                let is_coming = matches!(found, PulledBlob::Coming(_));
                Ok::<_, Missed>((read_all(&serving, found).await?, is_coming))
            };
            match self.ask(&format!("blob {blob} of {name}"), &serving, None, read.boxed()).await {
                Asked::Answered(Ok((content, is_coming))) => {
                    if content != self.universe.blobs[blob] {
                        let (at, length) = (&serving.process.name, content.len());
                        self.cluster.violated(format!("P8: blob {blob} comes as {length} other bytes from {at}"));
                    }
                    self.count_at_mirror(|tally| if is_coming { &mut tally.streamed } else { &mut tally.from_here });
                    return true;
                }
                Asked::Answered(Err(Missed::Unknown)) => {
                    if self.is_kept(value) {
                        let at = &serving.process.name;
                        self.cluster.violated(format!(
                            "P8: {at} says 404 to blob {blob} of manifest {value} of {name}, which the mirror has shown"
                        ));
                    }
                    return false;
                }
                Asked::Answered(Err(Missed::Away)) => self.count_at_mirror(|tally| &mut tally.away),
                Asked::Answered(Err(Missed::Broken)) => self.count_at_mirror(|tally| &mut tally.broken),
                Asked::Answered(Err(Missed::Fault(fault))) => drop(self.failed("a pull of a blob", &fault, time)),
                Asked::Refused | Asked::Lost => {}
            }
            self.back_off().await;
        }
        self.count_at_mirror(|tally| &mut tally.gave_up);
        false
    }

    fn not_answered(&self, what: &str, error: &PullError, time_before: Duration) {
        match error {
            PullError::Fault(fault) => drop(self.failed(what, fault, time_before)),
            PullError::HomeAway(_) | PullError::Unknown => self.count_at_mirror(|tally| &mut tally.away),
        }
    }
}

/// Up to where home's feed is published at a replica, if nothing waits there.
fn published_up_to(serving: &Serving) -> Option<u64> {
    let following = serving.metadata.query().and_then(|query| query.following()).ok()??;
    (following.waiting == 0 && !following.comparing).then_some(following.position.sequence)
}

fn missed(error: PullError) -> Missed {
    match error {
        PullError::Unknown => Missed::Unknown,
        PullError::HomeAway(_) => Missed::Away,
        PullError::Fault(fault) => Missed::Fault(fault),
    }
}

async fn read_all(serving: &Serving, found: PulledBlob) -> Result<Vec<u8>, Missed> {
    let size = found.size();
    let pieces: Vec<Bytes> = match found {
        PulledBlob::Here(blob) => {
            let bytes = serving.registry.stream_blob(&blob, 0..size).await.map_err(|error| match error {
                BlobReadError::Unknown => Missed::Unknown,
                BlobReadError::Fault(fault) => Missed::Fault(fault),
            })?;
            bytes.try_collect().await.map_err(|error| Missed::Fault(error.into()))?
        }
        PulledBlob::Coming(coming) => {
            let bytes = coming.stream(0..size).await.map_err(missed)?;
            bytes.try_collect().await.map_err(|_| Missed::Broken)?
        }
    };
    Ok(pieces.concat())
}

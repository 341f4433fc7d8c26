//! What the clients of an interleaving do, and what they take down of the answers.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use roadstead_oci::{Reference, RepositoryName};

use super::oracle::{Held, Named, Oracle, Universe};
use super::steps::{Random, step};
use crate::fixture::{GRACE, StoppedClock, broken, sha256, sized, streamed};
use crate::ports::Clock as _;
use crate::{BlobReadError, Fault, Identity, ManifestPutError, ManifestReadError, Precondition, Registry, UploadError};

/// A client of one registry.
pub(super) struct Client {
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<StoppedClock>,
    pub(super) universe: Arc<Universe>,
    pub(super) oracle: Arc<Mutex<Oracle>>,
    pub(super) random: Random,
}

/// Ends with the deletion, or with the client.
struct Ended<'a, T: Copy>(&'a Mutex<Oracle>, fn(&mut Oracle, T), T);

impl<T: Copy> Drop for Ended<'_, T> {
    fn drop(&mut self) {
        self.1(&mut self.0.lock(), self.2);
    }
}

impl Client {
    /// Does a few things, one after the other.
    pub(super) async fn run(mut self, count: usize) {
        for _ in 0..count {
            drop(step().await);
            let repository = self.random.below(self.universe.repositories.len());
            let held = (repository, self.random.below(self.universe.blobs.len()));
            let named = (repository, self.random.below(self.universe.manifests.len()));
            match self.random.below(16) {
                0..5 => self.push_image(named).await,
                5 => drop(self.push(held).await),
                6 | 7 => drop(self.ask(held).await),
                8 => drop(self.mount(held).await),
                9 => self.delete_blob(held).await,
                10 | 11 => self.delete_manifest(named).await,
                12 => self.delete_tag(named).await,
                13 => self.cancel(held).await,
                14 => self.push_wrongly(held).await,
                _ => self.store(named).await,
            }
        }
    }

    /// Sweeps a few times.
    pub(super) async fn sweep(self, count: usize) {
        for _ in 0..count {
            drop(step().await);
            match self.registry.sweep().await {
                Ok(swept) => {
                    let tally = &mut self.oracle.lock().tally;
                    tally.unlinked += u64::from(swept.unlinked);
                    tally.condemned += u64::from(swept.condemned);
                }
                Err(fault) => self.failed("a sweep", &fault),
            }
        }
    }

    /// As every builder does it: asks for each blob, brings what is not there, and thinks before it names them.
    async fn push_image(&mut self, named: Named) {
        for blob in self.universe.manifests[named.1].1 {
            let held = (named.0, blob);
            let there = self.ask(held).await || (self.random.chance(3) && self.mount(held).await);
            if !there && !self.push(held).await {
                return;
            }
        }
        drop(step().await);
        self.store(named).await;
    }

    async fn ask(&self, held: Held) -> bool {
        match self.registry.promise_blob(self.repository(held.0), &sha256(self.content(held))).await {
            Ok(found) if found.size() == self.content(held).len() as u64 => {
                self.told(held, GRACE / 2, |oracle| oracle.tally.asked += 1);
                true
            }
            Err(BlobReadError::Unknown) => false,
            Err(BlobReadError::Fault(fault)) => {
                self.failed("a HEAD", &fault);
                false
            }
            Ok(other) => {
                self.oracle.lock().violated(format!("a HEAD was answered {other:?}"));
                false
            }
        }
    }

    async fn mount(&mut self, held: Held) -> bool {
        let other = self.universe.repositories.len() - 1 - held.0;
        let from = self.random.chance(2).then(|| self.repository(other).clone());
        let digest = sha256(self.content(held));
        let mounted =
            self.registry.mount_blob(&Identity::Anonymous, self.repository(held.0), digest, from.as_ref()).await;
        match &mounted {
            Ok(true) => self.told(held, GRACE, |oracle| oracle.tally.mounted += 1),
            Ok(false) => {}
            Err(fault) => self.failed("a mount", fault),
        }
        mounted.unwrap_or(false)
    }

    async fn push(&mut self, held: Held) -> bool {
        let (repository, content) = (self.repository(held.0).clone(), self.content(held).to_vec());
        let digest = sha256(&content);
        let registry = Arc::clone(&self.registry);
        let pushed = match self.random.below(3) {
            0 => registry.upload_blob(&repository, digest, sized(&content)).await,
            1 => registry.upload_blob(&repository, digest, streamed(&content)).await,
            _ => {
                let cut = self.random.below(content.len());
                async {
                    let upload = registry.start_upload(&repository, false).await?;
                    registry.append_upload(&repository, upload, streamed(&content[..cut])).await?;
                    drop(step().await);
                    registry.close_upload(&repository, upload, digest, streamed(&content[cut..])).await
                }
                .await
            }
        };
        match pushed {
            Ok(()) => self.told(held, GRACE, |oracle| oracle.tally.pushed += 1),
            // Its session has expired meanwhile; or memory, or the filling of a part, took too long by the real clock.
            Err(
                UploadError::Unknown
                | UploadError::Busy
                | UploadError::Body(_)
                | UploadError::Fault(Fault::Blobs(_) | Fault::Inconsistent(_)),
            ) => {}
            Err(UploadError::Fault(ref fault)) => self.failed("a push", fault),
            Err(ref error) => self.oracle.lock().violated(format!("a push failed: {error}")),
        }
        pushed.is_ok()
    }

    /// Leaves behind what has to be cleaned up: a broken connection, a wrong digest.
    async fn push_wrongly(&mut self, held: Held) {
        let breaks = self.random.chance(2);
        let (repository, content) = (self.repository(held.0), self.content(held));
        let pushed = if breaks {
            self.registry.upload_blob(repository, sha256(content), broken(content)).await
        } else {
            self.registry.upload_blob(repository, sha256(b"something else"), sized(content)).await
        };
        if pushed.is_ok() {
            self.oracle.lock().violated("a push of half a blob, or of a wrong one, was acknowledged".to_owned());
        }
    }

    async fn cancel(&self, held: Held) {
        let (repository, content) = (self.repository(held.0), self.content(held));
        let Ok(upload) = self.registry.start_upload(repository, false).await else { return };
        // It may have expired meanwhile.
        drop(self.registry.append_upload(repository, upload, streamed(content)).await);
        drop(self.registry.cancel_upload(repository, upload).await);
    }

    async fn store(&self, named: Named) {
        let (manifest, blobs) = &self.universe.manifests[named.1];
        let (repository, tag) = (self.repository(named.0), tag(named));
        let stored = self.registry.put_manifest(repository, &tag, &[], Precondition::None, manifest).await;
        let mut oracle = self.oracle.lock();
        match stored {
            Ok(_stored) => {
                oracle.tally.stored += 1;
                oracle.name(named, *blobs);
            }
            Err(ManifestPutError::BlobsUnknown(missing)) => {
                let now = self.clock.now();
                let broken = blobs.iter().find(|&&blob| {
                    oracle.is_promised((named.0, blob), now) && missing.contains(&sha256(&self.universe.blobs[blob]))
                });
                if let Some(blob) = broken {
                    oracle.violated(format!(
                        "a manifest was refused for blob {blob} of {repository}, which was promised"
                    ));
                }
            }
            Err(ManifestPutError::Fault(fault)) => {
                drop(oracle);
                self.failed("a manifest's push", &fault);
            }
            Err(error) => oracle.violated(format!("a manifest was not stored: {error}")),
        }
    }

    async fn delete_blob(&self, held: Held) {
        self.oracle.lock().begin_blob_deletion(held);
        let ended = Ended(&self.oracle, Oracle::end_blob_deletion, held);
        let deleted = self.registry.delete_blob(self.repository(held.0), sha256(self.content(held))).await;
        if matches!(deleted, Err(BlobReadError::Fault(_))) {
            mem::forget(ended); // it may yet be applied
        }
    }

    async fn delete_manifest(&self, named: Named) {
        self.oracle.lock().begin_manifest_deletion(named);
        let ended = Ended(&self.oracle, Oracle::end_manifest_deletion, named);
        let digest = sha256(self.universe.manifests[named.1].0.bytes());
        let deleted = self.registry.delete_manifest(self.repository(named.0), &Reference::Digest(digest)).await;
        if matches!(deleted, Err(ManifestReadError::Fault(_))) {
            mem::forget(ended);
        }
    }

    /// Which keeps the manifest.
    async fn delete_tag(&self, named: Named) {
        drop(self.registry.delete_manifest(self.repository(named.0), &tag(named)).await);
    }

    /// What was not answered in time is not acknowledged, on a busy machine; nothing else may fail.
    fn failed(&self, what: &str, fault: &Fault) {
        if !matches!(fault, Fault::Propose(_) | Fault::Read(_)) {
            self.oracle.lock().violated(format!("{what} failed: {fault}"));
        }
    }

    fn told(&self, held: Held, lasts: std::time::Duration, count: impl FnOnce(&mut Oracle)) {
        let mut oracle = self.oracle.lock();
        oracle.promise(held, self.clock.now(), lasts);
        count(&mut oracle);
    }

    fn repository(&self, repository: usize) -> &RepositoryName {
        &self.universe.repositories[repository]
    }

    fn content(&self, (_, blob): Held) -> &[u8] {
        &self.universe.blobs[blob]
    }
}

/// Two manifests share one.
fn tag((_, manifest): Named) -> Reference {
    ["one", "two", "one"][manifest].parse().expect("a tag")
}

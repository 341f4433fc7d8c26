//! What comes back from content alone, where there is no backup: every object hashed again.
//!
//! ```text
//! blobs/<uuid>               --sha256--> held by the repository `recovered`
//! manifests/<digest>/<uuid>  --hash, parse--> a manifest of it, by digest
//! all blobs that no such manifest names --> manifests `inventory-<n>` that name them, so that they are not collected
//! ```
//!
//! Names and tags do not come back, nor manifests of up to 64 KiB: those are in the log and its snapshots only. Nothing
//! in the store is changed, and what is done already is passed over, so a recovery that was cut off goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use roadstead_blobs::{BlobError, BlobStore, ObjectInfo};
use roadstead_metadata::{
    History, KeyState, LinkBlob, ManifestContent, Metadata, NewManifest, Operation, Options as MetadataOptions,
    Precondition, PutManifest, Rebuild, ReserveKeys,
};
use roadstead_oci::{Digest, Hasher, Manifest, MediaType, ObjectKey, ObjectKind, RepositoryName, Tag, Verified};

use super::marker;
use super::restore::{RestoreError, Staging, check_empty};
use crate::fault::Fault;
use crate::limits::SEGMENTS_AHEAD;
use crate::manifest::referrer;
use crate::ports::Ports;

/// The repository that holds what was recovered.
const REPOSITORY: &str = "recovered";

/// Blobs that one inventory names: with 150 bytes for each it is small enough for the log.
const BLOBS_PER_INVENTORY: usize = 400;

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The repository that has it.
    pub repository: String,
    /// Blobs, and their bytes.
    pub blobs: u64,
    /// See `blobs`.
    pub bytes: u64,
    /// Manifests that were objects.
    pub manifests: u64,
    /// Tags of the inventories that name blobs which no manifest names.
    pub inventories: u32,
    /// Objects with the same content as another one: left where they are.
    pub duplicates: u64,
    /// Parts of uploads that were under way: left where they are.
    pub tails: u64,
    /// Objects that could not be brought back, and why.
    pub lost: Vec<(ObjectKey, String)>,
}

/// How far a recovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoverProgress {
    /// Objects looked at.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
}

/// Makes a folder of facts out of the content of a store, and takes the store over for it.
pub async fn recover(
    store: Arc<dyn BlobStore>,
    ports: &Ports,
    folder: &Path,
    progress: impl Fn(RecoverProgress) + Sync,
) -> Result<Recovered, RestoreError> {
    check_empty(folder)?;
    let staging = Staging::beside(folder, "recovering");
    let metadata = open(&*store, ports, &staging.folder).await?;
    let repository: RepositoryName = REPOSITORY.parse().map_err(|_| inconsistent("the repository's name"))?;
    let mut recovery = Recovery {
        store: Arc::clone(&store),
        ports: ports.clone(),
        metadata,
        repository,
        told: Recovered { repository: REPOSITORY.to_owned(), ..Recovered::default() },
        progress: RecoverProgress { objects: 0, bytes: 0 },
    };
    let taken = async {
        recovery.take_objects(&progress).await?;
        recovery.write_inventories().await?;
        Ok::<_, Fault>(recovery.metadata.query()?.history()?)
    };
    let taken = taken.await;
    let Recovery { metadata, told, .. } = recovery;
    // Whether or not it came to its end, the folder is to be free for whoever opens it next.
    metadata.shutdown().await.map_err(|error| Fault::Inconsistent(error.to_string()))?;
    drop(metadata);
    let history = taken?;
    staging.publish(folder)?;
    if let Some(history) = history {
        marker::claim(&*store, &history).await?;
    }
    Ok(told)
}

/// Begins a folder of facts under a history of its own, or goes on with what is there.
async fn open(store: &dyn BlobStore, ports: &Ports, folder: &Path) -> Result<Metadata, RestoreError> {
    // The last thing that is written to a folder that is made anew.
    if !folder.join("format").exists() {
        let _ = std::fs::remove_dir_all(folder);
        let newest = marker::newest(store).await?;
        let history = History {
            id: ports.uuid(),
            storage: newest.as_ref().map_or_else(|| ports.uuid(), |newest| newest.storage),
            incarnation: newest.map_or(1, |newest| newest.incarnation + 1),
            parent: None,
            begun: ports.wall(),
        };
        Rebuild::begin(folder)?.finish(&history).await?;
    }
    let names = [ports.uuid().as_u128(), ports.uuid().as_u128()];
    let opened = Metadata::open(MetadataOptions::new(PathBuf::from(folder), names)).await;
    opened.map_err(|error| RestoreError::Rebuild(error.into()))
}

fn inconsistent(what: &str) -> Fault {
    Fault::Inconsistent(format!("{what} cannot be made"))
}

struct Recovery {
    store: Arc<dyn BlobStore>,
    ports: Ports,
    metadata: Metadata,
    repository: RepositoryName,
    told: Recovered,
    progress: RecoverProgress,
}

/// An object whose bytes were read.
enum Looked {
    Known,
    Blob(ObjectInfo, Verified<Digest>),
    Manifest(ObjectInfo, Bytes, Digest),
    Tail,
    Lost(ObjectKey, String),
}

impl Recovery {
    async fn take_objects(&mut self, progress: &(impl Fn(RecoverProgress) + Sync)) -> Result<(), Fault> {
        let (store, metadata) = (Arc::clone(&self.store), self.metadata.clone());
        let mut next = None;
        loop {
            let page = store.list("", next.as_deref()).await?;
            let looks = page.items.into_iter().map(|object| look(&*store, &metadata, object));
            // Several at once, so that neither the disk nor the processor waits for the other.
            let mut looked = stream::iter(looks).buffered(SEGMENTS_AHEAD);
            while let Some(object) = looked.try_next().await? {
                self.progress.objects += 1;
                self.progress.bytes += match &object {
                    Looked::Blob(info, _) | Looked::Manifest(info, _, _) => info.size,
                    Looked::Known | Looked::Tail | Looked::Lost(..) => 0,
                };
                progress(self.progress);
                self.take(object).await?;
            }
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(()),
            }
        }
    }

    async fn take(&mut self, object: Looked) -> Result<(), Fault> {
        match object {
            Looked::Known => {}
            Looked::Tail => self.told.tails += 1,
            Looked::Lost(key, why) => self.told.lost.push((key, why)),
            Looked::Blob(info, verified) => {
                if self.metadata.query()?.blob(&self.repository, verified.get())?.is_some() {
                    self.told.duplicates += 1;
                    return Ok(());
                }
                self.reserve(&info.key).await?;
                let link = LinkBlob::new(self.repository.clone(), verified, info.size, info.key.clone(), None);
                match self.propose(link).await? {
                    Ok(_) => {}
                    Err(refused) => self.told.lost.push((info.key, refused.to_string())),
                }
            }
            Looked::Manifest(info, bytes, digest) => self.take_manifest(info, bytes, digest).await?,
        }
        Ok(())
    }

    async fn take_manifest(&mut self, info: ObjectInfo, bytes: Bytes, digest: Digest) -> Result<(), Fault> {
        if self.metadata.query()?.manifest(&self.repository, &digest)?.is_some() {
            self.told.duplicates += 1;
            return Ok(());
        }
        let parsed = Manifest::parse(None, bytes.clone())
            .or_else(|_| Manifest::parse(Some(&MediaType::OCI_MANIFEST), bytes.clone()))
            .or_else(|_| Manifest::parse(Some(&MediaType::OCI_INDEX), bytes.clone()));
        let manifest = match parsed {
            Ok(manifest) => manifest,
            Err(why) => {
                self.told.lost.push((info.key, why.to_string()));
                return Ok(());
            }
        };
        let Ok(verified) = Hasher::verify_bytes(digest, &bytes) else { return Ok(()) };
        self.reserve(&info.key).await?;
        self.put(verified, &manifest, ManifestContent::Object(info.key), Vec::new()).await
    }

    /// What no manifest names would be collected after a grace. An inventory names it, and shows what there is.
    async fn write_inventories(&mut self) -> Result<(), Fault> {
        let mut after = None;
        let mut unnamed = Vec::new();
        loop {
            let blobs = self.metadata.query()?.blobs(&self.repository, after.as_ref(), BLOBS_PER_INVENTORY)?;
            after = blobs.last().map(|(digest, _)| *digest);
            for (digest, blob) in blobs {
                self.told.blobs += 1;
                self.told.bytes += blob.size;
                unnamed.extend(blob.unnamed_since.map(|_| (digest, blob.size)));
            }
            while unnamed.len() >= BLOBS_PER_INVENTORY || (after.is_none() && !unnamed.is_empty()) {
                let rest = unnamed.split_off(unnamed.len().min(BLOBS_PER_INVENTORY));
                self.write_inventory(&std::mem::replace(&mut unnamed, rest)).await?;
            }
            if after.is_none() {
                break;
            }
        }
        let held = self.metadata.query()?.repository(&self.repository)?.unwrap_or_default();
        self.told.manifests = held.manifests.saturating_sub(held.tags);
        self.told.inventories = u32::try_from(held.tags).unwrap_or(u32::MAX);
        Ok(())
    }

    async fn write_inventory(&mut self, blobs: &[(Digest, u64)]) -> Result<(), Fault> {
        let layer = |(digest, size): &(Digest, u64)| {
            format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":{size}}}"#)
        };
        let layers: Vec<_> = blobs.iter().map(layer).collect();
        // The config is what the specification has for none.
        let json = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"application/vnd.roadstead.inventory","config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[{}]}}"#,
            MediaType::OCI_MANIFEST,
            MediaType::OCI_EMPTY,
            Hasher::digest(roadstead_oci::Algorithm::Sha256, b"{}").get(),
            layers.join(",")
        );
        let bytes = Bytes::from(json);
        let manifest = Manifest::parse(None, bytes.clone()).map_err(|_| inconsistent("an inventory"))?;
        let tags = self.metadata.query()?.repository(&self.repository)?.unwrap_or_default().tags;
        let tag: Tag = format!("inventory-{}", tags + 1).parse().map_err(|_| inconsistent("a tag"))?;
        let verified = Hasher::digest(roadstead_oci::Algorithm::Sha256, &bytes);
        self.put(verified, &manifest, ManifestContent::Inline(bytes), vec![tag]).await
    }

    async fn put(
        &self,
        verified: Verified<Digest>,
        manifest: &Manifest,
        content: ManifestContent,
        tags: Vec<Tag>,
    ) -> Result<(), Fault> {
        let new = NewManifest {
            repository: self.repository.clone(),
            media_type: manifest.media_type().to_string(),
            size: manifest.bytes().len() as u64,
            content,
            blobs: manifest.blobs(),
            referrer: manifest.subject().map(|subject| referrer(subject.digest, manifest)),
            tags,
            precondition: Precondition::None,
            // Some of its blobs may be lost.
            sparse: true,
        };
        let put = self.propose(PutManifest::new(verified, new)).await?;
        put.map(|_| ()).map_err(|refused| Fault::Inconsistent(format!("a recovered manifest: {refused}")))
    }

    async fn reserve(&self, key: &ObjectKey) -> Result<(), Fault> {
        let reserved = self.propose(ReserveKeys { keys: vec![key.clone()] }).await?;
        reserved.map_err(|refused| Fault::Inconsistent(format!("a recovered key: {refused}")))
    }

    async fn propose<O: Operation>(&self, operation: O) -> Result<Result<O::Done, O::Refused>, Fault> {
        Ok(self.metadata.propose(self.ports.command_id(), self.ports.now(&self.metadata), operation).await?)
    }
}

/// Reads an object to find what it is.
async fn look(store: &dyn BlobStore, metadata: &Metadata, info: ObjectInfo) -> Result<Looked, Fault> {
    if metadata.query()?.key_state(&info.key)? == Some(KeyState::Linked) {
        return Ok(Looked::Known);
    }
    let looked = match info.key.kind() {
        ObjectKind::Blob => hash(store, &info).await.map(|verified| Looked::Blob(info.clone(), verified)),
        ObjectKind::Manifest { digest } if info.size <= Manifest::MAX_SIZE as u64 => {
            marker::read(store, &info.key, info.size).await.map(|bytes| match Hasher::verify_bytes(digest, &bytes) {
                Ok(_) => Looked::Manifest(info.clone(), bytes, digest),
                Err(_) => Looked::Lost(info.key.clone(), "its bytes have another digest".to_owned()),
            })
        }
        ObjectKind::Manifest { .. } => Ok(Looked::Lost(info.key.clone(), "it is too large for a manifest".to_owned())),
        ObjectKind::Tail => Ok(Looked::Tail),
        ObjectKind::Marker { .. } | ObjectKind::LogSegment { .. } | ObjectKind::Snapshot { .. } => Ok(Looked::Known),
    };
    match looked {
        Ok(looked) => Ok(looked),
        // Of this object alone: the others may be well.
        Err(error @ (BlobError::NotFound | BlobError::Broken(_))) => Ok(Looked::Lost(info.key, error.to_string())),
        Err(error) => Err(error.into()),
    }
}

async fn hash(store: &dyn BlobStore, info: &ObjectInfo) -> Result<Verified<Digest>, BlobError> {
    let mut hasher = Hasher::new();
    hasher.drop_sha512();
    if info.size > 0 {
        let mut chunks = store.get(&info.key, 0..info.size).await?;
        while let Some(chunk) = chunks.try_next().await? {
            hasher.update(&chunk);
        }
    }
    Ok(hasher.sha256())
}

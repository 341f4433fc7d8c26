//! Examining one blob or manifest.

use futures_util::TryStreamExt;
use roadstead_blobs::BlobError;
use roadstead_metadata::{Examined, SetQuarantine};
use roadstead_oci::{Algorithm, Digest, Hasher, ObjectKey, VerifyError};

use super::{Finding, FindingKind, Pass, persist};
use crate::fault::Fault;
use crate::limits::{SCRUB_LEAST_COST, SCRUB_MAX_UNREADABLE, SCRUB_READ_BYTES};

/// The bytes to examine.
pub(super) enum Bytes {
    /// In the state.
    Here(bytes::Bytes),
    /// In the store.
    Object(ObjectKey),
}

/// What one look at them shows.
enum Verdict {
    Sound,
    Damaged(String),
    Missing,
    Unreadable(BlobError),
}

impl Bytes {
    fn key(&self) -> Option<ObjectKey> {
        match self {
            Self::Here(_) => None,
            Self::Object(key) => Some(key.clone()),
        }
    }
}

impl Pass<'_> {
    pub(super) async fn examine(
        &mut self,
        examined: Examined,
        size: u64,
        bytes: Bytes,
        quarantined: bool,
    ) -> Result<(), Fault> {
        let digest = digest_of(&examined);
        let mut verdict = self.look(digest, size, &bytes).await;
        if !matches!(verdict, Verdict::Sound) {
            if !self.is_there(&examined, quarantined)? {
                return Ok(()); // it has gone, and its object with it
            }
            // A bit may flip on the way from the disk as well, and a connection break.
            verdict = self.look(digest, size, &bytes).await;
        }
        self.watch.count(|tally| tally.contents += 1);
        let (kind, reason) = match verdict {
            Verdict::Sound => {
                self.unreadable_in_a_row = 0;
                if !quarantined {
                    return Ok(());
                }
                (FindingKind::Released, "it is as it should be, and is served again".to_owned())
            }
            Verdict::Damaged(reason) => (FindingKind::Damaged, reason),
            Verdict::Missing => (FindingKind::Missing, "its object is not in the store".to_owned()),
            Verdict::Unreadable(error) => return self.unreadable(&examined, &bytes, quarantined, error).await,
        };
        let set = SetQuarantine { examined: examined.clone(), quarantined: kind != FindingKind::Released };
        if quarantined != set.quarantined {
            // Judged once more where it is applied.
            let Ok(_changed) = persist(|| self.registry.propose(set.clone())).await?;
        }
        if self.is_there(&examined, set.quarantined)? {
            self.watch.find(Finding::of(kind, &examined, bytes.key(), reason)).await;
        }
        Ok(())
    }

    /// The store may be in trouble rather than the object: nothing is set aside for that, and a pass that meets nothing
    /// else ends.
    async fn unreadable(
        &mut self,
        examined: &Examined,
        bytes: &Bytes,
        quarantined: bool,
        error: BlobError,
    ) -> Result<(), Fault> {
        if !self.is_there(examined, quarantined)? {
            return Ok(());
        }
        self.unreadable_in_a_row += 1;
        let finding = Finding::of(FindingKind::Unreadable, examined, bytes.key(), error.to_string());
        self.watch.find(finding).await;
        if self.unreadable_in_a_row >= SCRUB_MAX_UNREADABLE { Err(error.into()) } else { Ok(()) }
    }

    async fn look(&mut self, digest: Digest, size: u64, bytes: &Bytes) -> Verdict {
        match bytes {
            Bytes::Here(bytes) => {
                self.used(bytes.len() as u64).await;
                match Hasher::verify_bytes(digest, bytes) {
                    Ok(_) => Verdict::Sound,
                    Err(error) => other_digest(&error),
                }
            }
            Bytes::Object(key) => self.read(digest, size, key).await.unwrap_or_else(|error| match error {
                BlobError::NotFound => Verdict::Missing,
                // What a store says of an object that is shorter than it should be.
                BlobError::Broken(reason) => Verdict::Damaged(reason),
                error => Verdict::Unreadable(error),
            }),
        }
    }

    async fn read(&mut self, digest: Digest, size: u64, key: &ObjectKey) -> Result<Verdict, BlobError> {
        let store = &self.registry.blobs;
        let Some(object) = store.head(key).await? else { return Ok(Verdict::Missing) };
        if object.size != size {
            return Ok(Verdict::Damaged(format!("it has {} bytes instead of {size}", object.size)));
        }
        let mut hasher = Hasher::new();
        if digest.algorithm() == Algorithm::Sha256 {
            hasher.drop_sha512();
        }
        // What a small object costs beside its bytes.
        self.pace(SCRUB_LEAST_COST.saturating_sub(size)).await;
        let mut offset = 0;
        while offset < size {
            let end = size.min(offset + SCRUB_READ_BYTES);
            let mut stream = self.registry.blobs.get(key, offset..end).await?;
            while let Some(piece) = stream.try_next().await? {
                hasher.update(&piece);
                self.used(piece.len() as u64).await;
            }
            offset = end;
        }
        Ok(hasher.verify(digest).map_or_else(|error| other_digest(&error), |_| Verdict::Sound))
    }

    async fn used(&mut self, bytes: u64) {
        self.watch.count(|tally| tally.bytes += bytes);
        self.pace(bytes).await;
    }

    /// Whether the facts say that this content is there, set aside or not set aside.
    fn is_there(&self, examined: &Examined, quarantined: bool) -> Result<bool, Fault> {
        let query = self.registry.metadata.query()?;
        Ok(match examined {
            Examined::Blob { digest, key } => query.object_key(quarantined, digest)?.as_ref() == Some(key),
            Examined::Manifest { repository, digest, content } => {
                query.manifest_content(quarantined, repository, digest)?.as_ref() == Some(content)
            }
        })
    }
}

const fn digest_of(examined: &Examined) -> Digest {
    match examined {
        Examined::Blob { digest, .. } | Examined::Manifest { digest, .. } => *digest,
    }
}

fn other_digest(error: &VerifyError) -> Verdict {
    Verdict::Damaged(match error {
        VerifyError::Mismatch { actual, .. } => format!("its bytes have the digest {actual}"),
        VerifyError::NotComputed(_) => error.to_string(),
    })
}

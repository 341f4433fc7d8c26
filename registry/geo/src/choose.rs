//! What a mirror with a filter takes of its home's changes.
//!
//! ```text
//!  a repository that no rule matches        nothing
//!  one of which everything is followed      all changes, as they come
//!  else  blobs                              with a manifest that names them: nobody knows before whose they are
//!        a manifest with a tag of a rule    it, what an index lists for the platforms, and the blobs of all of these
//!        one that refers to another         if that is followed: signatures go with their image
//!        one by a tag for signatures        always: the image that it names may be followed later
//!        deletions                          all: of what is not here they change nothing
//! ```
//!
//! So what is followed has its turn in home's order (promise P9), and is published when all that it needs of what is followed
//! is here (P8). What an index lists for other platforms is read through.

use std::collections::BTreeSet;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use roadstead_domain::Fault;
use roadstead_metadata::{AnnouncedManifest, ChangeKind, LogTime, Position, PutManifest, ReceivedChange};
use roadstead_oci::{Descriptor, Digest, Manifest, MediaType, Reference, RepositoryName, Tag};
use tracing::warn;

use crate::compare::ASKED_AT_ONCE;
use crate::filter::{Filter, Share};
use crate::follow::{FollowError, Pauses, in_time};
use crate::home::HomeError;
use crate::limits::{COMPARED_ATTEMPTS, MAX_CHOSEN_DEPTH};
use crate::mirror::Mirror;
use crate::wire::{WireChange, WireKind, WireManifest};

/// What was chosen of a line, in the order in which it is taken in.
#[derive(Default)]
pub(crate) struct Chosen {
    pub(crate) changes: Vec<ReceivedChange>,
    /// Manifests among them.
    manifests: BTreeSet<(RepositoryName, Digest)>,
}

/// Where a change is in home's feed, and when it was made.
#[derive(Clone, Copy)]
struct Moment {
    position: Position,
    at: LogTime,
}

/// A manifest that was read.
pub(crate) struct Read {
    media_type: String,
    manifest: Manifest,
}

impl Read {
    /// `None` of what is none.
    fn new(media_type: String, bytes: bytes::Bytes) -> Option<Self> {
        let declared = MediaType::from_content_type(&media_type).ok()?;
        let manifest = Manifest::parse(Some(&declared), bytes).ok()?;
        Some(Self { media_type, manifest })
    }

    /// What it says something of.
    pub(crate) fn subject(&self) -> Option<Digest> {
        self.manifest.subject().map(|subject| subject.digest)
    }

    /// The manifests of an index that a filter follows.
    pub(crate) fn children(&self, filter: &Filter) -> Vec<Digest> {
        let follows = |entry: &&Descriptor| match &entry.platform {
            Some(platform) => filter.takes_platform(&platform.os, &platform.architecture, platform.variant.as_deref()),
            None => true,
        };
        let followed: BTreeSet<Digest> =
            self.manifest.manifests().iter().filter(follows).map(|entry| entry.digest).collect();
        self.manifest.children().into_iter().filter(|child| followed.contains(child)).collect()
    }

    /// The blobs that it names.
    pub(crate) fn blobs(&self) -> Vec<Digest> {
        self.manifest.blobs()
    }
}

/// Whether a tag is named after a manifest, of which what it points at says something, where clients do not use the field
/// for that: `sha256-<hex>`, and with an ending behind it.
fn is_of_a_manifest(tag: &Tag) -> bool {
    let Some((hash, ending)) = tag.as_str().strip_prefix("sha256-").and_then(|hash| hash.split_at_checked(64)) else {
        return false;
    };
    let is_hash = hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash && (ending.is_empty() || ending.starts_with('.'))
}

impl Mirror {
    /// Takes what is followed of a change.
    pub(crate) async fn choose(&self, change: WireChange, chosen: &mut Chosen) -> Result<(), FollowError> {
        let share = self.filter.share(change.kind.repository());
        match (share, change.kind) {
            (Share::Nothing, _) | (Share::Chosen, WireKind::BlobLinked { .. }) => Ok(()),
            (Share::Chosen, WireKind::ManifestPut { repository, digest, tags, manifest }) => {
                let moment = Moment { position: change.position, at: change.at };
                self.choose_manifest(moment, &repository, digest, tags, manifest, chosen).await
            }
            (_, kind) => {
                chosen.changes.push(self.received(WireChange { kind, ..change }).await?);
                Ok(())
            }
        }
    }

    async fn choose_manifest(
        &self,
        moment: Moment,
        repository: &RepositoryName,
        digest: Digest,
        tags: Vec<Tag>,
        sent: Option<WireManifest>,
        chosen: &mut Chosen,
    ) -> Result<(), FollowError> {
        let followed: Vec<Tag> = tags.into_iter().filter(|tag| self.follows_tag(repository, tag)).collect();
        let read = match sent.and_then(|sent| Read::new(sent.media_type, sent.text.into())) {
            Some(read) => read,
            None => match self.read_at_home(repository, digest).await {
                Ok(Some(read)) => read,
                // It is deleted, or no manifest any more: the feed says so later.
                Ok(None) => return Ok(()),
                Err(FollowError::Home(error)) if self.contact.is_there() => {
                    if followed.is_empty() && !self.is_followed(repository, &digest, chosen)? {
                        warn!(%repository, %digest, reason = %error, "a manifest is read through: {error}");
                        return Ok(());
                    }
                    // It holds up nothing else: a comparison goes on without it, and its tags are read through.
                    let why = format!("home does not give a manifest of {repository}, {digest}: {error}");
                    return Err(HomeError::Resynchronise(why).into());
                }
                Err(error) => return Err(error),
            },
        };
        let goes_with = match read.subject() {
            Some(subject) => self.is_followed(repository, &subject, chosen)?,
            None => false,
        };
        if followed.is_empty() && !goes_with && !self.is_followed(repository, &digest, chosen)? {
            return Ok(());
        }
        self.take(moment, repository, digest, followed, read, chosen, 0).await
    }

    /// Takes a manifest behind all that it needs.
    #[expect(clippy::too_many_arguments, reason = "it calls itself with most of them")]
    fn take<'a>(
        &'a self,
        moment: Moment,
        repository: &'a RepositoryName,
        digest: Digest,
        tags: Vec<Tag>,
        read: Read,
        chosen: &'a mut Chosen,
        depth: u32,
    ) -> BoxFuture<'a, Result<(), FollowError>> {
        async move {
            let children = if depth < MAX_CHOSEN_DEPTH { read.children(&self.filter) } else { Vec::new() };
            for child in children {
                if self.is_followed(repository, &child, chosen)? {
                    continue;
                }
                self.take_one(moment, repository, child, chosen, depth + 1).await?;
            }
            let Moment { position, at } = moment;
            let sizes = stream::iter(read.blobs()).map(|blob| self.size_of(repository, blob)).buffered(ASKED_AT_ONCE);
            for (digest, size) in sizes.try_collect::<Vec<_>>().await?.into_iter().flatten() {
                let kind = ChangeKind::BlobLinked { repository: repository.clone(), digest, size };
                chosen.changes.push(ReceivedChange { position, at, kind, manifest: None });
            }
            let text = String::from_utf8(read.manifest.bytes().to_vec()).ok();
            let manifest = text
                .filter(|text| text.len() <= PutManifest::MAX_INLINE)
                .map(|text| WireManifest { media_type: read.media_type, text });
            let kind = WireKind::ManifestPut { repository: repository.clone(), digest, tags, manifest };
            chosen.changes.push(self.received(WireChange { position, at, kind }).await?);
            chosen.manifests.insert((repository.clone(), digest));
            self.take_referrers(moment, repository, &digest, chosen, depth).await
        }
        .boxed()
    }

    /// Takes a manifest that goes with another one, where home gives it.
    async fn take_one(
        &self,
        moment: Moment,
        repository: &RepositoryName,
        digest: Digest,
        chosen: &mut Chosen,
        depth: u32,
    ) -> Result<(), FollowError> {
        match self.read_at_home(repository, digest).await {
            Ok(Some(read)) => self.take(moment, repository, digest, Vec::new(), read, chosen, depth).await,
            // An index may list what is not there.
            Ok(None) => Ok(()),
            Err(FollowError::Home(error)) if self.contact.is_there() => {
                warn!(%repository, %digest, reason = %error, "a manifest is read through: {error}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes what refers to a manifest that is followed from now on, and was at home before that was.
    async fn take_referrers(
        &self,
        moment: Moment,
        repository: &RepositoryName,
        subject: &Digest,
        chosen: &mut Chosen,
        depth: u32,
    ) -> Result<(), FollowError> {
        if depth == MAX_CHOSEN_DEPTH {
            return Ok(());
        }
        for referrer in self.referrers_at_home(repository, subject).await? {
            if self.is_followed(repository, &referrer, chosen)? {
                continue;
            }
            self.take_one(moment, repository, referrer, chosen, depth + 1).await?;
        }
        Ok(())
    }

    /// Whether a tag is followed, wherever it points: what clients sign by a tag too, since that is small.
    pub(crate) fn follows_tag(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        self.filter.takes_tag(repository, tag) || is_of_a_manifest(tag)
    }

    /// The size of a blob, by what is here or at home, since manifests may say another one; `None` if neither has it: then
    /// home serves the manifest without it.
    async fn size_of(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<(Digest, u64)>, FollowError> {
        let here = self.registry.metadata().query().and_then(|query| query.blob(repository, &digest));
        if let Some(blob) = here.map_err(Fault::from)? {
            return Ok(Some((digest, blob.size)));
        }
        match in_time(self.home.blob_size(repository, &digest)).await {
            Ok(size) => Ok(Some((digest, size))),
            Err(HomeError::Unknown { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A manifest: from here, which costs no round trip, else from home.
    pub(crate) async fn read_here_or_at_home(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<Read>, FollowError> {
        if let Ok(found) = self.registry.find_manifest(repository, &Reference::Digest(digest)).await
            && let Ok(bytes) = self.registry.read_manifest(&found).await
            && let Some(read) = Read::new(found.media_type, bytes)
        {
            return Ok(Some(read));
        }
        self.read_at_home(repository, digest).await
    }

    /// A manifest as home has it; `None` if it does not, or not any more.
    pub(crate) async fn read_at_home(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<Read>, FollowError> {
        let (mut attempts, mut pauses) = (0, Pauses::new());
        loop {
            let error = match in_time(self.home.manifest(repository, &Reference::Digest(digest))).await {
                Ok(manifest) => return Ok(Read::new(manifest.media_type, manifest.bytes)),
                Err(HomeError::Unknown { .. }) => return Ok(None),
                Err(error) => error,
            };
            attempts += 1;
            if attempts == COMPARED_ATTEMPTS || self.is_ending() || !self.contact.is_there() {
                return Err(error.into());
            }
            pauses.wait(&self.ending()).await;
        }
    }

    /// Whether a manifest is here, or will be.
    fn is_followed(&self, repository: &RepositoryName, digest: &Digest, chosen: &Chosen) -> Result<bool, Fault> {
        if chosen.manifests.contains(&(repository.clone(), *digest)) {
            return Ok(true);
        }
        let query = self.registry.metadata().query()?;
        Ok(match query.announced_manifest(repository, digest)? {
            AnnouncedManifest::Coming(_) => true,
            AnnouncedManifest::Gone => false,
            AnnouncedManifest::Nothing => query.manifest(repository, digest)?.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_named_after_a_manifest_says_something_of_it() {
        let hash = "a".repeat(64);
        let is_of_one = |tag: String| is_of_a_manifest(&tag.parse().unwrap());
        for ending in ["", ".sig", ".att"] {
            assert!(is_of_one(format!("sha256-{hash}{ending}")));
        }
        for tag in
            [format!("sha256-{hash}b"), format!("sha256-{}", &hash[1..]), "v1".to_owned(), format!("sha512-{hash}")]
        {
            assert!(!is_of_one(tag));
        }
    }
}

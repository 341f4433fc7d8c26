//! What a mirror with a filter takes of its home's changes.
//!
//! ```text
//!  a repository that no rule matches        nothing
//!  one of which everything is followed      all changes, as they come
//!  else  blobs                              with a manifest that names them: nobody knows before whose they are
//!        a manifest with a tag of a rule    it, what an index lists for the platforms, and the blobs of all of these
//!        one that refers to another         if that is followed: signatures go with their image
//!        one by a tag for signatures        always: the image that it names may be followed later
//!        what one of these lacks            when it comes to home: images of an index, and blobs
//!        deletions                          all: of what is not here they change nothing
//! ```
//!
//! So what is followed has its turn in home's order (promise P9), and is published when all that it needs of what is followed
//! is here (P8). What an index lists for other platforms is read through.

mod late;
mod read;

use std::collections::BTreeSet;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use roadstead_domain::Fault;
use roadstead_metadata::{AnnouncedManifest, ChangeKind, LogTime, Position, PutManifest, ReceivedChange};
use roadstead_oci::{Digest, RepositoryName, Tag};
use tracing::warn;

pub(crate) use self::late::Lacked;
use self::read::Read;
use crate::compare::ASKED_AT_ONCE;
use crate::filter::Share;
use crate::follow::FollowError;
use crate::home::HomeError;
use crate::limits::{CHANGE_BYTES, MAX_CHOSEN_BYTES, MAX_CHOSEN_DEPTH, MAX_PAGE_BYTES, MAX_PAGE_CHANGES};
use crate::mirror::Mirror;
use crate::wire::{WireChange, WireKind, WireManifest};

/// What was chosen of a line, in the order in which it is taken in.
#[derive(Default)]
pub(crate) struct Chosen {
    changes: Vec<ReceivedChange>,
    /// Bytes of them, about: no less than they take in the log.
    bytes: usize,
    /// Bytes before the change of home's that is being looked at.
    before: usize,
    /// Manifests among them, and among those that were taken out.
    manifests: BTreeSet<(RepositoryName, Digest)>,
}

impl Chosen {
    /// Whether it is time to take them in.
    pub(crate) fn is_full(&self) -> bool {
        self.changes.len() >= MAX_PAGE_CHANGES || self.bytes >= MAX_PAGE_BYTES
    }

    /// Takes them out.
    pub(crate) fn take(&mut self) -> Vec<ReceivedChange> {
        (self.bytes, self.before) = (0, 0);
        std::mem::take(&mut self.changes)
    }

    /// Another change of home's is looked at.
    fn begin(&mut self) {
        self.before = self.bytes;
    }

    /// An error if one change of home's brings more with it than an entry of the log holds.
    fn push(&mut self, change: ReceivedChange) -> Result<(), HomeError> {
        self.bytes += bytes_of(&change);
        if self.bytes - self.before > MAX_CHOSEN_BYTES {
            let (repository, sequence) = (change.kind.repository(), change.position.sequence);
            let why =
                format!("what change {sequence} of {repository} brings with it is too much for an entry of the log");
            return Err(HomeError::Resynchronise(why));
        }
        self.changes.push(change);
        Ok(())
    }
}

/// No less than a change takes in the log. What is said of a manifest, such as the digests of its blobs, takes no more than
/// its text does, once for the blobs and once for what is listed of it.
fn bytes_of(change: &ReceivedChange) -> usize {
    let manifest = change.manifest.as_ref().map_or(0, |manifest| usize::try_from(manifest.size).unwrap_or(usize::MAX));
    let tags = match &change.kind {
        ChangeKind::ManifestPut { tags, .. } => tags.iter().map(|tag| tag.as_str().len() + 2).sum(),
        _ => 0,
    };
    // Tags are told twice.
    CHANGE_BYTES.saturating_add(manifest.saturating_mul(3)).saturating_add(2 * tags)
}

/// Where a change is in home's feed, and when it was made.
#[derive(Clone, Copy)]
struct Moment {
    position: Position,
    at: LogTime,
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
        chosen.begin();
        let share = self.filter.share(change.kind.repository());
        match (share, change.kind) {
            (Share::Nothing, _) => Ok(()),
            (Share::Chosen, WireKind::BlobLinked { repository, digest, size }) => {
                if self.names_blob(&repository, &digest)? {
                    let kind = WireKind::BlobLinked { repository, digest, size };
                    chosen.push(self.received(WireChange { kind, ..change }).await?)?;
                }
                Ok(())
            }
            (Share::Chosen, WireKind::ManifestPut { repository, digest, tags, manifest }) => {
                let moment = Moment { position: change.position, at: change.at };
                self.choose_manifest(moment, &repository, digest, tags, manifest, chosen).await
            }
            (_, kind) => {
                if let WireKind::ManifestDeleted { repository, .. } = &kind {
                    // It may be put again.
                    self.lacked.forget(repository);
                }
                chosen.push(self.received(WireChange { kind, ..change }).await?)?;
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
        let read = match sent.and_then(|sent| Read::new(digest, sent.media_type, sent.text.into())) {
            Some(read) => read,
            None => match self.read_at_home(repository, digest).await {
                Ok(Some(read)) => read,
                // It is deleted: the feed says so later, and of a tag that pointed elsewhere before only if it is known that it
                // came here.
                Ok(None) if !followed.is_empty() => {
                    let Moment { position, at } = moment;
                    let (repository, tags) = (repository.clone(), followed);
                    let kind = WireKind::ManifestPut { repository, digest, tags, manifest: None };
                    return Ok(chosen.push(self.received(WireChange { position, at, kind }).await?)?);
                }
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
        let is_followed = !followed.is_empty() || goes_with || self.is_followed(repository, &digest, chosen)?;
        if !is_followed && !self.is_listed(repository, &digest).await? {
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
                if !self.take_one(moment, repository, child, chosen, depth + 1).await? {
                    self.lacked.note(repository, child);
                }
            }
            let Moment { position, at } = moment;
            let sizes = stream::iter(read.sizes()).map(|(blob, size)| self.size_of(repository, blob, size));
            for (digest, size) in sizes.buffered(ASKED_AT_ONCE).try_collect::<Vec<_>>().await? {
                let kind = ChangeKind::BlobLinked { repository: repository.clone(), digest, size };
                chosen.push(ReceivedChange { position, at, kind, manifest: None })?;
            }
            let text = String::from_utf8(read.manifest.bytes().to_vec()).ok();
            let manifest = text
                .filter(|text| text.len() <= PutManifest::MAX_INLINE)
                .map(|text| WireManifest { media_type: read.media_type, text });
            let kind = WireKind::ManifestPut { repository: repository.clone(), digest, tags, manifest };
            chosen.push(self.received(WireChange { position, at, kind }).await?)?;
            chosen.manifests.insert((repository.clone(), digest));
            self.take_referrers(moment, repository, &digest, chosen, depth).await
        }
        .boxed()
    }

    /// Takes a manifest that goes with another one, where home gives it; whether it has it.
    async fn take_one(
        &self,
        moment: Moment,
        repository: &RepositoryName,
        digest: Digest,
        chosen: &mut Chosen,
        depth: u32,
    ) -> Result<bool, FollowError> {
        match self.read_at_home(repository, digest).await {
            Ok(Some(read)) => {
                self.take(moment, repository, digest, Vec::new(), read, chosen, depth).await?;
                Ok(true)
            }
            // An index may list what is not there.
            Ok(None) => Ok(false),
            Err(FollowError::Home(error)) if self.contact.is_there() => {
                warn!(%repository, %digest, reason = %error, "a manifest is read through: {error}");
                Ok(true)
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
        for referrer in self.known_referrers(repository, subject).await? {
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

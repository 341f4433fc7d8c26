//! What a mirror with a filter follows of what home has.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use roadstead_oci::{Digest, RepositoryName};
use tracing::warn;

use super::{ASKED_AT_ONCE, Holdings};
use crate::filter::Share;
use crate::follow::FollowError;
use crate::mirror::Mirror;

/// What a manifest needs, and goes with.
struct Needs {
    children: Vec<Digest>,
    blobs: Vec<Digest>,
    subject: Option<Digest>,
}

impl Mirror {
    /// What is followed of a repository.
    pub(super) async fn choose_holdings(
        &self,
        repository: &RepositoryName,
        home: Holdings,
    ) -> Result<Holdings, FollowError> {
        match self.filter.share(repository) {
            Share::Everything => return Ok(home),
            Share::Nothing => return Ok(Holdings::default()),
            Share::Chosen => {}
        }
        let needs = self.needs(repository, &home.manifests).await?;
        let mut tags = home.tags;
        tags.retain(|tag, digest| self.follows_tag(repository, tag) && needs.contains_key(digest));
        let mut manifests = BTreeSet::new();
        let mut next: Vec<Digest> = tags.values().copied().collect();
        // What is found says of something else whether that is followed: until nothing is found any more.
        while !next.is_empty() {
            while let Some(digest) = next.pop() {
                if let Some(needed) = needs.get(&digest)
                    && manifests.insert(digest)
                {
                    next.extend(&needed.children);
                }
            }
            for (digest, needed) in &needs {
                let is_of_one = needed.subject.is_some_and(|subject| manifests.contains(&subject));
                if is_of_one && !manifests.contains(digest) {
                    next.push(*digest);
                }
            }
        }
        let mut blobs = home.blobs;
        let needed: BTreeSet<&Digest> =
            manifests.iter().filter_map(|digest| needs.get(digest)).flat_map(|needs| &needs.blobs).collect();
        blobs.retain(|digest, _| needed.contains(digest));
        Ok(Holdings { blobs, manifests, tags })
    }

    /// What each of these manifests needs, of those that are here or that home gives.
    async fn needs(
        &self,
        repository: &RepositoryName,
        manifests: &BTreeSet<Digest>,
    ) -> Result<BTreeMap<Digest, Needs>, FollowError> {
        let asked = stream::iter(manifests.iter().copied())
            .map(|digest| async move { (digest, self.read_here_or_at_home(repository, digest).await) });
        let mut asked = asked.buffer_unordered(ASKED_AT_ONCE);
        let mut needs = BTreeMap::new();
        while let Some((digest, read)) = asked.next().await {
            match read {
                Ok(Some(read)) => {
                    let blobs = read.blobs();
                    let children = read.children(&self.filter);
                    needs.insert(digest, Needs { children, blobs, subject: read.subject() });
                }
                Ok(None) => {}
                Err(FollowError::Home(error)) if self.contact.is_there() => {
                    warn!(%repository, %digest, reason = %error, "a manifest is read through: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(needs)
    }
}

//! Listings, a page at a time: tags, repositories, referrers. Each page looks at one row more than it has room for, and
//! shows fewer where some may not be seen.

use std::time::Duration;

use roadstead_metadata::{QueryError, ReferrerEntry};
use roadstead_oci::{Digest, Page, RepositoryName, Tag};

use crate::access::Identity;
use crate::fault::Fault;
use crate::registry::Registry;

/// Entries, and whether there are more after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// In the order of the listing.
    pub entries: Vec<T>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// How long ago this replica heard of a leader, if none confirmed that this is the newest.
    pub stale: Option<Duration>,
}

impl<T> Listed<T> {
    /// `entries` are up to one more than the page has room for.
    fn new(mut entries: Vec<T>, limit: usize, stale: Option<Duration>, name: impl Fn(&T) -> String) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = if more { entries.last().map(name) } else { None };
        Self { entries, next, stale }
    }
}

/// Why tags were not listed.
#[derive(Debug, thiserror::Error)]
pub enum ListTagsError {
    /// There is no such repository.
    #[error("there is no such repository")]
    RepositoryUnknown,
    /// What the registry stands on failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Registry {
    /// A page of a repository's tags.
    pub async fn list_tags(&self, repository: &RepositoryName, page: &Page) -> Result<Listed<Tag>, ListTagsError> {
        let stale = self.freshen().await?;
        let limit = limit(page);
        let query = self.metadata.query().map_err(Fault::from)?;
        if query.repository(repository).map_err(Fault::from)?.is_none() {
            return Err(if stale.is_some() { Fault::Leaderless.into() } else { ListTagsError::RepositoryUnknown });
        }
        let tags = query.tags(repository, page.last.as_deref(), limit + 1).map_err(Fault::from)?;
        Ok(Listed::new(tags, limit, stale, Tag::to_string))
    }

    /// A page of the repositories that `identity` may pull from.
    pub async fn list_repositories(&self, identity: &Identity, page: &Page) -> Result<Listed<RepositoryName>, Fault> {
        let stale = self.freshen().await?;
        let limit = limit(page);
        let rows = self.metadata.query()?.repositories(page.last.as_deref(), limit + 1)?;
        let last_row = rows.last().map(RepositoryName::to_string);
        let all_seen = rows.len() <= limit;
        let visible: Vec<_> = rows.into_iter().filter(|name| self.options.access.rights(identity, name).pull).collect();
        let mut listed = Listed::new(visible, limit, stale, RepositoryName::to_string);
        if listed.next.is_none() && !all_seen {
            listed.next = last_row; // some rows were hidden: go on after the last one that was looked at
        }
        Ok(listed)
    }

    /// A page of the manifests that name `subject`. Empty if there are none, or no such repository.
    pub async fn list_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
    ) -> Result<Listed<ReferrerEntry>, Fault> {
        let stale = self.freshen().await?;
        let limit = limit(&Page::default());
        let entries = self.metadata.query()?.referrers(repository, subject, artifact_type, last, limit + 1)?;
        Ok(Listed::new(entries, limit, stale, |entry| entry.digest.to_string()))
    }

    /// Whether a repository holds anything.
    pub fn repository_exists(&self, repository: &RepositoryName) -> Result<bool, QueryError> {
        Ok(self.metadata.query()?.repository(repository)?.is_some())
    }
}

fn limit(page: &Page) -> usize {
    page.limit() as usize
}

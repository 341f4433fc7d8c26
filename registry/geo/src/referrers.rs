//! What refers to a manifest: signatures, attestations, bills of materials.
//!
//! A mirror that follows all of a repository lists what it has. One that follows a part asks home, since it does not know what
//! it lacks; while home is away it lists what it has of what it follows, with which all that refers to it was copied.

use std::sync::atomic::Ordering;

use roadstead_domain::{Fault, Listed, Registry};
use roadstead_metadata::{AnnouncedManifest, ReferrerEntry};
use roadstead_oci::{Digest, Manifest, RepositoryName};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::follow::{Pauses, in_time};
use crate::home::HomeError;
use crate::limits::{MAX_PAGE_BYTES, SIZE_ATTEMPTS};
use crate::mirror::Mirror;
use crate::pull::{PullError, unanswered};

/// The longest page that is read: one holds `MAX_PAGE_BYTES` of entries, or one entry more, whose annotations are part of a
/// manifest.
pub const MAX_REFERRERS_BYTES: usize = 2 * Manifest::MAX_SIZE;

/// A page of what refers to a manifest, as home tells its mirrors. Fields are added, never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeReferrers {
    /// In the order of their digests.
    pub referrers: Vec<HomeReferrer>,
    /// Whether there are more, behind the last of these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A manifest that refers to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeReferrer {
    /// The one that refers.
    pub digest: Digest,
    /// As its client declared it.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Of the manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<(String, String)>,
}

impl From<ReferrerEntry> for HomeReferrer {
    fn from(entry: ReferrerEntry) -> Self {
        let ReferrerEntry { digest, media_type, size, artifact_type, annotations } = entry;
        Self { digest, media_type, size, artifact_type, annotations }
    }
}

impl From<Listed<ReferrerEntry>> for HomeReferrers {
    fn from(listed: Listed<ReferrerEntry>) -> Self {
        let more = listed.next.is_some();
        Self { referrers: listed.entries.into_iter().map(HomeReferrer::from).collect(), more }
    }
}

impl From<HomeReferrer> for ReferrerEntry {
    fn from(referrer: HomeReferrer) -> Self {
        let HomeReferrer { digest, media_type, size, artifact_type, annotations } = referrer;
        Self { digest, media_type, size, artifact_type, annotations }
    }
}

impl HomeReferrer {
    /// About how many bytes it is in an answer.
    fn bytes(&self) -> usize {
        let annotations: usize = self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        200 + self.media_type.len() + annotations
    }
}

/// A page of what refers to a manifest, behind `last`, as this registry tells its mirrors. Nothing, while no leader says that
/// it is the newest.
pub async fn home_referrers(
    registry: &Registry,
    repository: &RepositoryName,
    subject: &Digest,
    last: Option<&Digest>,
) -> Result<HomeReferrers, Fault> {
    let listed = registry.list_referrers(repository, subject, None, last).await?;
    if listed.stale.is_some() {
        return Err(Fault::Leaderless);
    }
    let mut page = HomeReferrers { referrers: Vec::new(), more: listed.next.is_some() };
    let mut bytes = 0;
    for entry in listed.entries {
        let referrer = HomeReferrer::from(entry);
        bytes += referrer.bytes();
        if bytes > MAX_PAGE_BYTES && !page.referrers.is_empty() {
            page.more = true;
            break;
        }
        page.referrers.push(referrer);
    }
    Ok(page)
}

impl Mirror {
    /// A page of what refers to a manifest, as home has it; `None` where what is here is to be listed.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
    ) -> Result<Option<Listed<ReferrerEntry>>, PullError> {
        if !self.may_lack(repository) {
            return Ok(None);
        }
        let asked = if self.contact.is_there() {
            in_time(self.home.referrers(repository, subject, last)).await.map_err(unanswered)
        } else {
            Err(self.away())
        };
        let HomeReferrers { referrers, more } = match asked {
            Ok(page) => page,
            Err(_) if self.has_subject(repository, subject)? => return Ok(None),
            Err(error) => return Err(error),
        };
        let next = referrers.last().filter(|_| more).map(|last| last.digest.to_string());
        let is_asked_for = |referrer: &HomeReferrer| {
            artifact_type.is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted))
        };
        let entries = referrers.into_iter().filter(is_asked_for).map(ReferrerEntry::from).collect();
        Ok(Some(Listed { entries, next, stale: None }))
    }

    /// Whether a manifest is here, or will be: then so is what refers to it.
    fn has_subject(&self, repository: &RepositoryName, subject: &Digest) -> Result<bool, Fault> {
        let query = self.registry.metadata().query()?;
        let is_coming = matches!(query.announced_manifest(repository, subject)?, AnnouncedManifest::Coming(_));
        Ok(is_coming || query.manifest(repository, subject)?.is_some())
    }

    /// All that refers to a manifest at home, as far as it says so: nothing, where it is of an earlier release. Once it is not
    /// any more, what was left out is found by a comparison.
    pub(crate) async fn known_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Digest>, HomeError> {
        let (mut attempts, mut pauses) = (0, Pauses::new());
        loop {
            match self.referrers_at_home(repository, subject).await {
                // Something between here and home may say the same for a moment.
                Err(HomeError::NotServed) if !self.lists_no_referrers() && attempts < SIZE_ATTEMPTS => {
                    attempts += 1;
                    pauses.wait(&self.ending()).await;
                }
                Err(HomeError::NotServed) => {
                    if !self.lists_no_referrers.swap(true, Ordering::Relaxed) {
                        warn!(
                            home = self.home(),
                            "home is of an earlier release and does not say what refers to an image: signatures that were \
                             there before their image was followed are not copied until home is upgraded"
                        );
                    }
                    return Ok(Vec::new());
                }
                Ok(_) if self.lists_no_referrers.swap(false, Ordering::Relaxed) => {
                    return Err(HomeError::Resynchronise("home says since what refers to an image".to_owned()));
                }
                known => return known,
            }
        }
    }

    /// All that refers to a manifest at home.
    async fn referrers_at_home(&self, repository: &RepositoryName, subject: &Digest) -> Result<Vec<Digest>, HomeError> {
        let mut found = Vec::new();
        loop {
            let HomeReferrers { referrers, more } =
                in_time(self.home.referrers(repository, subject, found.last())).await?;
            let is_over = !more || referrers.is_empty();
            found.extend(referrers.into_iter().map(|referrer| referrer.digest));
            if is_over {
                return Ok(found);
            }
        }
    }
}

//! A home that was, as a mirror of its successor: what that one lacks is kept aside first, and pushed again there, if
//! somebody says so.
//!
//! ```text
//!  told of a higher epoch --fenced--> what it changed behind the fork: kept aside --comparison--> a mirror like others
//!                                        '-- pushed again at the new home, or dismissed
//! ```

use std::sync::Arc;

use roadstead_domain::{AsidePut, Fault, Precondition};
use roadstead_metadata::{KeepAsideRefused, Position, Standing};
use roadstead_oci::{Digest, MediaType, Reference, RepositoryName, Tag};
use tracing::{info, warn};

use crate::follow::FollowError;
use crate::home::HomeError;
use crate::home_writes::WrittenManifest;
use crate::mirror::Mirror;
use crate::region::RegionReport;
use crate::write::WriteError;

/// A manifest that was kept aside, and is at home now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedAgain {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
    /// Tags that point at it now.
    pub tags: Vec<Tag>,
    /// Tags that point elsewhere at home and were left alone. Then it is still kept aside.
    pub left: Vec<Tag>,
}

/// Why something that is kept aside was not pushed again.
#[derive(Debug, thiserror::Error)]
pub enum PushAgainError {
    /// There is no such change, or there is no manifest with it any more.
    #[error("no manifest is kept aside under that sequence")]
    Unknown,
    /// Home did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<Fault> for PushAgainError {
    fn from(fault: Fault) -> Self {
        Self::Write(fault.into())
    }
}

impl Mirror {
    /// Whether this region has anything, though it has followed nobody.
    pub(crate) fn has_own_content(&self) -> Result<bool, Fault> {
        Ok(!self.registry.metadata().query()?.repositories(None, 1)?.is_empty())
    }

    /// A home that stands still for a mirror is not like that one before it has taken over: until then this one may go on,
    /// and has what it acknowledged.
    pub(crate) fn require_no_handover(&self) -> Result<(), FollowError> {
        let query = self.registry.metadata().query().map_err(Fault::from)?;
        if query.handing_over().map_err(Fault::from)?.is_none() {
            return Ok(());
        }
        Err(self.refuse(
            "this region hands over to a mirror that has not taken over yet, and follows it when it has: until then \
             `roadstead demote --cancel`, without `upstream`, has this one go on",
        ))
    }

    /// Before the comparison with a home gives anything up that was pushed here: keeps it aside.
    pub(crate) async fn keep_aside(&self, home: &RegionReport) -> Result<(), FollowError> {
        let standing = self.registry.region()?.standing;
        if standing == Standing::Home && self.has_own_content()? {
            return Err(self.refuse("this region has content of its own, and the upstream has not taken over from it"));
        }
        if standing != Standing::Fenced {
            return Ok(());
        }
        let own = self.registry.metadata().identity().cluster;
        let newest = self.registry.metadata().query().map_err(Fault::from)?.position().map_err(Fault::from)?;
        // Where the histories parted is known of those who took over from this one. Else all that is kept of the feed is set
        // aside, and the listing tells what of it the new home has.
        let promotion = home.promotion.filter(|promotion| promotion.from.0 == own);
        let fork = promotion.map(|promotion| promotion.fork).filter(|fork| fork.epoch == newest.epoch);
        match self.registry.keep_aside(fork.unwrap_or_default()).await? {
            Ok(0) => info!("nothing that was acknowledged here is missing at the new home"),
            Ok(kept) => warn!(
                kept,
                "{kept} changes that were acknowledged here are kept aside: `roadstead aside` lists them, and which of them \
                 the new home has all the same"
            ),
            // Another replica has come first.
            Err(KeepAsideRefused::NotFenced) => {}
            Err(KeepAsideRefused::Trimmed { oldest }) => {
                let why = format!(
                    "what the new home lacks reaches further back than the changes that are kept here, to change {}: keep \
                     this data folder, and start the mirror with an empty one",
                    oldest.sequence
                );
                return Err(self.refuse(&why));
            }
        }
        Ok(())
    }

    /// Somebody has to look; it is said for as long as home is heard of.
    fn refuse(&self, why: &str) -> FollowError {
        self.contact.note(Some(why.to_owned()));
        HomeError::Refused(why.to_owned()).into()
    }

    /// Pushes a manifest that is kept aside at home, with all that it names: under its digest, and those of its tags that
    /// home does not have, or all of them, if it `moves_tags`; but for those that it goes `without`, since they pointed
    /// elsewhere later. With all of its other tags it is not kept aside any more.
    pub async fn push_again(
        self: &Arc<Self>,
        position: Position,
        moves_tags: bool,
        without: &[Tag],
    ) -> Result<PushedAgain, PushAgainError> {
        self.may_write().await?;
        let AsidePut { repository, digest, tags, media_type, bytes, blobs } =
            self.registry.aside_put(position).await?.ok_or(PushAgainError::Unknown)?;
        for blob in &blobs {
            // What is damaged here, home may have; else it says so.
            let _is_here = self.registry.land_blob(&repository, *blob).await?;
        }
        let declared = MediaType::from_content_type(&media_type).ok();
        let written = |reference, precondition| WrittenManifest {
            repository: repository.clone(),
            reference,
            tags: Vec::new(),
            precondition,
            declared: declared.clone(),
            bytes: bytes.clone(),
        };
        self.put_manifest(written(Reference::Digest(digest), Precondition::None), &blobs).await?;
        let (mut moved, mut left) = (Vec::new(), Vec::new());
        for tag in tags.into_iter().filter(|tag| !without.contains(tag)) {
            let precondition = if moves_tags { Precondition::None } else { Precondition::Absent };
            match self.put_manifest(written(Reference::Tag(tag.clone()), precondition), &[]).await {
                Ok(_stored) => moved.push(tag),
                Err(WriteError::PreconditionFailed) if self.points_at(&repository, &tag, digest).await => {
                    moved.push(tag);
                }
                Err(WriteError::PreconditionFailed) => left.push(tag),
                Err(error) => return Err(error.into()),
            }
        }
        if left.is_empty() {
            self.registry.dismiss_aside(Some(position)).await?;
        }
        Ok(PushedAgain { repository, digest, tags: moved, left })
    }

    async fn points_at(&self, repository: &RepositoryName, tag: &Tag, digest: Digest) -> bool {
        let found = self.find_manifest(repository, &Reference::Tag(tag.clone())).await;
        found.is_ok_and(|found| found.digest == digest)
    }
}

//! What a mirror answers the mirrors that follow it.
//!
//! ```text
//!  home --feed--> mirror of a part --feed of that part--> mirror <--pull of what is left out-- client
//!    '<----------------- asks -----------'<---------- asks ---'
//! ```
//!
//! They are told of what it follows, and that it is a part. Of what it leaves out it has nothing: what they ask for, it asks its
//! own home for, and passes on, since they keep what they need.

use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt as _;
use roadstead_oci::{Digest, Reference, RepositoryName};
use tokio::sync::SemaphorePermit;

use crate::filter::Share;
use crate::follow::in_time;
use crate::home::{HomeBlob, HomeError, HomeManifest};
use crate::limits::MAX_PASSED_ON;
use crate::link::Class;
use crate::mirror::Mirror;

/// What a registry says of itself in each line, besides how far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Whether the mirror that is told may write here.
    pub writes: bool,
    /// Whether this is a mirror that leaves something out.
    pub partial: bool,
}

impl Mirror {
    /// Whether it leaves something out, or what it follows does: then those who follow it are told of a part.
    pub fn is_partial(&self) -> bool {
        !self.filter.is_everything() || self.contact.is_partial()
    }

    /// Whether a repository may have something at home of which nothing is told here.
    pub fn may_lack(&self, repository: &RepositoryName) -> bool {
        self.contact.is_partial() || self.filter.share(repository) != Share::Everything
    }

    /// A manifest that is left out here, as home has it; the bytes were not hashed.
    pub async fn pass_on_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<HomeManifest, HomeError> {
        let _place = self.place_to_pass_on()?;
        in_time(self.home.manifest(repository, reference)).await
    }

    /// The size of a blob that is left out here.
    pub async fn pass_on_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, HomeError> {
        let _place = self.place_to_pass_on()?;
        in_time(self.home.blob_size(repository, digest)).await
    }

    /// A stretch of a blob that is left out here, as home sends it; see [`Home::blob`](crate::Home::blob).
    pub async fn pass_on_blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<HomeBlob, HomeError> {
        let _place = self.place_to_pass_on()?;
        let HomeBlob { size, bytes } = in_time(self.home.blob(repository, digest, range)).await?;
        let mirror = Arc::clone(self);
        let bytes = bytes.then(move |piece| {
            let mirror = Arc::clone(&mirror);
            async move {
                let piece = piece?;
                // Somebody waits for it.
                mirror.link.take(piece.len() as u64, Class::Demand).await;
                Ok(piece)
            }
        });
        Ok(HomeBlob { size, bytes: bytes.boxed() })
    }

    /// Where mirrors follow each other in a ring, none of them is home, and a question goes round until there is no place.
    fn place_to_pass_on(&self) -> Result<SemaphorePermit<'_>, HomeError> {
        if !self.contact.is_there() {
            return Err(HomeError::Away(self.contact.how_silent()));
        }
        self.passing_on.try_acquire().map_err(|_| HomeError::Away(format!("{MAX_PASSED_ON} other questions wait")))
    }
}

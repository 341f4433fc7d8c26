//! Pushes that are acknowledged only when a mirror has them too (`ack`).

use std::time::Duration;

use roadstead_metadata::{NoteRemote, Position, QueryError, RemoteProgress};
use roadstead_oci::{Digest, RepositoryName};
use tokio::time::{Instant, timeout_at};

use crate::fault::Fault;
use crate::manifest::ManifestPutError;
use crate::registry::Registry;

/// When a push is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// When this region has it.
    #[default]
    Local,
    /// When one mirror has it too, whole and durable.
    OneRemote {
        /// How long that may take; then a push is told that it is not so.
        within: Duration,
    },
}

/// What of the feed a mirror has to have.
#[derive(Clone, Copy)]
enum Awaited {
    /// This change.
    Change(Position),
    /// All changes up to there.
    UpTo(Position),
}

impl Awaited {
    fn is_at(self, progress: &RemoteProgress) -> bool {
        match self {
            Self::Change(position) => progress.has(position),
            Self::UpTo(position) => progress.has_all_up_to(position),
        }
    }
}

impl Registry {
    /// When a push is acknowledged here.
    pub fn acknowledges(&self) -> Acknowledge {
        self.options.acknowledge
    }

    /// Notes how far a mirror is.
    pub async fn note_remote(&self, mirror: String, progress: RemoteProgress) -> Result<(), Fault> {
        let Ok(()) = self.propose(NoteRemote { mirror, progress }).await?;
        Ok(())
    }

    /// Waits until a mirror has a manifest that was put here a moment ago.
    pub(crate) async fn until_remote(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        within: Duration,
    ) -> Result<(), ManifestPutError> {
        let failed = |error: QueryError| ManifestPutError::Fault(error.into());
        let deadline = Instant::now() + within;
        let mut applied = self.metadata.subscribe_applied();
        let query = self.metadata.query().map_err(failed)?;
        // What changed nothing has no change of its own, or one long ago.
        let awaited = match query.put_lately(repository, digest).map_err(failed)? {
            Some(position) => Awaited::Change(position),
            None => Awaited::UpTo(query.position().map_err(failed)?),
        };
        drop(query);
        loop {
            applied.borrow_and_update();
            let remotes = self.metadata.query().and_then(|query| query.remotes()).map_err(failed)?;
            if remotes.iter().any(|(_, progress)| awaited.is_at(progress)) {
                return Ok(());
            }
            if timeout_at(deadline, applied.changed()).await.is_err() {
                return Err(ManifestPutError::NoRemote);
            }
        }
    }
}

//! Sending blobs home that clients have pushed to this mirror: each once, however many wait for it.
//!
//! ```text
//!  landed --at once, and again before its manifest--> claim: home has it? --no--> send, resumed where home stands
//! ```
//!
//! Nothing of this is written down here: what home lacks, it says; how much it has of a blob, it says too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream;
use parking_lot::Mutex;
use roadstead_domain::{Fault, FoundBlob};
use roadstead_oci::{Digest, RepositoryName};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::follow::{Pauses, in_time};
use crate::home::HomeError;
use crate::home_writes::Outgoing;
use crate::limits::{LINE_INTERVAL, LOOK, MAX_CLAIMED, SHIP_STALL, SHIPS_AT_ONCE, SMALL_BYTES, WRITE_PATIENCE};
use crate::link::Class;
use crate::mirror::Mirror;
use crate::wire::BlobAnswer;

/// Why a blob was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShipError {
    /// Home did not take it, or is away.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It is not here either.
    #[error("it is not here")]
    NotHere,
    /// This registry could not read it.
    #[error("{0}")]
    Unread(String),
}

impl From<Fault> for ShipError {
    fn from(fault: Fault) -> Self {
        Self::Unread(fault.to_string())
    }
}

type Ended = watch::Receiver<Option<Result<(), ShipError>>>;

/// The blobs that are on their way home.
#[derive(Default)]
pub(crate) struct Ships {
    under_way: Mutex<HashMap<(RepositoryName, Digest), Ended>>,
}

impl Mirror {
    /// Has home hold these blobs of a repository, as far as they are here; what is neither here nor there, home's answer
    /// to the manifest will name.
    pub(crate) async fn bring_home(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digests: &[Digest],
    ) -> Result<(), ShipError> {
        for claimed in digests.chunks(MAX_CLAIMED) {
            let lacking = in_time(self.home.claim(repository, claimed)).await?;
            let sent = stream::iter(lacking).map(|digest| self.ship(repository, digest));
            let mut sent = sent.buffer_unordered(SHIPS_AT_ONCE);
            while let Some(sent) = sent.next().await {
                match sent {
                    Ok(()) | Err(ShipError::NotHere) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Sends a blob that has just landed, so that little is left to do when its manifest comes.
    pub(crate) fn ship_ahead(self: &Arc<Self>, repository: &RepositoryName, digest: Digest) {
        if self.is_ending() || !self.contact.is_there() {
            return;
        }
        let (mirror, repository) = (Arc::clone(self), repository.clone());
        self.tasks.spawn(async move {
            let sent = mirror.bring_home(&repository, &[digest]).await;
            if let Err(error) = sent {
                debug!(%digest, reason = %error, "a blob was not sent home ahead of its manifest: {error}");
            }
        });
    }

    /// Waits until home has a blob that it lacks; begun once for all who wait, and not given up with them.
    async fn ship(self: &Arc<Self>, repository: &RepositoryName, digest: Digest) -> Result<(), ShipError> {
        let mut ended = self.shipping(repository, digest);
        let ended = ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.clone()).unwrap_or(Err(ShipError::Unread("the registry ends".to_owned())))
    }

    fn shipping(self: &Arc<Self>, repository: &RepositoryName, digest: Digest) -> Ended {
        let place = (repository.clone(), digest);
        let mut under_way = self.ships.under_way.lock();
        if let Some(ended) = under_way.get(&place) {
            return ended.clone();
        }
        let (told, ended) = watch::channel(None);
        under_way.insert(place.clone(), ended.clone());
        drop(under_way);
        let mirror = Arc::clone(self);
        self.tasks.spawn(async move {
            let (repository, digest) = &place;
            let sent = tokio::select! {
                sent = mirror.send_whole(repository, digest) => sent,
                () = mirror.until_ending() => Err(ShipError::Unread("the registry ends".to_owned())),
            };
            // Whoever comes from here on asks home anew.
            mirror.ships.under_way.lock().remove(&place);
            told.send_replace(Some(sent));
        });
        ended
    }

    /// Sends a blob, however often the way breaks, as long as home is there and some of it arrives.
    async fn send_whole(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), ShipError> {
        let found = self.registry.find_landed(repository, digest).await?.ok_or(ShipError::NotHere)?;
        let (mut offset, mut pauses, mut last_progress) = (0, Pauses::new(), Instant::now());
        // A large one may have been begun before; what it costs to ask is nothing beside what it would be to send it all.
        if found.size() > SMALL_BYTES
            && let Ok(standing) = in_time(self.home.standing(repository, digest, found.size())).await
        {
            offset = standing;
        }
        loop {
            let error = match self.send_rest(repository, digest, &found, offset).await {
                Ok(BlobAnswer::Held) => return Ok(()),
                Ok(BlobAnswer::Invalid { reason }) => return Err(HomeError::Refused(reason).into()),
                // It was begun before, or another replica sends it.
                Ok(BlobAnswer::GoesOnAt { .. }) => None,
                Err(error @ ShipError::Home(HomeError::Away(_))) => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(error) = &error {
                debug!(%digest, offset, reason = %error, "a blob on its way home broke off and goes on: {error}");
            }
            if last_progress.elapsed() > WRITE_PATIENCE {
                let idle = || HomeError::Away("it does not take the blob".to_owned()).into();
                return Err(error.unwrap_or_else(idle));
            }
            pauses.wait(&self.ending()).await;
            match self.where_it_goes_on(repository, digest, found.size(), error.is_none()).await {
                Ok(None) => return Ok(()),
                Ok(Some(standing)) => {
                    if standing > offset {
                        (last_progress, pauses) = (Instant::now(), Pauses::new());
                    }
                    offset = standing;
                }
                // That is found out again, by sending.
                Err(error) => debug!(%digest, reason = %error, "it is not known where a blob goes on: {error}"),
            }
        }
    }

    /// How much home has of a blob; `None` if it has all of it. Another replica may be sending it, where `others_send`: then
    /// it is waited for as long as that gets on.
    async fn where_it_goes_on(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        others_send: bool,
    ) -> Result<Option<u64>, HomeError> {
        let mut pauses = Pauses::new();
        let mut last = None;
        loop {
            if in_time(self.home.claim(repository, &[*digest])).await?.is_empty() {
                return Ok(None);
            }
            let standing = in_time(self.home.standing(repository, digest, size)).await?;
            if last == Some(standing) || standing == 0 || !others_send {
                return Ok(Some(standing));
            }
            last = Some(standing);
            // Longer than from one checkpoint at home to the next.
            pauses.wait(&self.ending()).await;
            sleep_until(Instant::now() + LINE_INTERVAL).await;
        }
    }

    async fn send_rest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        found: &FoundBlob,
        offset: u64,
    ) -> Result<BlobAnswer, ShipError> {
        let size = found.size();
        let read = self.registry.stream_blob(found, offset..size).await;
        let read = read.map_err(|error| ShipError::Unread(error.to_string()))?;
        let taken = Arc::new(AtomicU64::new(0));
        let bytes = self.outgoing(read, &taken);
        tokio::select! {
            answer = self.home.send(repository, digest, size, offset, bytes) => Ok(answer?),
            () = self.until_stuck(&taken) => Err(HomeError::Away("it takes nothing of a blob any more".to_owned()).into()),
        }
    }

    /// Returns when nothing was taken for too long, or home is away.
    async fn until_stuck(&self, taken: &AtomicU64) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            sleep_until(Instant::now() + LOOK).await;
            let now = taken.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            let patience = if self.contact.is_there() { SHIP_STALL } else { WRITE_PATIENCE };
            if since.elapsed() > patience {
                return;
            }
        }
    }

    async fn until_ending(&self) {
        self.ending().cancelled().await;
    }
}

impl Mirror {
    /// The bytes as they may go over the link; counts what was taken.
    fn outgoing(&self, read: roadstead_domain::ByteStream, taken: &Arc<AtomicU64>) -> Outgoing {
        let (way_home, taken) = (Arc::clone(&self.way_home), Arc::clone(taken));
        read.then(move |piece| {
            let (way_home, taken) = (Arc::clone(&way_home), Arc::clone(&taken));
            async move {
                let piece = piece.map_err(Fault::from)?;
                way_home.take(piece.len() as u64, Class::Demand).await;
                taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok(piece)
            }
        })
        .boxed()
    }
}

//! Home as a mirror reaches it: what the server's endpoints answer, over a way that is far and breaks.
//!
//! ```text
//! mirror --way--> any replica of home: verbs of geo and domain --way--> mirror
//!                      '--lines, pieces: each by itself, in order, as long as both processes live --^
//! ```

mod lines;
mod writes;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use roadstead_domain::{BlobReadError, ManifestReadError};
use roadstead_geo::{
    DemotionToken, FeedLine, HandoverRequest, Home, HomeBlob, HomeError, HomeManifest, HomeReferrers, Lines,
    RegionReport, SnapshotLine, home_referrers, region_report,
};
use roadstead_metadata::{Metadata, Position, Query, QueryError, RemoteProgress};
use roadstead_oci::{Digest, Reference, RepositoryName};

use super::process::Process;
use super::replica::Serving;
use super::upstream::Upstream;
use super::wan::Direction;

/// In such pieces blobs travel.
const PIECE: usize = 2_000;

/// See the module.
#[derive(Clone)]
pub(super) struct SimulatedHome {
    upstream: Arc<Upstream>,
    /// Of the mirror.
    process: Arc<Process>,
    metadata: Metadata,
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn away(error: impl ToString) -> HomeError {
    HomeError::Away(error.to_string())
}

impl SimulatedHome {
    pub(super) fn new(upstream: &Arc<Upstream>, process: &Arc<Process>, metadata: &Metadata) -> Self {
        Self { upstream: Arc::clone(upstream), process: Arc::clone(process), metadata: metadata.clone() }
    }

    /// Reaches any replica of home.
    async fn reach(&self) -> Result<Serving, HomeError> {
        self.process.pass().await.map_err(|_| away("this process is dead"))?;
        self.upstream.wan.carry(Direction::Home).await.map_err(|_| away("no way to home"))?;
        let home = &self.upstream.home;
        let replicas = home.replicas();
        let serving = home.draw(|random| random.pick(&replicas).serving());
        let serving = serving.filter(|serving| !serving.process.is_dead()).ok_or_else(|| away("nobody listens"))?;
        serving.process.pass().await.map_err(|_| away("the connection broke"))?;
        Ok(serving)
    }

    /// Brings an answer back.
    async fn carry(&self, serving: &Serving) -> Result<(), HomeError> {
        let broke = || away("the connection broke");
        let back = async {
            serving.process.pass().await.map_err(|_| broke())?;
            self.upstream.wan.carry(Direction::Mirror).await.map_err(|_| broke())
        };
        serving.process.unless_dead(back).await.map_err(|_| broke())??;
        self.process.pass().await.map_err(|_| away("this process is dead"))
    }

    /// Asks a replica of home.
    async fn ask<T>(
        &self,
        what: &str,
        serving: &Serving,
        verb: impl Future<Output = Result<T, HomeError>>,
    ) -> Result<T, HomeError> {
        let (here, there) = (&self.process.name, &serving.process.name);
        let answer = serving.process.unless_dead(verb).await.unwrap_or_else(|_| Err(away("the connection broke")));
        let how = match &answer {
            Ok(_) => "given",
            Err(HomeError::Unknown { .. }) => "unknown",
            Err(_) => "not given",
        };
        self.upstream.home.trace.note(format_args!("{here} asks {there} for {what}: {how}"));
        self.carry(serving).await?;
        answer
    }

    /// Takes down what blobs come, and whether they were here already.
    fn note_brought(&self, digest: &Digest, bytes: u64) {
        *self.upstream.brought.lock().entry(*digest).or_default() += bytes;
    }

    fn note_request(&self, digest: &Digest) {
        let is_here = self.metadata.query().and_then(|query| query.object_key(false, digest));
        if matches!(is_here, Ok(Some(_))) {
            self.upstream.needless.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Why something is not found at home: one that is damaged there is not unknown.
fn missing(metadata: &Metadata, is_damaged: impl Fn(&Query) -> Result<bool, QueryError>) -> HomeError {
    let looked = metadata.query().and_then(|query| Ok((is_damaged(&query)?, query.position()?)));
    match looked {
        Ok((true, _)) => away("it is damaged"),
        Ok((false, newest)) => HomeError::Unknown { newest },
        Err(error) => away(error),
    }
}

async fn manifest(
    serving: &Serving,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<HomeManifest, HomeError> {
    let found = match serving.registry.find_manifest(repository, reference).await {
        Ok(found) if found.stale.is_some() => return Err(away("no leader confirms it")),
        Ok(found) => found,
        Err(ManifestReadError::Unknown) => {
            return Err(missing(&serving.metadata, |query| {
                let digest = match reference {
                    Reference::Digest(digest) => Some(*digest),
                    Reference::Tag(tag) => query.tag(repository, tag)?,
                };
                digest.map_or(Ok(false), |digest| query.manifest_set_aside(repository, &digest))
            }));
        }
        Err(ManifestReadError::Fault(fault)) => return Err(away(fault)),
    };
    let bytes = serving.registry.read_manifest(&found).await.map_err(away)?;
    Ok(HomeManifest { digest: found.digest, media_type: found.media_type, bytes })
}

fn no_blob(serving: &Serving, repository: &RepositoryName, digest: &Digest, error: BlobReadError) -> HomeError {
    match error {
        BlobReadError::Unknown => {
            missing(&serving.metadata, |query| Ok(query.blob_set_aside(repository, digest)?.is_some()))
        }
        BlobReadError::Fault(fault) => away(fault),
    }
}

#[async_trait]
impl Home for SimulatedHome {
    fn name(&self) -> &'static str {
        "home"
    }

    async fn feed(&self, after: Position) -> Result<Lines<FeedLine>, HomeError> {
        let serving = self.reach().await?;
        let first = lines::first(&serving, after, self.upstream.kept);
        let first = self.ask(&format!("its feed after {}", after.sequence), &serving, first).await?;
        Ok(lines::follow(self.clone(), serving, first))
    }

    async fn watermarks(&self) -> Result<Lines<FeedLine>, HomeError> {
        let serving = self.reach().await?;
        self.ask("watermarks", &serving, async { Ok(()) }).await?;
        Ok(lines::watermarks(self.clone(), serving))
    }

    async fn snapshot(&self) -> Result<Lines<SnapshotLine>, HomeError> {
        let serving = self.reach().await?;
        self.upstream.snapshots.fetch_add(1, Ordering::Relaxed);
        let snapshot = self.ask("all that it has", &serving, lines::snapshot(&serving)).await?;
        Ok(lines::all(self.clone(), serving, snapshot))
    }

    async fn region(&self) -> Result<RegionReport, HomeError> {
        let serving = self.reach().await?;
        let report = async {
            serving.registry.confirm_newest().await.map_err(away)?;
            region_report(&serving.registry).map_err(away)
        };
        self.ask("who is home", &serving, report).await
    }

    async fn hand_over(&self, _: HandoverRequest) -> Result<DemotionToken, HomeError> {
        Err(HomeError::Refused("nobody is promoted in these worlds".to_owned()))
    }

    async fn report(&self, progress: &RemoteProgress) -> Result<(), HomeError> {
        let serving = self.reach().await?;
        let name = self.upstream.name.clone();
        let noted = Box::pin(async { serving.registry.note_remote(name, progress.clone()).await.map_err(away) });
        self.ask("to hear how far it is", &serving, noted).await
    }

    async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<HomeManifest, HomeError> {
        let serving = self.reach().await?;
        self.ask(&format!("{repository} {reference}"), &serving, manifest(&serving, repository, reference)).await
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<&Digest>,
    ) -> Result<HomeReferrers, HomeError> {
        let serving = self.reach().await?;
        let listed =
            Box::pin(async { home_referrers(&serving.registry, repository, subject, last).await.map_err(away) });
        self.ask(&format!("what refers to {subject}"), &serving, listed).await
    }

    async fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, HomeError> {
        let serving = self.reach().await?;
        let size = Box::pin(async {
            // A client of a mirror that writes relies on what it is told of a blob's being there.
            let found = serving.registry.promise_blob(repository, digest).await;
            found.map(|found| found.size()).map_err(|error| no_blob(&serving, repository, digest, error))
        });
        self.ask(&format!("the size of {digest} in {repository}"), &serving, size).await
    }

    async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<HomeBlob, HomeError> {
        self.note_request(digest);
        let serving = self.reach().await?;
        let opened = Box::pin(async {
            let found = serving.registry.find_blob(repository, digest).await;
            let found = found.map_err(|error| no_blob(&serving, repository, digest, error))?;
            let range = range.start..range.end.min(found.size());
            let bytes = serving.registry.stream_blob(&found, range).await;
            Ok((found.size(), bytes.map_err(|error| no_blob(&serving, repository, digest, error))?))
        });
        let what = format!("{digest} in {repository}, {range:?}");
        let (size, bytes) = self.ask(&what, &serving, opened).await?;
        let pieces = bytes.flat_map(|piece| {
            let pieces: Vec<_> = match piece {
                Ok(piece) => {
                    (0..piece.len()).step_by(PIECE).map(|at| Ok(piece.slice(at..piece.len().min(at + PIECE)))).collect()
                }
                Err(error) => vec![Err(away(error))],
            };
            stream::iter(pieces)
        });
        let (home, digest) = (self.clone(), *digest);
        let state = Some((pieces.boxed(), home, serving));
        let carried = stream::unfold(state, move |state| async move {
            let (mut pieces, home, serving) = state?;
            let piece: Result<Bytes, HomeError> = match serving.process.unless_dead(pieces.next()).await {
                Ok(None) => return None,
                Ok(Some(piece)) => piece,
                Err(_) => Err(away("the connection broke")),
            };
            match home.carry(&serving).await.and(piece) {
                Ok(piece) => {
                    home.note_brought(&digest, piece.len() as u64);
                    Some((Ok(piece), Some((pieces, home, serving))))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(HomeBlob { size, bytes: carried.boxed() })
    }
}

//! What a mirror writes at home.

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use roadstead_domain::BodyError;
use roadstead_geo::{
    BlobAnswer, HomeError, HomeWrites, Outgoing, WriteAnswer, WrittenManifest, delete_manifest, take_blob,
    take_manifest,
};
use roadstead_oci::{Digest, Reference, RepositoryName};

use super::{SimulatedHome, away};
use crate::world::wan::Direction;

#[async_trait]
impl HomeWrites for SimulatedHome {
    async fn claim(&self, repository: &RepositoryName, digests: &[Digest]) -> Result<Vec<Digest>, HomeError> {
        let serving = self.reach().await?;
        let claimed =
            Box::pin(async { serving.registry.claim_blobs(repository, digests.to_vec()).await.map_err(away) });
        self.ask(&format!("{} blobs for {repository}", digests.len()), &serving, claimed).await
    }

    async fn standing(&self, repository: &RepositoryName, digest: &Digest, size: u64) -> Result<u64, HomeError> {
        let serving = self.reach().await?;
        let standing = Box::pin(async {
            let standing = serving.registry.sent_so_far(repository, *digest, size).await;
            standing.map(|standing| standing.offset).map_err(away)
        });
        self.ask(&format!("how far {digest} is"), &serving, standing).await
    }

    async fn send(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        offset: u64,
        bytes: Outgoing,
    ) -> Result<BlobAnswer, HomeError> {
        let serving = self.reach().await?;
        let body = stream::unfold(Some((bytes, self.clone())), |state| async move {
            let (mut bytes, home) = state?;
            let piece = bytes.next().await?;
            let carried = async {
                home.process.pass().await.ok()?;
                home.upstream.wan.carry(Direction::Home).await.ok()
            };
            match (home.process.unless_dead(carried).await, piece) {
                (Ok(Some(())), Ok(piece)) => Some((Ok(piece), Some((bytes, home)))),
                _ => Some((Err(BodyError::Broken), None)),
            }
        });
        let taken = Box::pin(async {
            take_blob(&serving.registry, repository, *digest, size, offset, body.boxed()).await.map_err(away)
        });
        self.ask(&format!("to take {digest} from {offset} on"), &serving, taken).await
    }

    async fn put_manifest(&self, manifest: &WrittenManifest) -> Result<WriteAnswer, HomeError> {
        let serving = self.reach().await?;
        let put = Box::pin(async { take_manifest(&serving.registry, manifest.clone()).await.map_err(away) });
        self.ask(&format!("to put {}", manifest.reference), &serving, put).await
    }

    async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<WriteAnswer, HomeError> {
        let serving = self.reach().await?;
        let deleted = Box::pin(async { delete_manifest(&serving.registry, repository, reference).await.map_err(away) });
        self.ask(&format!("to delete {reference}"), &serving, deleted).await
    }
}

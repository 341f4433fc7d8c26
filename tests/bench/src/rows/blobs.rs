//! The systems that serve blobs, with the same blobs in each: registries, nginx, and the generator's ceiling.

use std::sync::Arc;

use anyhow::{Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::bench::Bench;
use crate::load::{Client, Request, push_blob};
use crate::payload::Payload;
use crate::systems::{Server, Storage};

/// A system and the requests for the blobs that it holds.
pub(super) struct Subject {
    pub(super) server: Server,
    pub(super) requests: Arc<[Request]>,
}

const REPOSITORY: &str = "bench/blobs";

/// Starts them all and gives each `count` blobs of `length` bytes; what each of them then serves is checked.
pub(super) async fn subjects(bench: &Bench, length: u64, count: u64) -> Result<Vec<Subject>> {
    let blobs: Vec<_> = (0..count).map(|_| Payload::new(bench.fresh_seed(), length)).collect();
    let mut subjects = Vec::new();
    for system in bench.registries.with(Storage::Filesystem) {
        let server = bench.registries.start(system, Storage::Filesystem).await?;
        let mut connection = server.connect().await?;
        for blob in &blobs {
            push_blob(&mut connection, REPOSITORY, blob, Client::Docker).await?;
        }
        let targets = blobs.iter().map(|blob| format!("/v2/{REPOSITORY}/blobs/{}", blob.digest()));
        subjects.push(Subject { requests: requests(targets, length), server });
    }
    let files: Vec<_> = blobs.iter().map(|blob| (blob.digest(), blob.to_vec())).collect();
    let nginx = Server::nginx(bench.folder(), &files).await?;
    let targets = blobs.iter().map(|blob| format!("/{}", blob.digest()));
    subjects.push(Subject { requests: requests(targets, length), server: nginx });
    for Subject { server, requests } in &subjects {
        // Read from the disk once, their pages are as the kernel reads them, for each system, and not as it was written.
        server.settle()?;
        let mut connection = server.connect().await?;
        for (request, blob) in requests.iter().zip(&blobs) {
            let (_, body) = connection.fetch(request).await?;
            let digest = format!("sha256:{}", hex::encode(Sha256::digest(&body)));
            ensure!(digest == blob.digest(), "{} serves other bytes than it was given", server.system.name());
        }
    }
    let ceiling = Server::ceiling(bench.folder()).await?;
    let targets = std::iter::once(format!("/bytes/{length}"));
    subjects.push(Subject { requests: requests(targets, length), server: ceiling });
    // What was just written is written back now and not while others are measured.
    rustix::fs::sync();
    Ok(subjects)
}

fn requests(targets: impl Iterator<Item = String>, length: u64) -> Arc<[Request]> {
    targets.map(|target| Request::get(&target).expecting(length)).collect()
}

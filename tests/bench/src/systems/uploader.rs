//! Roadstead's S3 client alone, in a process of its own: what is left of a push to a bucket when nothing is received,
//! checked or committed.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use roadstead_blobs::{MultipartStore, S3Store};
use roadstead_oci::{ObjectKey, Part};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::Minio;
use crate::payload::{Block, Payload};

/// The part size and the number of parts on their way that a registry has by default.
const PART: u64 = 8 << 20;
const PARTS_IN_FLIGHT: usize = 3;

/// Runs this program again as such an uploader and returns how long the upload took, by its own clock.
pub(crate) fn upload_alone(minio: &Minio, seed: u64, length: u64) -> Result<Duration> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["upload", &minio.endpoint(), &seed.to_string(), &length.to_string()]).output()?;
    ensure!(output.status.success(), "the uploader failed: {}", String::from_utf8_lossy(&output.stderr));
    let seconds: f64 = String::from_utf8(output.stdout)?.trim().parse().context("the uploader prints seconds")?;
    Ok(Duration::from_secs_f64(seconds))
}

/// Uploads a payload to the bucket in equal parts, and returns how long it took.
pub(crate) async fn upload(endpoint: &str, seed: u64, length: u64) -> Result<Duration> {
    let store = Arc::new(S3Store::connect(Minio::options(endpoint)).await?);
    let key = ObjectKey::blob(Uuid::from_u64_pair(seed, length));
    let payload = Payload::new(seed, length);
    let mut block = Block::new();
    let start = Instant::now();
    let id = store.create_multipart(&key).await?;
    let mut parts = Vec::new();
    let mut from = 0;
    let mut running = JoinSet::new();
    for number in 1.. {
        if from == length {
            break;
        }
        let to = (from + PART).min(length);
        let content = part(&mut block, &payload, from, to);
        let (store, key, id) = (Arc::clone(&store), key.clone(), id.clone());
        running.spawn(async move { store.put_part(&key, &id, number, PART, content).await });
        if running.len() >= PARTS_IN_FLIGHT
            && let Some(sent) = running.join_next().await
        {
            parts.push(sent??);
        }
        from = to;
    }
    while let Some(sent) = running.join_next().await {
        parts.push(sent??);
    }
    parts.sort_unstable_by_key(|part: &Part| part.number);
    store.persist(&key, &id, &parts).await?;
    store.complete(&key, &id, &parts).await?;
    Ok(start.elapsed())
}

fn part(block: &mut Block, payload: &Payload, from: u64, to: u64) -> Bytes {
    let mut content = Vec::with_capacity(usize::try_from(to - from).unwrap_or_default());
    let mut offset = from;
    while offset < to {
        let bytes = block.bytes(payload, offset, to);
        content.extend_from_slice(bytes);
        offset += bytes.len() as u64;
    }
    content.into()
}

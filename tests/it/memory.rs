//! Memory is bounded by a budget, not by the number of pushes or the length of blobs (P5).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::Body;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, interval};

use crate::harness::{Forwarder, Roadstead, S3, S3Kind, Setup, alone, random_bytes};

const MIB: u64 = 1 << 20;
const PIECE: usize = 1 << 20;
const BUDGET: u64 = 32 * MIB;
/// What a registry needs beside the content that it moves: its own state and buffers, and what the allocator keeps back.
const REST: u64 = 64 * MIB;

fn setup(setup: Setup) -> Setup {
    setup.flag("--part-size", "5MiB").flag("--memory-budget", "32MiB")
}

/// A blob of many pieces that differs from any other `number`'s, made while it is sent; and its digest.
struct Blob {
    pieces: Vec<Bytes>,
}

impl Blob {
    fn new(number: u64, mebibytes: u64) -> Self {
        let rest = Bytes::from(random_bytes(0, PIECE));
        let mut pieces = vec![Bytes::from(random_bytes(number, PIECE))];
        pieces.extend((1..mebibytes).map(|_| rest.clone()));
        Self { pieces }
    }

    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        self.pieces.iter().for_each(|piece| hasher.update(piece));
        format!("sha256:{}", hex::encode(hasher.finalize()))
    }

    /// A body that counts what of it was taken.
    fn body(&self, taken: Arc<AtomicU64>) -> Body {
        let pieces = self.pieces.clone().into_iter().map(move |piece| {
            taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok::<_, std::io::Error>(piece)
        });
        Body::wrap_stream(stream::iter(pieces))
    }
}

async fn push(registry: &Roadstead, number: u64, mebibytes: u64, taken: Arc<AtomicU64>) {
    let blob = Blob::new(number, mebibytes);
    let mut upload = registry.client().begin(&format!("team/{number}")).await;
    upload.stream(blob.body(taken)).await.status(202);
    upload.put(&blob.digest(), Vec::new()).await.status(201);
}

#[tokio::test]
async fn p5_many_pushes_at_once_stay_within_the_budget() {
    let _alone = alone().await;
    let registry = setup(Setup::filesystem()).start().await;
    push(&registry, 1, 6, Arc::default()).await;
    let before = registry.peak_memory();
    let registry = &registry;
    // 40 pushes that each want a part of 5 MiB, and more, at once: 200 MiB, if nothing held them back.
    stream::iter(2..42).for_each_concurrent(None, |number| push(registry, number, 12, Arc::default())).await;
    let peak = registry.peak_memory();
    assert!(peak < before.max(BUDGET) + BUDGET + REST, "{} MiB after {} MiB", peak / MIB, before / MIB);
}

#[tokio::test]
async fn p5_a_slow_bucket_slows_the_client_and_does_not_fill_memory() {
    let _alone = alone().await;
    let s3 = S3::start(S3Kind::Minio).await;
    let wire = Forwarder::to(s3.address()).await;
    // The client is not to be taken for idle while it is the bucket that is slow.
    let registry = setup(Setup::s3_through(&wire.endpoint())).flag("--body-idle-timeout", "5s").start().await;
    push(&registry, 1, 6, Arc::default()).await;
    let before = registry.peak_memory();

    wire.stall();
    let taken = Arc::new(AtomicU64::new(0));
    let stalling = async {
        let stood_still = taken_until_still(&taken).await;
        let peak = registry.peak_memory();
        wire.resume();
        (stood_still, peak)
    };
    let (stood_still, peak) = tokio::join!(stalling, push(&registry, 2, 300, Arc::clone(&taken))).0;
    // The budget, and what is in the buffers of three sockets.
    assert!(stood_still < BUDGET + 40 * MIB, "{} MiB were taken from the client", stood_still / MIB);
    assert!(peak < before + BUDGET + REST, "{} MiB after {} MiB", peak / MIB, before / MIB);
}

/// Waits until nothing has been taken for seven seconds, more than what counts as idle, and returns how much was.
async fn taken_until_still(taken: &AtomicU64) -> u64 {
    let mut tick = interval(Duration::from_millis(100));
    let (mut last, mut since) = (0, Instant::now());
    loop {
        tick.tick().await;
        let now = taken.load(Ordering::Relaxed);
        if now != last || now == 0 {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > Duration::from_secs(7) {
            return now;
        }
    }
}

#[tokio::test]
async fn a_large_pull_is_streamed() {
    let _alone = alone().await;
    let registry = setup(Setup::filesystem()).start().await;
    push(&registry, 1, 200, Arc::default()).await;
    let before = registry.peak_memory();
    let client = registry.client();
    let digest = Blob::new(1, 200).digest();
    let target = format!("/v2/team/1/blobs/{digest}");
    let (client, target) = (&client, &target);
    // Eight readers of 200 MiB; what they read is thrown away as a digest.
    let pulls = stream::iter(0..8).map(async |_| {
        let mut pieces = client.get(target).stream().await;
        let mut hasher = Sha256::new();
        while let Some(piece) = pieces.next().await {
            hasher.update(piece.expect("the blob comes to its end"));
        }
        format!("sha256:{}", hex::encode(hasher.finalize()))
    });
    let digests: Vec<String> = pulls.buffer_unordered(8).collect().await;
    assert!(digests.iter().all(|got| *got == digest));
    let peak = registry.peak_memory();
    assert!(peak < before + BUDGET + REST, "{} MiB after {} MiB", peak / MIB, before / MIB);
}

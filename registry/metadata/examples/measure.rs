//! Measures a group of one on this machine's disk: `cargo run --release --example measure -- [FOLDER]`.
//!
//! Prints durable tag puts per second by 1 and by 64 proposers at once, the latency of a linearizable look-up of a
//! manifest by tag, and the time from start to ready: fresh, after a shutdown, and after a crash.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement may stop, and uses the real clock")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use roadstead_metadata::{
    CommandId, LogTime, ManifestContent, Metadata, NewManifest, Options, Precondition, PutManifest,
};
use roadstead_oci::{Algorithm, Hasher, RepositoryName, Tag};
use tokio::task::JoinSet;

const FOR: Duration = Duration::from_secs(3);

static IDS: AtomicU64 = AtomicU64::new(1);

#[tokio::main]
async fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = std::env::args().nth(1).map_or_else(|| scratch.path().join("facts"), Into::into);

    let (metadata, took) = open(&folder).await;
    println!("open, fresh: {took:?}, resident {}", resident());
    for proposers in [1, 64, 512] {
        puts(&metadata, proposers).await;
    }
    reads(&metadata).await;
    println!("{:?}, resident {}", metadata.status(), resident());

    let crashed = scratch.path().join("crashed");
    copy(&folder, &crashed);
    let (after_crash, took) = open(&crashed).await;
    println!("open, after a crash: {took:?}");
    after_crash.shutdown().await.unwrap();

    metadata.shutdown().await.unwrap();
    drop(metadata);
    let (_metadata, took) = open(&folder).await;
    println!("open, after a shutdown: {took:?}");
}

async fn open(folder: &Path) -> (Metadata, Duration) {
    let began = Instant::now();
    let metadata = Metadata::open(Options::new(folder, [1, 2])).await.unwrap();
    (metadata, began.elapsed())
}

async fn puts(metadata: &Metadata, proposers: usize) {
    let latencies = Arc::new(std::sync::Mutex::new(Vec::new()));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for proposer in 0..proposers {
        let (metadata, latencies) = (metadata.clone(), latencies.clone());
        tasks.spawn(async move {
            let mut own = Vec::new();
            while began.elapsed() < FOR {
                let at = Instant::now();
                put(&metadata, proposer, own.len() % 100).await;
                own.push(at.elapsed());
            }
            latencies.lock().unwrap().extend(own);
        });
    }
    while tasks.join_next().await.is_some() {}
    let mut latencies = std::mem::take(&mut *latencies.lock().unwrap());
    latencies.sort_unstable();
    let rate = latencies.len() as u128 * 1000 / began.elapsed().as_millis();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    println!("puts, {proposers} proposers: {rate}/s, p50 {:?}, p99 {:?}", at(50), at(99));
}

async fn put(metadata: &Metadata, proposer: usize, number: usize) {
    let id = IDS.fetch_add(1, Ordering::Relaxed);
    let content = Bytes::from(format!("{{\"number\":{id},\"padding\":\"{}\"}}", "x".repeat(500)));
    let manifest = NewManifest {
        repository: repository(proposer),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        size: content.len() as u64,
        content: ManifestContent::Inline(content.clone()),
        blobs: Vec::new(),
        referrer: None,
        tags: vec![tag(number)],
        precondition: Precondition::None,
        sparse: false,
    };
    let put = PutManifest::new(Hasher::digest(Algorithm::Sha256, &content), manifest);
    metadata.propose(CommandId(id.into()), LogTime(id), put).await.unwrap().unwrap();
}

async fn reads(metadata: &Metadata) {
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < FOR {
        metadata.linearize().await.unwrap();
        let query = metadata.query().unwrap();
        let digest = query.tag(&repository(0), &tag(0)).unwrap().unwrap();
        assert!(query.manifest(&repository(0), &digest).unwrap().is_some());
        count += 1;
    }
    println!("linearizable manifest by tag: {:?} each", began.elapsed() / count);
    let began = Instant::now();
    for _ in 0..count {
        metadata.linearize().await.unwrap();
    }
    println!("linearize alone: {:?} each", began.elapsed() / count);
}

/// Of the whole process, as Linux tells it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}

fn repository(number: usize) -> RepositoryName {
    format!("measure/repository-{number}").parse().unwrap()
}

fn tag(number: usize) -> Tag {
    format!("v{number}").parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

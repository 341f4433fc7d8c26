use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use roadstead_metadata::{
    CollectBlobs, CommandId, LinkBlob, LogTime, Metadata, Operation as Change, Options, ReserveKeys,
};
use roadstead_oci::{Algorithm, Hasher, ObjectKey, RepositoryName};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use uuid::Uuid;

use super::{Row, Running};
use crate::bench::{Bench, say};
use crate::figure::{Figure, Unit};
use crate::load::{Due, Operation, Request, open_loop};
use crate::systems::{Server, Storage, System, data};

pub(super) const ROW: Row = Row {
    name: "garbage",
    workload: "Images with a layer of 100 KB, pushed 40 a second whether or not they were answered, for three times the \
               measuring time: beside a collection that has 40,000 objects of 1 KB to delete, 40,000 blobs to condemn and \
               40,000 to unlink, all overdue, and on the same registry when that is over.",
    run,
};

/// Of each of the three kinds.
const GARBAGE: u32 = 40_000;
const OBJECT_BYTES: usize = 1_000;
const RATE: u32 = 40;
const CLIENTS: usize = 16;
const LAYER: u64 = 100_000;
/// Proposals at once while the garbage is made, and keys of one entry.
const PROPOSERS: u32 = 64;
const KEYS: usize = 1_000;
const DAY: u64 = 24 * 3_600_000;
/// Longer than a collection of all of it may take: ten thousand a minute.
const PATIENCE: Duration = Duration::from_mins(5);

const COLLECTED: &str = "roadstead_collected_blobs_total";
const DELETED: &str = "roadstead_deleted_objects_total";

fn run(bench: &Bench) -> Running<'_> {
    Box::pin(async {
        let mut rate = Figure::new("objects deleted a minute beside pushes", Unit::Count).above(10_000.0);
        let mut with = Figure::new("push beside a collection, p99", Unit::Seconds);
        let mut without = Figure::new("push without a collection, p99", Unit::Seconds);
        let mut ratio = Figure::new("push p99 beside a collection over that without", Unit::Ratio).below(1.5);
        if !bench.registries.with(Storage::Filesystem).contains(&System::Roadstead) {
            return Ok(Vec::new());
        }
        let count = bench.settings.scaled(GARBAGE, 4_000);
        let full = bench.registries.folder()?;
        make(&data(full.path()), count).await?;
        for round in 0..bench.settings.rounds {
            say(&format!("  round {} of {}", round + 1, bench.settings.rounds));
            let server = bench.registries.start_on(System::Roadstead, copy(bench, &full)?).await?;
            rustix::fs::sync();
            until(&server, DELETED, 1.0).await?;
            let (began, before) = (Instant::now(), metric(&server, DELETED).await?);
            let beside = pushes(bench, &server).await?;
            let deleted = metric(&server, DELETED).await? - before;
            // That a fixed amount was deleted sooner is no lower rate.
            let took = if deleted + before < f64::from(count) { began.elapsed() } else { 3 * bench.settings.duration };
            rate.sample(System::Roadstead, deleted * 60.0 / took.as_secs_f64());
            until(&server, COLLECTED, f64::from(count)).await?;
            until(&server, DELETED, f64::from(count)).await?;
            rustix::fs::sync();
            let alone = pushes(bench, &server).await?;
            with.sample(System::Roadstead, beside);
            without.sample(System::Roadstead, alone);
            ratio.sample(System::Roadstead, beside / alone);
        }
        Ok(vec![rate, with, without, ratio])
    })
}

/// The p99 of pushes at the rate of this row.
async fn pushes(bench: &Bench, server: &Server) -> Result<f64> {
    let due = |number: u32| Due {
        at: Duration::from_secs(1) / RATE * number,
        operation: Operation::Push {
            repository: format!("bench/beside-{}", number % 10),
            seed: bench.fresh_seed(),
            layers: vec![LAYER],
        },
        group: 0,
    };
    // At most 60 seconds, three times.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
    let count = (3.0 * bench.settings.duration.as_secs_f64() * f64::from(RATE)) as u32;
    let plan: Arc<[Due]> = (0..count).map(due).collect();
    Ok(open_loop(server.address, &plan, CLIENTS, 1).await?[0].latency(0.99))
}

async fn metric(server: &Server, name: &str) -> Result<f64> {
    let (_, body) = server.connect().await?.fetch(&Request::get("/metrics")).await?;
    let text = String::from_utf8(body)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.with_context(|| format!("/metrics has no {name}"))
}

async fn until(server: &Server, name: &str, least: f64) -> Result<()> {
    let (deadline, mut tick) = (Instant::now() + PATIENCE, interval(Duration::from_millis(100)));
    while metric(server, name).await? < least {
        anyhow::ensure!(Instant::now() < deadline, "{name} does not come to {least}");
        tick.tick().await;
    }
    Ok(())
}

fn copy(bench: &Bench, from: &TempDir) -> Result<TempDir> {
    let to = bench.registries.folder()?;
    let copied = std::process::Command::new("cp").arg("-a").arg(data(from.path())).arg(to.path()).status()?;
    anyhow::ensure!(copied.success(), "the garbage cannot be copied");
    Ok(to)
}

/// The present time, as the registry will stamp it.
#[expect(clippy::disallowed_methods, reason = "what is overdue is so by the real clock")]
fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// Makes a data folder with garbage of each kind, by the log's time more than a month old.
async fn make(data: &Path, count: u32) -> Result<()> {
    let now = now()?;
    let ago = |days: u64| LogTime(now - days * DAY);
    let metadata = Metadata::open(Options::new(data.join("metadata"), [name(), name()])).await?;
    // Linked, let go and condemned: objects to delete.
    let objects = link(&metadata, ago(60), 0, count).await?;
    for (at, before) in [(ago(58), ago(59)), (ago(56), ago(57))] {
        collect(&metadata, at, before, count).await?;
    }
    // Linked and let go: to be condemned.
    link(&metadata, ago(54), count, count).await?;
    collect(&metadata, ago(52), ago(53), count).await?;
    // Linked: to be let go.
    link(&metadata, ago(50), 2 * count, count).await?;
    propose(&metadata, LogTime(now), ReserveKeys { keys: Vec::new() }).await?;
    metadata.shutdown().await?;
    let content = vec![0; OBJECT_BYTES];
    for key in objects {
        // As the file store lays them out (`blobs/src/filesystem/layout.rs`).
        let file = key.as_str().strip_prefix("blobs/").context("the key of a blob")?;
        let folder = data.join("blobs/blobs").join(file.get(..3).context("a name")?);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(file), &content)?;
    }
    Ok(())
}

/// Links `count` blobs, the first of which has the number `first`, and returns the keys of their objects.
async fn link(metadata: &Metadata, at: LogTime, first: u32, count: u32) -> Result<Vec<ObjectKey>> {
    let keys: Vec<ObjectKey> = (0..count).map(|_| ObjectKey::blob(Uuid::from_u128(name()))).collect();
    for keys in keys.chunks(KEYS) {
        propose(metadata, at, ReserveKeys { keys: keys.to_vec() }).await?;
    }
    let shared: Arc<[ObjectKey]> = keys.clone().into();
    let mut proposers = JoinSet::new();
    for proposer in 0..PROPOSERS {
        let (metadata, keys) = (metadata.clone(), Arc::clone(&shared));
        proposers.spawn(async move {
            let repository: RepositoryName = format!("bench/garbage-{proposer}").parse()?;
            for number in (proposer..count).step_by(PROPOSERS as usize) {
                let digest = Hasher::digest(Algorithm::Sha256, &(first + number).to_be_bytes());
                let key = keys[number as usize].clone();
                let link = LinkBlob::new(repository.clone(), digest, OBJECT_BYTES as u64, key, None);
                propose(&metadata, at, link).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = proposers.join_next().await {
        ended??;
    }
    Ok(keys)
}

async fn collect(metadata: &Metadata, at: LogTime, before: LogTime, count: u32) -> Result<()> {
    for _ in 0..count.div_ceil(KEYS.try_into()?) {
        propose(metadata, at, CollectBlobs { before, limit: KEYS.try_into()? }).await?;
    }
    Ok(())
}

async fn propose<O: Change>(metadata: &Metadata, at: LogTime, change: O) -> Result<O::Done>
where
    O::Refused: std::fmt::Debug,
{
    let proposed = metadata.propose(CommandId(name()), at, change).await?;
    proposed.map_err(|refused| anyhow::anyhow!("refused: {refused:?}"))
}

/// A name that nothing else here has; those that follow each other are far apart.
fn name() -> u128 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    u128::from(LAST.fetch_add(1, Ordering::Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

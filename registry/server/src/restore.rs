//! `roadstead backup`, `backup list` and `restore`: the commands that need no registry that runs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roadstead_domain::{
    KeptHistory, Missing, Ports, RecoverProgress, Recovered, RestoreError, RestoreOptions, RestoreProgress, Restored,
    kept, recover, restore, rfc3339,
};
use roadstead_metadata::Until;
use tokio::runtime::Builder;
use tokio::time::Instant;
use uuid::Uuid;

use crate::admin::{self, Taken, bytes as bytes_in_words};
use crate::boot;
use crate::failure::Failure;
use crate::settings::Settings;

/// Missing or lost objects that are listed; of the others the number is told.
const LISTED: usize = 20;

/// Between two lines of progress: people see that it goes on, and logs stay short.
const PROGRESS: Duration = Duration::from_secs(1);

/// What `roadstead restore` is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// A backup.
    Backup {
        history: Option<Uuid>,
        until: Until,
        /// Whether facts that are there already are as good.
        if_empty: bool,
    },
    /// Whatever content there is.
    Recovery,
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Writes a snapshot: the registry that runs does, or, if none does, this process.
pub(crate) fn backup(settings: &Settings, as_json: bool) -> anyhow::Result<String> {
    let taken = match admin::backup(&settings.data)? {
        Some(taken) => taken,
        None => block_on(backup_alone(settings))?,
    };
    if as_json {
        return Ok(serde_json::to_string_pretty(&taken)? + "\n");
    }
    let Taken { sequence, time, key, bytes, .. } = taken;
    Ok(format!("backed up to sequence {sequence} ({time}): {key}, {}\n", bytes_in_words(bytes)))
}

async fn backup_alone(settings: &Settings) -> anyhow::Result<Taken> {
    let folder = settings.data.join("metadata");
    if !folder.is_dir() {
        let what = format!("there is nothing to back up in {}", settings.data.display());
        let next = "say with --data or --config where the registry has its data";
        return Err(Failure::new(what, next).because(anyhow::Error::msg("it has no folder `metadata`")));
    }
    if settings.cluster.is_some() {
        let next = "ask one that runs, with its --data or --config";
        return Err(Failure::new("a replica of several is backed up while it runs", next)
            .because(anyhow::Error::msg("none runs on this data folder")));
    }
    let registry = boot::open_alone(settings).await?;
    boot::claim_store(&registry).await?;
    let taken = admin::take_backup(&registry).await;
    let ended = registry.metadata().shutdown().await;
    let taken =
        taken.map_err(|error| Failure::new("no backup could be written", "look at the blob store").because(error))?;
    ended?;
    Ok(taken)
}

/// What can be restored.
pub(crate) fn list(settings: &Settings, as_json: bool) -> anyhow::Result<String> {
    let kept = block_on(async {
        let store = boot::open_store(settings).await?;
        kept(&*store).await.map_err(|error| failed(&error).because(error))
    })?;
    if as_json { Ok(serde_json::to_string_pretty(&listed(&kept))? + "\n") } else { Ok(listing(&kept)) }
}

fn listed(kept: &[KeptHistory]) -> serde_json::Value {
    let place = |place: &roadstead_domain::Place| serde_json::json!({"sequence": place.position.sequence, "time": rfc3339(&place.time)});
    let histories = kept.iter().map(|history| {
        let snapshots = history.snapshots.iter().map(|snapshot| {
            let mut listed = place(&snapshot.place);
            listed["bytes"] = snapshot.size.into();
            listed["index"] = snapshot.entries.saturating_sub(1).into();
            listed
        });
        serde_json::json!({
            "history": history.id,
            "current": history.is_current,
            "snapshots": snapshots.collect::<Vec<_>>(),
            "segments": history.segments,
            "segment_bytes": history.bytes,
            "last": history.last.as_ref().map(place),
        })
    });
    serde_json::json!({"histories": histories.collect::<Vec<_>>()})
}

fn listing(kept: &[KeptHistory]) -> String {
    let mut text = String::new();
    if kept.is_empty() {
        text.push_str("there is no backup here\n");
    }
    // Writing to a text does not fail.
    for history in kept {
        let current = if history.is_current { ", the one that goes on here" } else { "" };
        let _ = writeln!(text, "history {}{current}", history.id);
        for snapshot in &history.snapshots {
            let (sequence, time) = (snapshot.place.position.sequence, rfc3339(&snapshot.place.time));
            let _ = writeln!(text, "  snapshot of sequence {sequence} ({time}), {}", bytes_in_words(snapshot.size));
        }
        let _ = writeln!(text, "  log of {} objects, {}", history.segments, bytes_in_words(history.bytes));
        if let Some(last) = &history.last {
            let _ = writeln!(text, "  up to sequence {} ({}) at least", last.position.sequence, rfc3339(&last.time));
        }
    }
    text
}

/// Makes the metadata of a new data folder out of what is in the blob store.
pub(crate) fn run(settings: &Settings, wanted: Wanted) -> anyhow::Result<String> {
    let folder = settings.data.join("metadata");
    std::fs::create_dir_all(&settings.data)?;
    block_on(async {
        let store = boot::open_store(settings).await?;
        let ports = boot::ports();
        match wanted {
            Wanted::Backup { history, until, if_empty } => {
                let options = RestoreOptions { folder: folder.clone(), history, until };
                match run_restore(Arc::clone(&store), &ports, &options).await {
                    Ok(restored) => Ok(restored_text(&restored, &folder)),
                    Err(error @ RestoreError::NotEmpty(_)) if if_empty => {
                        Ok(format!("{error}: nothing was restored\n"))
                    }
                    Err(error) => Err(failed(&error).because(error)),
                }
            }
            Wanted::Recovery => {
                let progress = Progress::default();
                let recovered = recover(store, &ports, &folder, |RecoverProgress { objects, bytes }| {
                    progress.tell(|| format!("{objects} objects looked at, {} hashed", bytes_in_words(bytes)));
                });
                let recovered = recovered.await.map_err(|error| failed(&error).because(error))?;
                Ok(recovered_text(&recovered, &folder))
            }
        }
    })
}

async fn run_restore(
    store: Arc<dyn roadstead_blobs::BlobStore>,
    ports: &Ports,
    options: &RestoreOptions,
) -> Result<Restored, RestoreError> {
    let progress = Progress::default();
    restore(store, ports, options, |step| {
        progress.tell(|| match step {
            RestoreProgress::Snapshot { done, total } => {
                format!("snapshot: {} of {}", bytes_in_words(done), bytes_in_words(total))
            }
            RestoreProgress::Log { done, total, sequence } => {
                format!("log: {done} of {total} objects, at sequence {sequence}")
            }
            RestoreProgress::Objects { checked } => format!("looking for blobs and manifests: {checked} so far"),
        });
    })
    .await
}

/// A line on standard error every now and then.
#[derive(Default)]
struct Progress(Mutex<Option<Instant>>);

impl Progress {
    fn tell(&self, line: impl FnOnce() -> String) {
        let mut last = self.0.lock();
        if last.is_some_and(|last| last.elapsed() < PROGRESS) {
            return;
        }
        *last = Some(Instant::now());
        let mut out = io::stderr().lock();
        // On a terminal each line takes the place of the one before. Where it is closed there is nobody to tell.
        let _ = if out.is_terminal() { write!(out, "\r\x1b[K{}\r", line()) } else { writeln!(out, "{}", line()) };
        let _ = out.flush();
    }
}

fn failed(error: &RestoreError) -> Failure {
    let next = match error {
        RestoreError::NotEmpty(_) => "name a new data folder with --data, or move the old one's `metadata` away",
        RestoreError::NoBackup(_) => {
            "look at the storage settings; if there never was a backup, `roadstead restore --recover` brings content back"
        }
        RestoreError::Ambiguous(_) => "name one with --history; `roadstead backup list` shows them",
        RestoreError::TooEarly(_) => "`roadstead backup list` shows what there is",
        RestoreError::Io { .. } => "look at the folder's rights and disk",
        RestoreError::Rebuild(_) => "try an earlier --sequence or --time, which begins with an earlier snapshot",
        RestoreError::Claim(error) => error.advice(),
        RestoreError::Fault(_) => "look at the blob store and its settings",
    };
    Failure::new("nothing was restored", next)
}

fn restored_text(restored: &Restored, folder: &Path) -> String {
    let Restored { from, time, missing, stopped, .. } = restored;
    let mut text = format!(
        "restored {} to sequence {} ({}) of the history {}\n",
        folder.display(),
        from.position.sequence,
        rfc3339(time),
        from.history
    );
    if let Some(why) = stopped {
        let _ = writeln!(text, "this is not all that was asked for: {why}");
    }
    let Missing { named, missing, keys } = missing;
    if *missing == 0 {
        let _ = writeln!(text, "all {named} objects that it names are there");
    } else {
        let _ = writeln!(text, "{missing} of the {named} objects that it names are missing:");
        for key in keys.iter().take(LISTED) {
            let _ = writeln!(text, "  {key}");
        }
        if *missing > LISTED as u64 {
            let _ = writeln!(text, "  ... and {} more", missing - LISTED as u64);
        }
        let _ = writeln!(text, "what they belong to is answered with an error until it is pushed again");
    }
    text
}

fn recovered_text(recovered: &Recovered, folder: &Path) -> String {
    let Recovered { repository, blobs, bytes, manifests, inventories, duplicates, tails, lost } = recovered;
    let mut text = format!(
        "recovered into {}, in the repository `{repository}`: {blobs} blobs ({}), {manifests} manifests\n",
        folder.display(),
        bytes_in_words(*bytes)
    );
    if *inventories > 0 {
        let _ = writeln!(
            text,
            "blobs that no manifest names are listed by the tags inventory-1 to inventory-{inventories}, which keep them"
        );
    }
    let _ = writeln!(
        text,
        "not in the store, and so not back: names of repositories, tags, and manifests of up to 64 KiB; push those again, \
         their blobs are here"
    );
    if duplicates + tails > 0 {
        let _ = writeln!(
            text,
            "left alone: {duplicates} objects that are there twice, {tails} parts of unfinished uploads"
        );
    }
    for (key, why) in lost.iter().take(LISTED) {
        let _ = writeln!(text, "lost: {key}: {why}");
    }
    if lost.len() > LISTED {
        let _ = writeln!(text, "lost: {} more", lost.len() - LISTED);
    }
    text
}

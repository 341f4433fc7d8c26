//! Every task of the process, and what its end means.
//!
//! ```text
//!  spawn(kind, run) --> supervised task --run--> Ok        it has ended, as it meant to
//!                            |                   Err/panic logged, then by kind: run again after a pause, or
//!                            |                             stop the process
//!                            '-- stop: by kind: wait for it to end by itself, or abort it
//! ```
//!
//! Stopping is bounded: what has not ended in time is named in the log and aborted.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{error, info, warn};

/// What a task ends with.
pub(crate) type TaskResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The pause before a failed task runs again: doubled each time, from this ...
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// ... up to this, so that a fault that lasts costs a line in the log each minute, and one that passes a minute's work.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// Accepts connections and drains them.
    Listener,
    /// The same for the admin API.
    AdminListener,
    /// Notices when the facts have stopped for good.
    Vitals,
    /// Reads a file again when it has changed.
    WatchFiles,
    /// Makes a new certificate before the present one expires.
    RenewCertificate,
    /// Answers other replicas.
    PeerListener,
    /// Tells other replicas of this one, and asks for a vote.
    Member,
    /// Ends abandoned uploads and deletes the bytes that no fact names.
    Janitor,
    /// Looks whether everything is as it was.
    Scrub,
    /// Notices when the blob store has become another registry's.
    StoreWatch,
    /// Ships what changes to the blob store.
    Shipping,
    /// Writes snapshots of the facts to the blob store.
    Snapshots,
    /// Receives what changes at home.
    Follow,
    /// Hears how far home is.
    HomeWatch,
    /// Brings blobs from home.
    Movers,
    /// Publishes what has come from home.
    Inbox,
    /// Tells home how far this mirror is.
    Reports,
}

/// What happens to a task when the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnStop {
    /// It sees the token and ends by itself.
    Wait,
    /// It is dropped wherever it waits.
    Abort,
}

/// What happens when a task fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnFailure {
    /// It runs again, after a pause.
    Restart,
    /// The process stops: it cannot do its work without it.
    StopProcess,
}

impl TaskKind {
    const fn on_stop(self) -> OnStop {
        match self {
            Self::Listener
            | Self::AdminListener
            | Self::PeerListener
            | Self::Janitor
            | Self::Scrub
            | Self::Shipping
            | Self::Snapshots
            | Self::Follow
            | Self::HomeWatch
            | Self::Movers
            | Self::Inbox
            | Self::Reports => OnStop::Wait,
            Self::Vitals | Self::WatchFiles | Self::RenewCertificate | Self::Member | Self::StoreWatch => OnStop::Abort,
        }
    }

    const fn on_failure(self) -> OnFailure {
        match self {
            Self::Listener | Self::PeerListener | Self::Member | Self::Vitals | Self::StoreWatch => {
                OnFailure::StopProcess
            }
            Self::AdminListener
            | Self::WatchFiles
            | Self::RenewCertificate
            | Self::Janitor
            | Self::Scrub
            | Self::Shipping
            | Self::Snapshots
            | Self::Follow
            | Self::HomeWatch
            | Self::Movers
            | Self::Inbox
            | Self::Reports => OnFailure::Restart,
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::AdminListener => "admin listener",
            Self::PeerListener => "listener for replicas",
            Self::Member => "membership",
            Self::Vitals => "watch over the metadata",
            Self::WatchFiles => "file watcher",
            Self::RenewCertificate => "certificate renewal",
            Self::Janitor => "janitor",
            Self::Scrub => "scrub",
            Self::StoreWatch => "watch over the blob store",
            Self::Shipping => "backup",
            Self::Snapshots => "snapshots",
            Self::Follow => "following of home",
            Self::HomeWatch => "watch over home",
            Self::Movers => "movers of blobs",
            Self::Inbox => "inbox",
            Self::Reports => "reports to home",
        })
    }
}

/// A task failed that the process cannot do without.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {kind} failed: {reason}")]
pub(crate) struct TaskFailed {
    pub kind: TaskKind,
    pub reason: String,
}

/// Tasks that did not end in time and were aborted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("did not end in time: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub(crate) struct Laggards(pub Vec<TaskKind>);

/// Owns every task. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Supervisor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    stop: CancellationToken,
    /// Cancelled when waiting is over.
    abort: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
    failed: Mutex<Option<TaskFailed>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    kinds: BTreeMap<u64, TaskKind>,
}

impl Supervisor {
    /// Runs a task. `run` makes it, and makes it again if it fails and its kind says so; the token is cancelled when
    /// the process stops.
    pub(crate) fn spawn<R, F>(&self, kind: TaskKind, run: R)
    where
        R: Fn(CancellationToken) -> F + Send + 'static,
        F: Future<Output = TaskResult> + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        let number = shared.enter(kind);
        self.0.tracker.spawn(async move {
            tokio::select! {
                () = shared.supervise(kind, run) => {}
                () = shared.abort.cancelled() => {}
            }
            shared.running.lock().kinds.remove(&number);
        });
    }

    /// Asks every task to end.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Waits until somebody asks for an end: [`stop`](Self::stop), or a task that the process cannot do without.
    pub(crate) async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// The task whose failure stops the process.
    pub(crate) fn failed(&self) -> Option<TaskFailed> {
        self.0.failed.lock().clone()
    }

    /// Stops every task and waits for their ends for so long, then aborts the rest.
    pub(crate) async fn finish(&self, patience: Duration) -> Result<(), Laggards> {
        self.stop();
        self.0.tracker.close();
        if timeout(patience, self.0.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let laggards: Vec<_> = self.0.running.lock().kinds.values().copied().collect();
        for kind in &laggards {
            warn!(task = %kind, waited_seconds = patience.as_secs(), "the {kind} did not end in time and is aborted");
        }
        self.0.abort.cancel();
        self.0.tracker.wait().await;
        if laggards.is_empty() { Ok(()) } else { Err(Laggards(laggards)) }
    }
}

impl Shared {
    fn enter(&self, kind: TaskKind) -> u64 {
        let mut running = self.running.lock();
        running.next += 1;
        let number = running.next;
        running.kinds.insert(number, kind);
        number
    }

    async fn supervise<R, F>(&self, kind: TaskKind, run: R)
    where
        R: Fn(CancellationToken) -> F + Send + 'static,
        F: Future<Output = TaskResult> + Send + 'static,
    {
        let mut pause = FIRST_PAUSE;
        while !self.stop.is_cancelled() {
            let began = Instant::now();
            let Some(ended) = self.run_once(kind, run(self.stop.clone())).await else { return };
            let Err(reason) = ended else { return };
            match kind.on_failure() {
                OnFailure::StopProcess => {
                    error!(task = %kind, reason, "the {kind} failed, and the process stops: {reason}");
                    self.failed.lock().get_or_insert(TaskFailed { kind, reason });
                    self.stop.cancel();
                    return;
                }
                OnFailure::Restart => {
                    if began.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    let seconds = pause.as_secs();
                    warn!(task = %kind, reason, pause_seconds = seconds, "the {kind} failed and runs again in {seconds} s: {reason}");
                    if timeout(pause, self.stop.cancelled()).await.is_ok() {
                        return;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    info!(task = %kind, "the {kind} runs again");
                }
            }
        }
    }

    /// One run in a task of its own, so that a panic ends it and nothing else. `None` if it was stopped.
    async fn run_once<F>(&self, kind: TaskKind, run: F) -> Option<Result<(), String>>
    where
        F: Future<Output = TaskResult> + Send + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "this is the supervisor: it sees the task's end below")]
        let mut task = AbortOnDropHandle::new(tokio::spawn(run));
        let ended = match kind.on_stop() {
            OnStop::Wait => (&mut task).await,
            OnStop::Abort => tokio::select! {
                ended = &mut task => ended,
                () = self.stop.cancelled() => return None,
            },
        };
        Some(match ended {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(panic_message(error)),
        })
    }
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("it panicked: {}", panic_text(&*panic)),
        Err(_) => "it was aborted".to_owned(),
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_task_that_may_fail_runs_again_after_growing_pauses() {
        let supervisor = Supervisor::default();
        let runs = Arc::new(AtomicU32::new(0));
        let (done, mut ended) = tokio::sync::mpsc::channel(1);
        let began = Instant::now();
        supervisor.spawn(TaskKind::Janitor, {
            let runs = Arc::clone(&runs);
            move |_| {
                let run = runs.fetch_add(1, Ordering::Relaxed);
                let done = done.clone();
                async move {
                    match run {
                        0 => Err("the bucket is away".into()),
                        1 => panic!("a bug"),
                        2 => Err("still away".into()),
                        _ => Ok(done.send(()).await?),
                    }
                }
            }
        });
        ended.recv().await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 1 + 2 + 4);
        assert_eq!(supervisor.finish(PATIENCE).await, Ok(()));
        assert_eq!(runs.load(Ordering::Relaxed), 4, "a task that ended well does not run again");
        assert_eq!(supervisor.failed(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_must_not_fail_stops_the_process() {
        let supervisor = Supervisor::default();
        supervisor.spawn(TaskKind::WatchFiles, |_| std::future::pending());
        supervisor.spawn(TaskKind::Listener, |_| async { panic!("no socket") });
        supervisor.stopping().await;
        let failed = supervisor.failed().expect("the failure is kept");
        assert_eq!(failed.to_string(), "the listener failed: it panicked: no socket");
        assert_eq!(supervisor.finish(PATIENCE).await, Ok(()), "what may be aborted does not hold up the end");
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_are_waited_for_are_named_if_they_do_not_end() {
        let supervisor = Supervisor::default();
        let (started, mut starts) = tokio::sync::mpsc::channel(2);
        let drained = Arc::new(AtomicU32::new(0));
        supervisor.spawn(TaskKind::Listener, {
            let (started, drained) = (started.clone(), Arc::clone(&drained));
            move |stop| {
                let (started, drained) = (started.clone(), Arc::clone(&drained));
                async move {
                    started.send(()).await?;
                    stop.cancelled().await;
                    drained.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
            }
        });
        supervisor.spawn(TaskKind::Janitor, move |_| {
            let started = started.clone();
            async move {
                started.send(()).await?;
                std::future::pending().await
            }
        });
        starts.recv().await.unwrap();
        starts.recv().await.unwrap();
        let began = Instant::now();
        assert_eq!(supervisor.finish(PATIENCE).await, Err(Laggards(vec![TaskKind::Janitor])));
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(drained.load(Ordering::Relaxed), 1, "the listener saw the token and ended by itself");
    }
}

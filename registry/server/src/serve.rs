//! `roadstead serve`: from the settings to a registry that serves, and from a signal to its orderly end.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::process;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::boot::{Running, boot};
use crate::cluster::{Removed, hand_over};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::{backup, logs};

/// What tasks and uploads may take beyond the grace of requests, to leave everything in order.
const TIDY_UP: Duration = Duration::from_secs(5);

/// How long another replica may take to lead: a round of votes. Where all are stopped at once there is none.
const HAND_OVER: Duration = Duration::from_secs(2);

/// What a shell reports of a process that a second Ctrl-C ended: 128 + SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Serves until a signal or a failure.
pub(crate) fn serve(settings: Settings) -> anyhow::Result<()> {
    logs::start(&settings.logs)?;
    let runtime = runtime()?;
    let result = runtime.block_on(run(settings));
    // What is left are blocking calls, to a bucket that does not answer for one: nobody waits for them.
    runtime.shutdown_background();
    result
}

/// The threads that everything runs on.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::new("cannot start threads", "look at the system's limits").because(error))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let running = tokio::select! {
        running = boot(&settings) => running?,
        name = signals.next() => {
            info!("{name} came before the registry was ready");
            return Ok(());
        }
    };
    tokio::select! {
        failed = announce(&running) => match failed? {},
        name = signals.next() => info!(grace_seconds = settings.shutdown_grace.as_secs(), "{name}: draining"),
        () = running.supervisor.stopping() => {}
    }
    running.health.draining();
    tokio::select! {
        () = drain(&running, settings.shutdown_grace) => {}
        name = signals.next() => {
            warn!("{name} again: ending at once");
            process::exit(EXIT_INTERRUPTED);
        }
    }
    match running.supervisor.failed() {
        Some(failed) if running.removal.has_happened() => {
            let next = "if it is to take part again, start it with an empty data folder";
            Err(Failure::new("the registry stopped", next).because(Removed(failed)))
        }
        Some(failed) => Err(Failure::new(
            "the registry stopped",
            "do what the reason says, or else start it again; the log says more",
        )
        .because(failed)),
        None => Ok(()),
    }
}

/// Says on standard output that the registry is ready, when it is; scripts wait for this line. Does not end by itself.
async fn announce(running: &Running) -> io::Result<Infallible> {
    running.health.started().await;
    let Running { address, scheme, notice, .. } = running;
    info!(address = %address, "ready on {scheme}://{address}");
    let mut out = io::stdout().lock();
    writeln!(out, "{notice}roadstead is ready on {scheme}://{address}")?;
    out.flush()?;
    drop(out);
    Ok(std::future::pending().await)
}

/// Leadership goes first, while the others are answered; then requests end, then the tasks, then uploads, then the facts.
async fn drain(running: &Running, grace: Duration) {
    match timeout(HAND_OVER, hand_over(running.registry.metadata())).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) => warn!(reason = %refusal, "no other replica takes the leadership over: {refusal}"),
        Err(_) => warn!(waited_seconds = HAND_OVER.as_secs(), "no other replica has taken the leadership over"),
    }
    // The supervisor has named the laggards.
    let _ = running.supervisor.finish(grace + TIDY_UP).await;
    if let Some(mirror) = &running.mirror {
        // What it leaves is gone on with at the next start.
        let _ = timeout(TIDY_UP, mirror.end()).await;
    }
    if timeout(TIDY_UP, running.registry.drain()).await.is_err() {
        warn!(
            waited_seconds = TIDY_UP.as_secs(),
            "uploads did not come to rest; their clients resume from the last checkpoint"
        );
    }
    if running.ships && timeout(TIDY_UP, backup::ship_rest(&running.registry)).await.is_err() {
        warn!(
            waited_seconds = TIDY_UP.as_secs(),
            "the blob store does not take the last changes; the next start ships them"
        );
    }
    if let Err(error) = running.registry.metadata().shutdown().await {
        warn!(reason = %error, "{error}");
    }
    info!("ended in order");
}

/// The signals that end the process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

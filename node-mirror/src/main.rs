//! Tells the container runtime of the node that it runs on to pull by way of registries in the cluster, as long as it
//! runs, and puts back what it found when it is told to end.
//!
//! ```text
//!  settings --addresses--> mirrors --answers--> those that answer --> certs.d/<host>/hosts.toml    containerd, Docker
//!                                                              '---> registries.conf.d/...         CRI-O
//! ```
//!
//! It runs as root on every node, so it is a program of its own that can do nothing else: it opens no port, asks the
//! API server nothing and has no credentials.

#![forbid(unsafe_code)]

mod addresses;
mod answers;
mod containers_folder;
mod host_folder;
mod hosts_toml;
mod runtime;
mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Parser};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::addresses::{Addresses, Reached};
use crate::answers::Answers;
use crate::containers_folder::ContainersFolder;
use crate::host_folder::{HostFolder, Outcome};
use crate::settings::{Host, Settings};

/// How often it looks whether a mirror answers, and whether an authority or an address has changed. A mirror that hangs is
/// left out after two looks; a thousand nodes ask it a hundred times a second.
const LOOK: Duration = Duration::from_secs(10);

/// Tells this node's container runtime to pull by way of registries in the cluster.
#[derive(Parser)]
#[command(group(ArgGroup::new("runtimes").required(true).multiple(true).args(["hosts_dir", "containers_dir"])))]
struct Arguments {
    /// The file that says which registries, in JSON.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// The node's folder of registry hosts (`certs.d` of containerd or Docker), as it is mounted here.
    #[arg(long, value_name = "DIR")]
    hosts_dir: Option<PathBuf>,
    /// The node's `/etc/containers`, which CRI-O reads, as it is mounted here.
    #[arg(long, value_name = "DIR")]
    containers_dir: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).init();
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let settings = Settings::read(&arguments.settings)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Some(folder) = &arguments.hosts_dir {
        runtime::warn_if_ignored(folder);
        put_back_others(&settings, folder)?;
    }
    let mut known = Known::default();
    let mut is_first = true;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        tokio::select! {
            () = bring_up_to_date(&settings, arguments, &mut known, is_first) => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        is_first = false;
    }
    put_back(&settings, arguments)
}

/// What is known of the mirrors.
#[derive(Default)]
struct Known {
    addresses: Addresses,
    answers: Answers,
}

/// Puts back what was found for hosts that the settings have no more: whoever wrote them may have been killed.
fn put_back_others(settings: &Settings, hosts_dir: &Path) -> Result<()> {
    for name in HostFolder::written(hosts_dir)? {
        if settings.hosts.iter().all(|host| host.name != name) {
            HostFolder::new(hosts_dir, &name).restore()?;
            info!(host = name, "put back what was found, since the settings have it no more");
        }
    }
    Ok(())
}

/// Brings every host up to date. What fails is tried again at the next look.
async fn bring_up_to_date(settings: &Settings, arguments: &Arguments, known: &mut Known, is_first: bool) {
    let mut reached = Vec::new();
    for host in &settings.hosts {
        match known.addresses.of_mirrors(host) {
            Ok(mirrors) => reached.push((host, mirrors)),
            Err(error) => error!(host = host.name, "{error:#}"),
        }
    }
    if is_first {
        // Before anything is asked, nothing can be gone, and the node need not wait.
        write_all(arguments, &reached, true);
    }
    known.answers.look(&reached).await;
    for (host, mirrors) in &mut reached {
        *mirrors = known.answers.without_gone(host, std::mem::take(mirrors));
    }
    write_all(arguments, &reached, false);
}

fn write_all(arguments: &Arguments, reached: &[(&Host, Vec<Reached<'_>>)], is_first: bool) {
    if let Some(folder) = &arguments.hosts_dir {
        for (host, mirrors) in reached {
            write_host(folder, host, mirrors, is_first);
        }
    }
    if let Some(folder) = &arguments.containers_dir {
        match ContainersFolder::new(folder).write(reached) {
            Ok(true) => info!("pulls go by way of the mirrors, as soon as CRI-O has read that"),
            Ok(false) => {}
            Err(error) => error!("{error:#}"),
        }
    }
}

fn write_host(folder: &Path, host: &Host, mirrors: &[Reached<'_>], is_first: bool) {
    let folder = HostFolder::new(folder, &host.name);
    let written = hosts_toml::files(host, mirrors).and_then(|files| folder.write(&files, is_first));
    match written {
        Ok(Outcome::Written) => info!(host = host.name, "pulls go by way of the mirrors"),
        Ok(Outcome::AsItWas) => {}
        Ok(Outcome::SomebodyElses) if is_first => {}
        Ok(Outcome::SomebodyElses) => warn!(host = host.name, "somebody else has written it: left alone"),
        Err(error) => error!(host = host.name, "{error:#}"),
    }
}

/// Puts back what was found, of every host that can be, and then says what could not.
fn put_back(settings: &Settings, arguments: &Arguments) -> Result<()> {
    let mut restored = Ok(());
    if let Some(folder) = &arguments.hosts_dir {
        for host in &settings.hosts {
            match HostFolder::new(folder, &host.name).restore() {
                Ok(true) => info!(host = host.name, "put back what was found"),
                Ok(false) => warn!(host = host.name, "left as it is: somebody has changed it since"),
                // The others are put back all the same.
                Err(error) => restored = Err(error).with_context(|| format!("{} is not put back", host.name)),
            }
        }
    }
    if let Some(folder) = &arguments.containers_dir {
        let taken_away = ContainersFolder::new(folder).restore();
        restored = restored.and(taken_away);
    }
    restored
}

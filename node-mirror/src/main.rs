//! Tells the container runtime of the node that it runs on to pull by way of registries in the cluster, as long as it
//! runs: it writes `certs.d/<host>/hosts.toml`, and puts back what it found there when it is told to end.
//!
//! It runs as root on every node, so it is a program of its own that can do nothing else: it opens no port, asks the
//! API server nothing and has no credentials.

#![forbid(unsafe_code)]

mod host_folder;
mod hosts_toml;
mod runtime;
mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::host_folder::{HostFolder, Outcome};
use crate::hosts_toml::Addresses;
use crate::settings::Settings;

/// How often it looks whether an authority or an address has changed. Kubelets take a minute to bring a changed file.
const LOOK: Duration = Duration::from_secs(10);

/// Tells this node's container runtime to pull by way of registries in the cluster.
#[derive(Parser)]
struct Arguments {
    /// The file that says which registries, in JSON.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// The node's folder of registry hosts, as it is mounted here.
    #[arg(long, value_name = "DIR", default_value = "/host/containerd/certs.d")]
    hosts_dir: PathBuf,
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
    runtime::warn_if_ignored(&arguments.hosts_dir);
    put_back_others(&settings, &arguments.hosts_dir)?;
    let mut addresses = Addresses::default();
    let mut is_first = true;
    loop {
        tokio::select! {
            _ = tick.tick() => write_all(&settings, arguments, &mut addresses, is_first),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        is_first = false;
    }
    let mut restored = Ok(());
    for host in &settings.hosts {
        match HostFolder::new(&arguments.hosts_dir, &host.name).restore() {
            Ok(true) => info!(host = host.name, "put back what was found"),
            Ok(false) => warn!(host = host.name, "left as it is: somebody has changed it since"),
            // The others are put back all the same.
            Err(error) => restored = Err(error).with_context(|| format!("{} is not put back", host.name)),
        }
    }
    restored
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
fn write_all(settings: &Settings, arguments: &Arguments, addresses: &mut Addresses, is_first: bool) {
    for host in &settings.hosts {
        let folder = HostFolder::new(&arguments.hosts_dir, &host.name);
        let written = hosts_toml::files(host, addresses).and_then(|files| folder.write(&files, is_first));
        match written {
            Ok(Outcome::Written) => info!(host = host.name, "pulls go by way of the mirrors"),
            Ok(Outcome::AsItWas) => {}
            Ok(Outcome::SomebodyElses) if is_first => {}
            Ok(Outcome::SomebodyElses) => warn!(host = host.name, "somebody else has written it: left alone"),
            Err(error) => error!(host = host.name, "{error:#}"),
        }
    }
}

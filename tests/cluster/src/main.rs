//! Brings a cluster up and takes it down, by hand or around a command.

#![forbid(unsafe_code)]

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use roadstead_cluster::{Cluster, Image, Site, provision, say, tool};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// A real Kubernetes of some nodes on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Brings a cluster up, with Roadstead's image on its nodes, and says how to look around.
    Up(Shape),
    /// Takes it down, and leaves nothing behind.
    Down(Named),
    /// Loads Roadstead's image again, after a build.
    Load(Named),
    /// Runs a command on the hub of a cluster that is up, where its addresses are reached.
    Enter {
        #[command(flatten)]
        named: Named,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Brings a cluster up, runs a command on its hub, and takes it down; ends as the command did.
    Run {
        #[command(flatten)]
        shape: Shape,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Makes the volumes of a cluster that is up; `up` starts it.
    #[command(hide = true)]
    Provision(Named),
}

#[derive(Args)]
struct Named {
    /// The cluster's name; the default is this work tree's own.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args)]
struct Shape {
    #[command(flatten)]
    named: Named,
    /// How many nodes it has.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
}

impl Named {
    fn site(&self, purpose: &str) -> Result<Site> {
        Site::new(&self.name.clone().unwrap_or_else(|| Site::default_name(purpose)))
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // One thread, since it moves into the hub's network.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.verb {
            Verb::Up(shape) => up(&shape).await,
            Verb::Down(named) => Cluster::down(&named.site("")?).await.map(|()| ExitCode::SUCCESS),
            Verb::Load(named) => load(&Cluster::attach(&named.site("")?)?).await.map(|()| ExitCode::SUCCESS),
            Verb::Enter { named, command } => inside(&Cluster::attach(&named.site("")?)?, &command).await,
            Verb::Run { shape, command } => run(&shape, &command).await,
            Verb::Provision(named) => {
                let site = named.site("")?;
                Cluster::attach(&site)?;
                provision(&site).await.map(|()| ExitCode::SUCCESS)
            }
        }
    })
}

async fn up(shape: &Shape) -> Result<ExitCode> {
    let site = shape.named.site("")?;
    let cluster = bring_up(&site, shape.nodes).await?;
    let this = std::env::current_exe()?;
    let this = this.display();
    let name = site.name();
    say(&format!(
        "
Look around:
  {this} enter --name {name} bash                     a shell on its hub, where kubectl, helm and crane find it
  {this} enter --name {name} kubectl get pods -A      or one command
  KUBECONFIG={} nsenter --net=/run/netns/rsc-{name}-hub {}
Logs are below {}. After a build, `{this} load --name {name}`.
Take it down:
  {this} down --name {name}",
        cluster.kubeconfig().display(),
        site.file("bin/kubectl").display(),
        site.folder().display(),
    ));
    Ok(ExitCode::SUCCESS)
}

async fn bring_up(site: &Site, nodes: u8) -> Result<Cluster> {
    let start = Instant::now();
    let cluster = Cluster::up(site, nodes).await?;
    say(&format!("a cluster `{}` of {nodes} nodes is ready after {:.1} s", site.name(), start.elapsed().as_secs_f64()));
    load(&cluster).await?;
    Ok(cluster)
}

async fn load(cluster: &Cluster) -> Result<()> {
    let start = Instant::now();
    let image = Image::roadstead("dev")?;
    cluster.load(&image).await?;
    say(&format!("{} is on every node after another {:.1} s", image.name(), start.elapsed().as_secs_f64()));
    Ok(())
}

async fn run(shape: &Shape, command: &[String]) -> Result<ExitCode> {
    let site = shape.named.site("-e2e")?;
    let lock_path = site.folder().with_extension("lock");
    let lock = File::create(&lock_path)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another run has the cluster `{}` up: wait for it", site.name()),
        Err(TryLockError::Error(error)) => return Err(error).context("the lock of the cluster"),
    }
    // A test may have joined a second one to it.
    let sites = [site.second().ok(), Some(site.clone())];
    for left in sites.iter().flatten().filter(|left| left.folder().exists()) {
        say("taking down what an earlier run that was killed has left");
        Cluster::down(left).await?;
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let ran = tokio::select! {
        ran = async { inside(&bring_up(&site, shape.nodes).await?, command).await } => ran,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("told to end")),
    };
    let start = Instant::now();
    for made in sites.iter().flatten() {
        Cluster::down(made).await?;
    }
    say(&format!("the cluster is down after {:.1} s", start.elapsed().as_secs_f64()));
    std::fs::remove_file(lock_path)?;
    ran
}

/// Runs a command on the hub, where it finds the cluster.
async fn inside(cluster: &Cluster, command: &[String]) -> Result<ExitCode> {
    let [program, arguments @ ..] = command else { bail!("no command") };
    let built = tool("kubernetes")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = [cluster.site().file("bin"), built.parent().unwrap_or(Path::new("/")).to_owned(), path.into()];
    let path = folders.map(|folder| folder.display().to_string()).join(":");
    // As std finds the program by the caller's own path.
    let status = Command::new("env")
        .arg(format!("PATH={path}"))
        .arg(program)
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("ROADSTEAD_CLUSTER", cluster.site().name())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("{program} does not start"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

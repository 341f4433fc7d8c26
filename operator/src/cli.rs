//! The command line, and the operator from its start to its end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::ambient;
use crate::apply::Writes;
use crate::controller::{self, Context};
use crate::health::{self, Health};
use crate::lease::{self, Election};
use crate::metrics::Metrics;
use crate::requests;

#[derive(Parser)]
#[command(name = "roadstead-operator", version, about = "Runs Roadstead registries on Kubernetes")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the operator, in a pod or with a kubeconfig.
    Run(Settings),
    /// Prints the CustomResourceDefinition as YAML.
    Crd,
}

/// How the operator runs.
#[derive(Args)]
struct Settings {
    /// Keeps the Registries of this namespace only; may be given several times. Without any, those of all.
    #[arg(long = "namespace", env = "ROADSTEAD_OPERATOR_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// The image of replicas whose Registry names none.
    #[arg(long, env = "ROADSTEAD_OPERATOR_IMAGE", value_name = "IMAGE")]
    image: String,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "ROADSTEAD_OPERATOR_LISTEN", value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The namespace of the Lease by which one of several operators acts.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// What this operator is called in the Lease and in Events; must be another one for each.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
    /// How lines of the log are written.
    #[arg(long, env = "ROADSTEAD_OPERATOR_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What is logged, to standard error.
    #[arg(long, env = "ROADSTEAD_OPERATOR_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Ends the process right after so many writes to the API server, for tests of what a crash leaves behind.
    #[arg(long, env = "ROADSTEAD_OPERATOR_DIE_AFTER_WRITES", value_name = "COUNT", hide = true)]
    die_after_writes: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(settings) => operate(settings),
        Command::Crd => print_definition(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr().lock(), "roadstead-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_definition() -> anyhow::Result<()> {
    let definition = serde_json::to_value(roadstead_crds::definition())?;
    Ok(io::stdout().lock().write_all(roadstead_crds::yaml(&definition).as_bytes())?)
}

fn operate(settings: Settings) -> anyhow::Result<()> {
    log(&settings)?;
    // Whichever crates ask for a provider, they get this one.
    let _first = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(serve(settings));
    runtime.shutdown_background();
    result
}

fn log(settings: &Settings) -> anyhow::Result<()> {
    // What a bare level means for kube, whose spans would begin each line.
    let is_level = settings.log_level.chars().all(char::is_alphabetic);
    let quiet = if is_level { ",kube_runtime=warn,kube_client=warn" } else { "" };
    let filter =
        EnvFilter::try_new(format!("{}{quiet}", settings.log_level)).context("cannot understand `log-level`")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.with_ansi(false).with_target(false).finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).finish().try_init()?,
    }
    Ok(())
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::new()?));
    let socket = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}: set another `listen`", settings.listen))?;
    let config = Config::infer()
        .await
        .context("no Kubernetes is configured: run it in a pod with a service account, or set KUBECONFIG")?;
    let client = requests::counted(config, metrics.api_requests.clone())
        .context("the Kubernetes that is configured cannot be spoken to")?;
    let stop = CancellationToken::new();
    tokio::select! {
        answered = health::serve(socket, Arc::clone(&health), Arc::clone(&metrics)) => match answered? {},
        ended = lead(&settings, client, &health, &metrics, stop.clone()) => ended,
        stopped = stop_by_signal(stop) => match stopped? {},
    }
}

/// Waits for the Lease, then keeps the Registries until told to stop. Losing the Lease ends the process: whatever it was
/// about to do, another one may be doing.
async fn lead(
    settings: &Settings,
    client: Client,
    health: &Health,
    metrics: &Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let identity = match &settings.identity {
        Some(identity) => identity.clone(),
        None => format!("{}-{}", lease::NAME, hex::encode(ambient::random::<4>()?)),
    };
    let version = client.apiserver_version().await.context("the API server does not answer")?;
    health.ready();
    info!(kubernetes = version.git_version, "waiting for the Lease");
    let election = Election::new(client.clone(), &settings.lease_namespace, identity.clone());
    tokio::select! {
        () = election.acquire() => {}
        () = stop.cancelled() => return Ok(()),
    }
    info!(identity, "this operator acts now");
    metrics.leader.set(1);
    let writes = Writes::ending_after(settings.die_after_writes);
    let context = Arc::new(Context::new(client, settings.image.clone(), Arc::clone(metrics), writes, identity));
    let ended = CancellationToken::new();
    let keeping = async {
        controller::run(context, &settings.namespaces, stop.clone()).await;
        // The Lease is given back when nothing is being done any more.
        ended.cancel();
    };
    let (held, ()) = tokio::join!(
        async {
            let held = election.hold(ended.clone()).await;
            if let Err(lost) = &held {
                tracing::error!(reason = %lost, "ending at once: {lost}");
                std::process::exit(1);
            }
            held
        },
        keeping
    );
    held.context("the Lease is lost")
}

/// Lets everything end in order at SIGTERM or SIGINT.
async fn stop_by_signal(stop: CancellationToken) -> io::Result<std::convert::Infallible> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("ending");
    stop.cancel();
    Ok(std::future::pending().await)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! Makes a mirror out of the settings.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use roadstead_domain::Registry;
use roadstead_geo::{Calendar, Home, Mirror, Options, Siblings};
use roadstead_metadata::Standing;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::client::HttpHome;
use super::siblings::Leader;
use super::trust::{BearerToken, HomeTrust};
use crate::cluster::Transport;
use crate::failure::Failure;
use crate::settings::{Settings, Upstream};
use crate::tasks::{Supervisor, TaskKind};
use crate::watched::Watched;

/// How long an upstream may take to say that it is home since: a handshake over two round trips around the earth, each lost
/// once.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(10);

/// The mirror that the settings want, if they do; its tasks run.
pub(crate) async fn connect(
    settings: &Settings,
    registry: &Arc<Registry>,
    content: Option<Arc<Transport>>,
    supervisor: &Supervisor,
) -> anyhow::Result<Option<Arc<Mirror>>> {
    let follows = follows(settings.upstream.as_ref(), registry)?;
    let (Some(upstream), true) = (&settings.upstream, follows != Follows::Nobody) else { return Ok(None) };
    let metadata = registry.metadata().clone();
    let home = HttpHome::new(upstream.clone(), metadata, token(upstream, supervisor)?, trust(upstream, supervisor)?);
    if follows == Follows::ASuccessor {
        check_successor(&home, registry).await?;
    }
    let options = Options {
        spool: settings.data.join("arriving"),
        disk_reserve: settings.disk_reserve,
        link_rate: upstream.rate,
        calendar: Calendar(upstream.windows.clone()),
        filter: upstream.filter.clone(),
    };
    let siblings = content
        .map(|transport| Arc::new(Leader { metadata: registry.metadata().clone(), transport }) as Arc<dyn Siblings>);
    let mirror = Mirror::new(Arc::clone(registry), Arc::new(home) as Arc<dyn Home>, siblings, options);
    run(supervisor, TaskKind::Follow, &mirror, Mirror::follow);
    run(supervisor, TaskKind::HomeWatch, &mirror, Mirror::watch);
    run(supervisor, TaskKind::Movers, &mirror, Mirror::move_blobs);
    run(supervisor, TaskKind::Inbox, &mirror, Mirror::resolve);
    run(supervisor, TaskKind::Reports, &mirror, Mirror::report);
    Ok(Some(mirror))
}

/// Whether the upstream is followed. A mirror's facts are its home's, and no others: they are neither served as if they
/// were nobody's, nor mixed with what was pushed here. And whoever was promoted stays home, whatever the settings still
/// say: only facts end that.
fn follows(upstream: Option<&Upstream>, registry: &Registry) -> anyhow::Result<Follows> {
    let query = registry.metadata().query()?;
    let has_content = !query.repositories(None, 1)?.is_empty();
    let region = registry.region()?;
    match (upstream, region.standing) {
        (None, Standing::Mirror) => Err(Failure::new(
            "this data folder is a mirror's",
            "set `upstream` to its home; `roadstead promote` makes a home of the mirror that runs then",
        )
        .because(anyhow::anyhow!("it has followed another registry, and there is no `upstream`"))),
        (Some(upstream), Standing::Home) if region.promotion.is_some() => {
            warn!(
                upstream = upstream.url,
                "this region was promoted and is home, in epoch {}: `upstream` ({}) is not followed; take it out of the \
                 settings",
                region.epoch.number,
                upstream.url
            );
            Ok(Follows::Nobody)
        }
        // Only if that is home since, which it has to say itself.
        (Some(_), Standing::Home) if has_content => Ok(Follows::ASuccessor),
        (Some(_), _) => Ok(Follows::TheUpstream),
        (None, _) => Ok(Follows::Nobody),
    }
}

/// What a home that was never told of another one may become a mirror of: the home of a later epoch of its own line.
async fn check_successor(home: &HttpHome, registry: &Registry) -> anyhow::Result<()> {
    let region = registry.region()?;
    let why = match timeout(SUCCESSOR_PATIENCE, home.region()).await {
        Ok(Ok(report)) => {
            let claim = report.region.claim();
            if report.region.standing != Standing::Fenced && claim.origin == region.origin && claim.epoch > region.epoch
            {
                return Ok(());
            }
            "the upstream is not its home since".to_owned()
        }
        Ok(Err(error)) => format!("the upstream does not say that it is its home since: {error}"),
        Err(_elapsed) => "the upstream does not say that it is its home since".to_owned(),
    };
    Err(Failure::new(
        "this data folder is not a mirror's",
        "start the mirror with an empty folder, and blobs in a folder or bucket of its own",
    )
    .because(anyhow::anyhow!("it has content that was pushed here, there is an `upstream`, and {why}")))
}

/// What is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    Nobody,
    TheUpstream,
    /// The upstream, if it has taken over from this region.
    ASuccessor,
}

fn run<F>(supervisor: &Supervisor, kind: TaskKind, mirror: &Arc<Mirror>, task: fn(Arc<Mirror>, CancellationToken) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mirror = Arc::clone(mirror);
    supervisor.spawn(kind, move |stop| {
        let running = task(Arc::clone(&mirror), stop);
        async move {
            running.await;
            Ok(())
        }
    });
}

fn token(upstream: &Upstream, supervisor: &Supervisor) -> anyhow::Result<Arc<ArcSwap<BearerToken>>> {
    let watched = Watched::<BearerToken, 1>::open([upstream.token.clone()]).map_err(|error| {
        let next = "set `upstream-token-file` to a file with what `roadstead mirror token` printed at home";
        Failure::new("cannot use the token for the upstream", next).because(error)
    })?;
    let watched = Arc::new(watched);
    let slot = watched.slot();
    supervisor.spawn(TaskKind::WatchFiles, move |_| Arc::clone(&watched).watch());
    Ok(slot)
}

fn trust(upstream: &Upstream, supervisor: &Supervisor) -> anyhow::Result<Option<Arc<ArcSwap<HomeTrust>>>> {
    if !upstream.is_https {
        return Ok(None);
    }
    let next = "set `upstream-ca-file` to the PEM file of the CA that has signed home's certificate";
    let unusable = |error: anyhow::Error| Failure::new("cannot tell who home is", next).because(error);
    let Some(file) = &upstream.ca_file else {
        let trust = HomeTrust::of_system().map_err(|error| unusable(error.into()))?;
        return Ok(Some(Arc::new(ArcSwap::from_pointee(trust))));
    };
    let watched = Watched::<HomeTrust, 1>::open([file.clone()]).map_err(|error| unusable(error.into()))?;
    let watched = Arc::new(watched);
    let slot = watched.slot();
    supervisor.spawn(TaskKind::WatchFiles, move |_| Arc::clone(&watched).watch());
    Ok(Some(slot))
}

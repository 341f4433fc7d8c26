//! The composition root: makes every part out of the settings and joins them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use roadstead_blobs::{BlobError, BlobStore, FilesystemStore, S3Options, S3Store, ShowingStore};
use roadstead_domain::{AccessPolicy, ClaimError, Entropy, Options, Ports, Registry};
use roadstead_geo::Mirror;
use roadstead_metadata::{Beginning, Metadata, OpenError, Role};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::{Builder, Uuid};

use crate::admin::{self, Admin, AdminListener, AdminSocket};
use crate::ambient::{OsEntropy, SystemClock};
use crate::auth::{Authenticator, Users};
use crate::cluster::{self, Answering, Member, Removal, Transport};
use crate::failure::Failure;
use crate::health::Health;
use crate::http::{self, Api, Edge, Listener, ListenerOptions};
use crate::metered_store::MeteredStore;
use crate::metrics::{Gauges, Metrics, ShownTo};
use crate::settings::{BlobServing, JoinAs, Login, S3, Settings, Storage, Tls};
use crate::tasks::{Supervisor, TaskKind};
use crate::tls::{self, Certificate, SelfSigned};
use crate::watched::Watched;
use crate::{backup, geo, janitor, scrub, vitals};

/// Where the certificate is that is shown now.
type Slot = Arc<ArcSwap<Certificate>>;

/// A registry that serves.
pub(crate) struct Running {
    pub address: SocketAddr,
    pub scheme: &'static str,
    /// What a person has to know besides: lines, or nothing.
    pub notice: String,
    pub supervisor: Supervisor,
    pub health: Arc<Health>,
    pub registry: Arc<Registry>,
    /// Whether its changes are shipped to the blob store.
    pub ships: bool,
    /// Whether the other replicas have taken this one out.
    pub removal: Removal,
    /// What follows another registry, if this is a mirror.
    pub mirror: Option<Arc<Mirror>>,
}

/// Starts everything. What can fail for a reason that a person can mend comes first.
pub(crate) async fn boot(settings: &Settings) -> anyhow::Result<Running> {
    fs::create_dir_all(&settings.data).map_err(|error| {
        let what = format!("cannot make the data folder {}", settings.data.display());
        Failure::new(what, "set `data` to a folder that this user may write to").because(error)
    })?;
    let supervisor = Supervisor::default();
    let socket = bind(settings.listen).await?;
    let address = socket.local_addr()?;
    let metrics = Arc::new(Metrics::new()?);
    let (certificate, notice) = secure(settings, address, &supervisor)?;
    let authenticator = Arc::new(authenticator(&settings.login, &metrics, &supervisor)?);
    let store = MeteredStore::new(open_store(settings).await?, metrics.blob_store_errors.clone());
    let store_contact = store.contact();
    let health = Arc::new(Health::default());
    let (beginning, removal) = (Beginning::default(), Removal::default());
    let (metadata, answering, content) = open_metadata(settings, &beginning, &removal, &health, &supervisor).await?;
    let shown = shown(certificate.as_ref(), content.as_deref());
    let registry = make_registry(settings, metadata, Arc::new(store));
    if settings.cluster.is_none() {
        claim_store(&registry).await?;
    } else {
        // The claim itself takes a leader.
        store_is_ours(registry.check_not_succeeded().await)?;
    }

    let mirror = geo::connect(settings, &registry, content.clone(), &supervisor).await?;
    answering.serve_arriving(content_for_replicas(&registry, mirror.as_ref()));
    let api = Api { registry: Arc::clone(&registry), authenticator, mirror: mirror.clone() };
    let edge = Edge {
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
        entropy: Arc::new(OsEntropy),
        body_idle_timeout: settings.body_idle_timeout,
        sample: sampler(&registry, mirror.clone(), shown),
        lingering: TaskTracker::new(),
    };
    let api = Router::new().fallback(http::serve).with_state(Arc::new(api));
    let mirrors = geo::router(Arc::clone(&registry), content, supervisor.clone(), mirror.clone());
    let app = edge.around(mirrors.fallback_service(api));
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let options = ListenerOptions {
        tls: certificate.map(acceptor).transpose()?,
        max_connections: http::max_connections(raise_file_limit()),
        write_stall: settings.body_idle_timeout,
        grace: settings.shutdown_grace,
    };
    let listener = Arc::new(Listener::new(socket, app, options, Arc::clone(&metrics)));
    supervisor.spawn(TaskKind::Listener, move |stop| Arc::clone(&listener).run(stop));
    keep_in_order(&registry, &metrics, settings.backup.ships, &supervisor);
    scrub_regularly(settings, &registry, &metrics, &supervisor);
    let admin = Admin {
        registry: Arc::clone(&registry),
        metrics,
        health: Arc::clone(&health),
        supervisor: supervisor.clone(),
        scrub_rate: settings.scrub_rate,
        scrubs: Arc::new(Semaphore::new(1)),
        scheme,
        address,
        beginning,
        store_contact,
        mirror: mirror.clone(),
    };
    let admin = admin::router(Arc::new(admin));
    answering.serve_admin(admin.clone());
    serve_admin(&settings.data, admin, &supervisor);
    let ships = settings.backup.ships;
    Ok(Running { address, scheme, notice, supervisor, health, registry, ships, removal, mirror })
}

/// What other replicas may have from this one: what it has written of uploads in progress, and what it brings from home.
fn content_for_replicas(registry: &Arc<Registry>, mirror: Option<&Arc<Mirror>>) -> Router {
    let leaving = geo::leaving(Arc::clone(registry));
    match mirror {
        Some(mirror) => leaving.merge(geo::arriving(Arc::clone(mirror), Arc::clone(registry))),
        None => leaving,
    }
}

/// What goes on behind the requests.
fn keep_in_order(registry: &Arc<Registry>, metrics: &Arc<Metrics>, ships: bool, supervisor: &Supervisor) {
    let parts = || (Arc::clone(registry), Arc::clone(metrics));
    let (swept, counted) = parts();
    supervisor.spawn(TaskKind::Janitor, move |stop| janitor::run(Arc::clone(&swept), Arc::clone(&counted), stop));
    let watched = Arc::clone(registry);
    supervisor.spawn(TaskKind::Vitals, move |_| vitals::watch(Arc::clone(&watched)));
    let watched = Arc::clone(registry);
    supervisor.spawn(TaskKind::StoreWatch, move |_| backup::watch_store(Arc::clone(&watched)));
    if ships {
        let (shipped, counted) = parts();
        supervisor
            .spawn(TaskKind::Shipping, move |stop| backup::ship(Arc::clone(&shipped), Arc::clone(&counted), stop));
        let (taken, counted) = parts();
        supervisor
            .spawn(TaskKind::Snapshots, move |stop| backup::snapshots(Arc::clone(&taken), Arc::clone(&counted), stop));
    }
}

/// Makes sure that the blob store is this registry's. One that is away is asked as soon as it is back.
pub(crate) async fn claim_store(registry: &Registry) -> anyhow::Result<()> {
    store_is_ours(registry.claim_store().await)
}

fn store_is_ours(found: Result<(), ClaimError>) -> anyhow::Result<()> {
    match found {
        Ok(()) => Ok(()),
        Err(ClaimError::Fault(fault)) if fault.is_transient() => {
            warn!(reason = %fault, "it is not known yet whether the blob store is this registry's: {fault}");
            Ok(())
        }
        Err(error) => Err(Failure::new("cannot use the blob store", error.advice()).because(error)),
    }
}

async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        let next = match error.kind() {
            std::io::ErrorKind::AddrInUse => "stop what listens there (`ss -ltnp` shows it) or set another `listen`",
            std::io::ErrorKind::PermissionDenied => "set `listen` to a port above 1023, or give the process the right",
            _ => "set `listen` to an address of this machine",
        };
        Failure::new(format!("cannot listen on {listen}"), next).because(error)
    })
}

/// The certificate that clients are shown, if TLS is wanted, and what people have to be told.
fn secure(settings: &Settings, address: SocketAddr, supervisor: &Supervisor) -> anyhow::Result<(Option<Slot>, String)> {
    match &settings.tls {
        Tls::Off => {
            if !address.ip().is_loopback() {
                warn!(address = %address, "plain HTTP on {address}: passwords and images can be read and changed on the way");
            }
            Ok((None, String::new()))
        }
        Tls::Files { certificate, key } => {
            let watched = Watched::<Certificate, 2>::open([certificate.clone(), key.clone()]).map_err(|error| {
                Failure::new(
                    "cannot use the TLS certificate",
                    "set `tls-certificate` and `tls-key` to PEM files that belong together",
                )
                .because(error)
            })?;
            let watched = Arc::new(watched);
            let slot = watched.slot();
            supervisor.spawn(TaskKind::WatchFiles, move |_| Arc::clone(&watched).watch());
            Ok((Some(slot), String::new()))
        }
        Tls::SelfSigned { names } => {
            let clock = Arc::new(SystemClock::start());
            let own = self_signed(&settings.data, names, clock).map_err(|error| {
                let next = format!(
                    "look at {}; with it removed, a new CA is made that clients have to be given",
                    settings.data.join("tls").display()
                );
                Failure::new("cannot make a self-signed certificate", next).because(error)
            })?;
            let notice = tls::instructions(&own.ca_file, names, address);
            let slot = own.issued.slot();
            supervisor.spawn(TaskKind::RenewCertificate, move |_| Arc::clone(&own.issued).renew());
            Ok((Some(slot), notice))
        }
    }
}

fn self_signed(data: &Path, names: &[String], clock: Arc<SystemClock>) -> Result<SelfSigned, tls::SelfSignedError> {
    let data = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    SelfSigned::open(&data, names.to_vec(), clock)
}

/// The certificates that are shown, and to whom.
fn shown(clients: Option<&Slot>, replicas: Option<&Transport>) -> Vec<(ShownTo, Slot)> {
    let clients = clients.map(|slot| (ShownTo::Clients, Arc::clone(slot)));
    clients.into_iter().chain(replicas.map(|replicas| (ShownTo::Replicas, replicas.certificate()))).collect()
}

fn acceptor(slot: Slot) -> anyhow::Result<TlsAcceptor> {
    Ok(TlsAcceptor::from(Arc::new(tls::server_config(slot)?)))
}

fn authenticator(login: &Login, metrics: &Metrics, supervisor: &Supervisor) -> anyhow::Result<Authenticator> {
    let failures = metrics.login_failures.clone();
    let Login::Htpasswd { file, .. } = login else { return Ok(Authenticator::new(None, failures, &OsEntropy)) };
    let users = Watched::<Users, 1>::open([file.clone()]).map_err(|error| {
        let next = "set `htpasswd` to a file with a line of `roadstead hash-password USER` for each user";
        Failure::new("cannot use the htpasswd file", next).because(error)
    })?;
    let users = Arc::new(users);
    let watched = Arc::clone(&users);
    supervisor.spawn(TaskKind::WatchFiles, move |_| Arc::clone(&watched).watch());
    Ok(Authenticator::new(Some(users), failures, &OsEntropy))
}

pub(crate) async fn open_store(settings: &Settings) -> anyhow::Result<Arc<dyn BlobStore>> {
    match &settings.storage {
        Storage::Filesystem { folder } => {
            let reserve = settings.disk_reserve;
            let opened = tokio::task::spawn_blocking({
                let folder = folder.clone();
                move || FilesystemStore::open(&folder, Box::new(fresh_uuid), reserve)
            });
            let store = opened.await?.map_err(|error| {
                let what = format!("cannot keep blobs in {}", folder.display());
                Failure::new(what, "set `data` to a folder that this user may write to").because(error)
            })?;
            Ok(Arc::new(store))
        }
        Storage::S3(s3) => {
            let bucket = open_s3(s3, &settings.serving).await?;
            Ok(Arc::new(ShowingStore::new(bucket, settings.data.join("leaving"), settings.disk_reserve)))
        }
    }
}

async fn open_s3(s3: &S3, serving: &BlobServing) -> anyhow::Result<Arc<dyn BlobStore>> {
    let options = S3Options {
        bucket: s3.bucket.clone(),
        prefix: s3.prefix.clone().unwrap_or_default(),
        region: s3.region.clone(),
        endpoint: s3.endpoint.clone(),
        public_endpoint: match serving {
            BlobServing::Inline => None,
            BlobServing::Redirect { endpoint, .. } => Some(endpoint.clone()),
        },
        path_style: s3.path_style,
        ca_file: s3.ca_file.clone(),
        credentials: None,
    };
    let what = || format!("cannot use the S3 bucket {}", s3.bucket);
    let next = "look at the `s3-*` settings and at the credentials";
    let store = S3Store::connect(options).await.map_err(|error| Failure::new(what(), next).because(error))?;
    match store.probe(fresh_uuid()).await {
        Ok(()) => {}
        // A registry whose bucket is away serves what it can; one that may not use its bucket never will.
        Err(error @ BlobError::Unavailable(_)) => {
            warn!(reason = %error, "the bucket does not answer yet; serving begins without it");
        }
        Err(error) => return Err(Failure::new(what(), next).because(error)),
    }
    Ok(Arc::new(store))
}

/// Opens the facts, as one of a cluster if the settings say so; with what its listener for replicas answers from, and
/// what asks others for content. The replica is ready when it has caught up.
async fn open_metadata(
    settings: &Settings,
    beginning: &Beginning,
    removal: &Removal,
    health: &Arc<Health>,
    supervisor: &Supervisor,
) -> anyhow::Result<(Metadata, Answering, Option<Arc<Transport>>)> {
    let mut options = metadata_options(settings);
    options.beginning = beginning.clone();
    let folder = options.folder.clone();
    let Some(cluster) = &settings.cluster else {
        let metadata = Metadata::open(options).await.map_err(|error| not_opened(&folder, error))?;
        health.ready();
        return Ok((metadata, Answering::default(), None));
    };
    let (peers, answering, content) = cluster::connect(cluster, bind(cluster.listen).await?, supervisor)?;
    answering.serve_beginning(admin::beginning_router(beginning.clone()));
    options.cluster = Some(peers);
    let metadata = Metadata::open(options).await.map_err(|error| not_opened(&folder, error))?;
    answering.open(&metadata);
    let member = Arc::new(Member {
        metadata: metadata.clone(),
        health: Arc::clone(health),
        address: cluster.address.clone(),
        wants_vote: cluster.join_as == JoinAs::Voter,
        removal: removal.clone(),
    });
    supervisor.spawn(TaskKind::Member, move |_| Arc::clone(&member).run());
    Ok((metadata, answering, Some(content)))
}

/// A registry that serves nobody, for what is done while none runs.
pub(crate) async fn open_alone(settings: &Settings) -> anyhow::Result<Arc<Registry>> {
    let store = open_store(settings).await?;
    let options = metadata_options(settings);
    let folder = options.folder.clone();
    let metadata = Metadata::open(options).await.map_err(|error| not_opened(&folder, error))?;
    Ok(make_registry(settings, metadata, store))
}

fn metadata_options(settings: &Settings) -> roadstead_metadata::Options {
    let random = [fresh_uuid().as_u128(), fresh_uuid().as_u128()];
    // Facts may use half of what blobs leave: so blobs stop first, and what they have written can still be named.
    let disk_reserve = settings.disk_reserve / 2;
    let folder = settings.data.join("metadata");
    roadstead_metadata::Options { disk_reserve, ..roadstead_metadata::Options::new(folder, random) }
}

pub(crate) fn not_opened(folder: &Path, error: OpenError) -> anyhow::Error {
    let what = format!("cannot open the metadata in {}", folder.display());
    let next = match &error {
        OpenError::InUse(_) => "stop the other process that uses it",
        OpenError::Newer { .. } | OpenError::Later(_) => "start the release that wrote it, or a later one",
        OpenError::Damaged(_) => "move the folder away, and bring it back with `roadstead restore`",
        OpenError::Io { .. } | OpenError::NotStarted(_) => "look at the folder's rights and disk",
    };
    Failure::new(what, next).because(error)
}

fn make_registry(settings: &Settings, metadata: Metadata, store: Arc<dyn BlobStore>) -> Arc<Registry> {
    let options = Options {
        access: match settings.login {
            Login::None => AccessPolicy::Open,
            Login::Htpasswd { anonymous_pull, .. } => AccessPolicy::Login { anonymous_pull },
        },
        part_size: settings.part_size,
        memory_budget: settings.memory_budget,
        max_uploads: settings.max_uploads.into(),
        max_staleness: settings.max_staleness,
        gc_grace: settings.gc_grace,
        backup: settings.backup.ships,
        backup_interval: settings.backup.interval,
        backup_retention: settings.backup.retention,
        sparse_manifests: settings.sparse_manifests,
        acknowledge: settings.ack,
        upload_expiry: settings.upload_expiry,
        redirect: match settings.serving {
            BlobServing::Inline => None,
            BlobServing::Redirect { expiry, .. } => Some(expiry),
        },
    };
    Registry::new(metadata, store, ports(), options)
}

/// The machine's time and randomness.
pub(crate) fn ports() -> Ports {
    Ports { clock: Arc::new(SystemClock::start()), entropy: Arc::new(OsEntropy) }
}

fn scrub_regularly(settings: &Settings, registry: &Arc<Registry>, metrics: &Arc<Metrics>, supervisor: &Supervisor) {
    let (rate, every) = (settings.scrub_rate, settings.scrub_interval);
    if rate > 0 {
        let (registry, metrics) = (Arc::clone(registry), Arc::clone(metrics));
        supervisor.spawn(TaskKind::Scrub, move |stop| {
            scrub::run(Arc::clone(&registry), Arc::clone(&metrics), rate, every, stop)
        });
    }
}

/// Serves the admin API. Not every file system can hold a socket, and a registry without one still serves.
fn serve_admin(data: &Path, admin: Router, supervisor: &Supervisor) {
    match AdminSocket::bind(data) {
        Ok(socket) => {
            let listener = Arc::new(AdminListener::new(socket, admin));
            supervisor.spawn(TaskKind::AdminListener, move |stop| Arc::clone(&listener).run(stop));
        }
        Err(error) => warn!(
            reason = %error,
            "no socket can be made in {}, so that `roadstead status` and its like find nobody: {error}",
            data.display()
        ),
    }
}

/// Copies the registry's figures into the gauges, and when the certificates expire that are shown.
fn sampler(
    registry: &Arc<Registry>,
    mirror: Option<Arc<Mirror>>,
    shown: Vec<(ShownTo, Slot)>,
) -> Box<dyn Fn(&Gauges) + Send + Sync> {
    let registry = Arc::clone(registry);
    Box::new(move |gauges| {
        let set = |gauge: &prometheus::IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let status = registry.metadata().status();
        set(&gauges.raft_is_leader, u64::from(status.role == Role::Leader));
        set(&gauges.raft_has_leader, u64::from(status.leader.is_some()));
        set(&gauges.raft_term, status.term);
        set(&gauges.raft_last_log_index, status.last_log_index);
        set(&gauges.raft_applied_index, status.applied_index);
        set(&gauges.raft_checkpoint_index, status.checkpoint_index);
        set(&gauges.raft_log_bytes, status.log_bytes);
        gauges.backup_lag.set(registry.backup_lag().as_secs_f64());
        if let Some(shipped) = registry.shipped() {
            set(&gauges.backup_shipped_index, shipped.entries.saturating_sub(1));
            set(&gauges.backup_shipped_sequence, shipped.place.map_or(0, |place| place.position.sequence));
        }
        if let Some(Ok(lag)) = mirror.as_ref().map(|mirror| mirror.lag()) {
            gauges.mirror.set(&lag);
        }
        for (shown_to, slot) in &shown {
            if let Some(at) = slot.load().expires() {
                gauges.certificate_expires(*shown_to, at);
            }
        }
        set(&gauges.memory_budget_used, registry.budget().used());
        set(&gauges.memory_budget, registry.budget().total());
        // Of a state that cannot be read, the last figure stays: the requests that fail for it tell of it.
        if let Ok(open) = registry.metadata().query().and_then(|query| query.uploads_open()) {
            set(&gauges.uploads_open, open);
        }
    })
}

pub(crate) fn fresh_uuid() -> Uuid {
    let mut bytes = [0; 16];
    OsEntropy.fill(&mut bytes);
    Builder::from_random_bytes(bytes).into_uuid()
}

/// Raises the limit of open files as far as is allowed, and says what it is: many systems begin with 1,024, a number
/// for programs that use `select`.
fn raise_file_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(u64::MAX)
}

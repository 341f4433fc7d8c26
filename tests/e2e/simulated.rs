use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use roadstead_cluster::Api;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_rustls::LazyConfigAcceptor;

use crate::world::World;

/// What no node has: pods that ask for it find none.
pub(crate) const NODE_LABEL: &str = "roadstead.dev/simulated";

/// Where replicas answer the operator.
const PEER_PORT: u16 = 5001;

/// How often it is looked for pods that are new: a list of all pods each time, beside what is measured.
const LOOK: Duration = Duration::from_secs(1);

/// The replicas of all Registries of a namespace, without their processes. Their pods and volumes are objects of the API server
/// that find no node. To the operator they run: their status says so, with the hub's address, where this answers its admin
/// requests for each of them, over mutual TLS with the certificate that the operator has made for them. As soon as one of three
/// is told to begin, all of them vote.
pub(crate) struct Simulated {
    /// Ends everything when it is dropped.
    _tasks: JoinSet<()>,
}

/// What is known of the Registries, by their names.
struct Known {
    api: Api,
    /// How each speaks TLS.
    tls: Mutex<BTreeMap<String, Arc<ServerConfig>>>,
    /// The cluster of those that have begun.
    clusters: Mutex<BTreeMap<String, String>>,
}

/// A replica, as a request names it.
struct Replica {
    registry: String,
    ordinal: u64,
    namespace: String,
}

impl Simulated {
    /// Answers for the replicas of a namespace from now on.
    pub(crate) async fn start(world: &World, namespace: &'static str) -> Result<Self> {
        let address = IpAddr::V4(world.cluster.site().hub_address());
        let listener = TcpListener::bind(SocketAddr::new(address, PEER_PORT)).await?;
        let api = world.cluster.api().clone();
        let known = Known { api: api.clone(), tls: Mutex::default(), clusters: Mutex::default() };
        let mut tasks = JoinSet::new();
        let served = Arc::new(known);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let known = Arc::clone(&served);
                connections.spawn(async move {
                    // Whoever calls tries again.
                    let _ = serve(stream, known).await;
                });
            }
        });
        tasks.spawn(async move {
            let mut tick = interval(LOOK);
            loop {
                tick.tick().await;
                // What is not there yet is looked for again.
                let _ = run_pods(&api, namespace, &address.to_string()).await;
            }
        });
        Ok(Self { _tasks: tasks })
    }
}

/// Says of each pod that it runs and is ready.
async fn run_pods(api: &Api, namespace: &str, address: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    for pod in api.list(&format!("{path}?fieldSelector=status.podIP%3D")).await? {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let container = json!({
            "name": "roadstead", "image": "simulated", "imageID": "", "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}},
        });
        let status = json!({
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
        });
        api.merge(&format!("{path}/{name}/status"), &json!({"status": status})).await?;
    }
    Ok(())
}

impl Known {
    /// How a replica speaks TLS, with the certificate that the operator has made.
    async fn tls(&self, replica: &Replica) -> Result<Arc<ServerConfig>> {
        let known = self.tls.lock().unwrap().get(&replica.registry).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let path = format!("/api/v1/namespaces/{}/secrets/{}-peer-tls", replica.namespace, replica.registry);
        let config = Arc::new(tls(&self.api.get(&path).await?)?);
        self.tls.lock().unwrap().insert(replica.registry.clone(), Arc::clone(&config));
        Ok(config)
    }
}

/// It shows the certificate of a Secret, and asks for one of the same CA.
fn tls(secret: &Value) -> Result<ServerConfig> {
    let field = |key: &str| Ok::<_, anyhow::Error>(STANDARD.decode(secret["data"][key].as_str().context("a key")?)?);
    let (chain, key, authority) = (field("tls.crt")?, field("tls.key")?, field("ca.crt")?);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&authority) {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn serve(stream: TcpStream, known: Arc<Known>) -> Result<()> {
    stream.set_nodelay(true)?;
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let host = hello.client_hello().server_name().context("a host")?.to_owned();
    let replica = Arc::new(Replica::named(&host).with_context(|| host.clone())?);
    let config = known.tls(&replica).await?;
    let stream = hello.into_stream(config).await?;
    let service = service_fn(move |request: Request<Incoming>| {
        let (known, replica) = (Arc::clone(&known), Arc::clone(&replica));
        async move {
            let answer = answer(request, &known, &replica).await.unwrap_or_else(|error| {
                let body = json!({"code": "bad_request", "message": error.to_string()});
                reply(400, &body)
            });
            Ok::<_, Infallible>(answer)
        }
    });
    Ok(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await?)
}

fn reply(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
    response
}

async fn answer(request: Request<Incoming>, known: &Known, replica: &Replica) -> Result<Response<Full<Bytes>>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = request.into_body().collect().await?.to_bytes();
    if (&method, &*path) == (&Method::POST, "/admin/v1/begin") {
        let asked: Value = serde_json::from_slice(&body)?;
        ensure!(asked["volume"] == replica.volume(), "this is another volume");
        let cluster = asked["cluster"].as_str().context("a cluster")?.to_owned();
        known.clusters.lock().unwrap().insert(replica.registry.clone(), cluster);
    }
    let cluster = known.clusters.lock().unwrap().get(&replica.registry).cloned();
    let body = match (method, &*path, cluster) {
        (Method::GET | Method::POST, "/admin/v1/volume" | "/admin/v1/begin", cluster) => {
            let node = cluster.is_some().then_some(replica.ordinal + 1);
            json!({"volume": replica.volume(), "cluster": cluster, "node": node})
        }
        (Method::GET, "/admin/v1/members", Some(cluster)) => replica.members(&cluster),
        (Method::GET, "/admin/v1/status", Some(_)) => {
            json!({"version": "simulated", "blob_store": {"is_there": true}})
        }
        (method, path, _) => anyhow::bail!("{method} {path} is not simulated"),
    };
    Ok(reply(200, &body))
}

impl Replica {
    /// The one of a host such as `r7-0.r7-peers.hundred.svc`.
    fn named(host: &str) -> Option<Self> {
        let mut labels = host.split('.');
        let (registry, ordinal) = labels.next()?.rsplit_once('-')?;
        let namespace = labels.nth(1)?.to_owned();
        Some(Self { registry: registry.to_owned(), ordinal: ordinal.parse().ok()?, namespace })
    }

    /// The id of its volume, which says whose it is.
    fn volume(&self) -> String {
        let number: u64 = self.registry.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default();
        format!("00000000-0000-0000-0000-{number:08x}{:04x}", self.ordinal)
    }

    fn members(&self, cluster: &str) -> Value {
        let Self { registry, namespace, ordinal } = self;
        let member = |at: u64| {
            json!({
                "node": at + 1, "role": "voter", "lag_entries": 0, "last_contact_ms": 0,
                "address": format!("{registry}-{at}.{registry}-peers.{namespace}.svc:{PEER_PORT}"),
            })
        };
        json!({
            "cluster": cluster, "this": {"node": ordinal + 1}, "leader": 1, "term": 1, "last_log_index": 1,
            "members": [member(0), member(1), member(2)],
        })
    }
}

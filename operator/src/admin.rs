//! What the operator asks of replicas: the admin API, over mutual TLS and HTTP/2.
//!
//! Its contract is the golden files of the registry's server, `admin/v1`; what is not needed here is not read.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use crate::build::PEER_PORT;
use crate::certificates::Issued;

/// How long a replica may take to answer what it only looks up.
const LOOK_PATIENCE: Duration = Duration::from_secs(3);

/// How long it may take to do something: it asks the leader for as long as an election takes, and hands leadership over
/// in as much again.
const CHANGE_PATIENCE: Duration = Duration::from_secs(15);

/// The longest answer: seven members and some learners have a few kilobytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Why a replica did not answer as was hoped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// It said no, and why.
    #[error("{message}")]
    Refused {
        /// The contract's code.
        code: String,
        /// For people.
        message: String,
    },
    /// It was not reached, or its answer is none.
    #[error("it does not answer: {0}")]
    Silent(String),
}

/// Whose certificate is shown, and who is believed.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<ClientConfig>);

/// A connection to a replica, for as long as there is something to ask of it.
pub(crate) struct Connection {
    requests: http2::SendRequest<Full<Bytes>>,
    host: String,
    /// Ends it when it is dropped.
    _driver: JoinSet<()>,
}

/// Where a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub address: IpAddr,
    /// The host that its certificate is for.
    pub host: String,
}

/// The answer of `GET /admin/v1/volume`.
#[expect(clippy::struct_field_names, reason = "as the contract has it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Volume {
    pub volume: Uuid,
    pub cluster: Option<Uuid>,
    pub node: Option<u64>,
}

/// The answer of `GET /admin/v1/members`.
#[expect(clippy::struct_field_names, reason = "as the contract has it")]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Members {
    pub cluster: Uuid,
    pub leader: Option<u64>,
    pub members: Vec<Member>,
    /// Who answers.
    pub this: This,
    /// The newest entry that it has.
    pub last_log_index: u64,
}

/// Who answers `GET /admin/v1/members`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct This {
    pub node: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Member {
    pub node: u64,
    pub address: String,
    pub role: String,
    pub lag_entries: Option<u64>,
    pub last_contact_ms: Option<u64>,
}

/// The answer of `GET /admin/v1/status`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Status {
    pub version: String,
    /// Not told by the first releases.
    #[serde(default)]
    pub blob_store: Option<Store>,
    /// If it is the replica that writes the backup.
    #[serde(default)]
    pub backup: Option<Backup>,
    /// If it is a mirror's.
    #[serde(default)]
    pub mirror: Option<Following>,
    /// If home has ever moved.
    #[serde(default)]
    pub region: Option<Region>,
    /// Changes that are kept aside.
    #[serde(default)]
    pub kept_aside: Option<u64>,
}

/// What a registry is among those of other regions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Region {
    /// `home`, `mirror` or `fenced`.
    pub standing: String,
    pub epoch: u64,
    /// The cluster that is home in that epoch. Not known where home was never moved.
    #[serde(default)]
    pub home: Option<String>,
    /// This cluster. Not known where home was never moved.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Whether it is fenced for a mirror that has not taken over yet.
    #[serde(default)]
    pub handing_over: bool,
}

/// The answer of `POST /admin/v1/promotion`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Promoted {
    region: Region,
}

/// The answer of `GET /admin/v1/promotion`: how far one is that nobody waits for any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Promotion {
    /// What it waits for.
    #[serde(default)]
    pub awaits: Option<String>,
    /// Why the one before came to nothing.
    #[serde(default)]
    pub failure: Option<Problem>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Problem {
    pub code: String,
    pub message: String,
}

impl Status {
    /// What it is among the regions: nothing is told of that where home was never moved.
    pub(crate) fn region(&self) -> Region {
        let first = if self.mirror.is_some() { "mirror" } else { "home" };
        let first = || Region { standing: first.to_owned(), epoch: 1, home: None, cluster: None, handing_over: false };
        self.region.clone().unwrap_or_else(first)
    }
}

impl Region {
    /// Whether the epoch is that of this very cluster: a mirror was told so by a handover to it that has not ended.
    pub(crate) fn is_of_itself(&self) -> bool {
        self.home.is_some() && self.home == self.cluster
    }
}

/// How far the backup is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Backup {
    /// How long the oldest change has been waiting that is not in it.
    pub lag_seconds: f64,
    pub snapshot: Option<Snapshot>,
    /// Whether the last one that was to be written was not.
    pub snapshot_failed: bool,
}

/// All facts of one moment, in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Snapshot {
    /// The newest change in it.
    pub sequence: u64,
    /// RFC 3339.
    pub time: String,
    pub key: String,
}

/// What a mirror says of its home.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Following {
    pub home_is_there: bool,
    /// How old what it shows is; none before home was heard of.
    pub lag_seconds: Option<f64>,
    pub comparing: bool,
    /// Why somebody has to look.
    pub problem: Option<String>,
}

/// The answer of `POST /admin/v1/mirrors/{name}/token`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Minted {
    pub token: String,
}

/// What a replica says of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Store {
    pub is_there: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Begin { volume: Uuid, cluster: Uuid },
    Promote { node: u64 },
    Replace { lost: u64, by: u64 },
    Remove { node: u64 },
    Transfer { to: u64 },
}

impl Credentials {
    /// Of a certificate and the CA that replicas' certificates are of.
    pub(crate) fn new(own: &Issued, ca: &str) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.map_err(|error| text(&error))?).map_err(|error| text(&error))?;
        }
        let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|error| text(&error))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| text(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.map_err(|error| text(&error))?, key)
            .map_err(|error| text(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Asks a replica who it is; the connection takes further questions.
    pub(crate) async fn greet(&self, target: &Target) -> Result<(Volume, Connection), AdminError> {
        within(LOOK_PATIENCE, async {
            let connection = self.connect(target).await?;
            let volume = connection.send(Method::GET, "/admin/v1/volume", None).await?;
            Ok((volume, connection))
        })
        .await
    }

    /// Has a token made with which a mirror of this name may follow, send on what is pushed there, and be handed over to; the
    /// one that it had before is not good any more.
    pub(crate) async fn mint(&self, target: &Target, mirror: &str) -> Result<Minted, AdminError> {
        let path = format!("/admin/v1/mirrors/{mirror}/token");
        self.ask(target, Method::POST, &path, Some(json!({ "writes": true })), CHANGE_PATIENCE).await
    }

    /// Has a mirror become home, in this epoch or a later one. It goes on with that when nobody waits for it any more, which is
    /// soon: a look at a registry must not take as long as what is missing.
    pub(crate) async fn promote_region(&self, target: &Target, epoch: u64, force: bool) -> Result<Region, AdminError> {
        let body = json!({ "force": force, "epoch": epoch });
        let promoted: Promoted =
            self.ask(target, Method::POST, "/admin/v1/promotion", Some(body), LOOK_PATIENCE).await?;
        Ok(promoted.region)
    }

    /// How far that is.
    pub(crate) async fn promotion(&self, target: &Target) -> Result<Promotion, AdminError> {
        self.ask(target, Method::GET, "/admin/v1/promotion", None, LOOK_PATIENCE).await
    }

    /// Lets a replica do it, or its leader.
    pub(crate) async fn change(&self, target: &Target, change: Change) -> Result<(), AdminError> {
        let (path, body) = match change {
            Change::Begin { volume, cluster } => {
                ("/admin/v1/begin".to_owned(), Some(json!({ "volume": volume, "cluster": cluster })))
            }
            Change::Promote { node } => (format!("/admin/v1/members/{node}/promote"), None),
            Change::Replace { lost, by } => (format!("/admin/v1/members/{lost}/replace"), Some(json!({ "by": by }))),
            Change::Remove { node } => (format!("/admin/v1/members/{node}/remove"), None),
            Change::Transfer { to } => ("/admin/v1/leadership/transfer".to_owned(), Some(json!({ "to": to }))),
        };
        self.ask::<Value>(target, Method::POST, &path, body, CHANGE_PATIENCE).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        body: Option<Value>,
        patience: Duration,
    ) -> Result<T, AdminError> {
        within(patience, async { self.connect(target).await?.send(method, path, body).await }).await
    }

    async fn connect(&self, target: &Target) -> Result<Connection, AdminError> {
        let socket = TcpStream::connect(SocketAddr::new(target.address, PEER_PORT)).await.map_err(silent)?;
        socket.set_nodelay(true).map_err(silent)?;
        let name = ServerName::try_from(target.host.clone()).map_err(silent)?;
        let stream = TlsConnector::from(Arc::clone(&self.0)).connect(name, socket).await.map_err(silent)?;
        let (requests, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(silent)?;
        let mut driver = JoinSet::new();
        driver.spawn(async {
            // How it ended, the request is told.
            let _ = connection.await;
        });
        Ok(Connection { requests, host: target.host.clone(), _driver: driver })
    }
}

impl Connection {
    pub(crate) async fn members(&self) -> Result<Members, AdminError> {
        within(CHANGE_PATIENCE, self.send(Method::GET, "/admin/v1/members", None)).await
    }

    pub(crate) async fn status(&self) -> Result<Status, AdminError> {
        within(LOOK_PATIENCE, self.send(Method::GET, "/admin/v1/status", None)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, AdminError> {
        let uri = format!("https://{}:{PEER_PORT}{path}", self.host);
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = Request::builder().method(method).uri(uri).body(Full::new(body)).map_err(silent)?;
        let response = self.requests.clone().send_request(request).await.map_err(silent)?;
        let is_done = response.status().is_success();
        let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let answer = answer.map_err(|error| AdminError::Silent(error.to_string()))?.to_bytes();
        if is_done {
            return serde_json::from_slice(&answer).map_err(silent);
        }
        let problem: BTreeMap<String, String> = serde_json::from_slice(&answer).unwrap_or_default();
        let field = |name: &str| problem.get(name).cloned().unwrap_or_else(|| "unknown".to_owned());
        Err(AdminError::Refused { code: field("code"), message: field("message") })
    }
}

fn silent(error: impl std::error::Error) -> AdminError {
    AdminError::Silent(error.to_string())
}

/// What is not answered in time is not answered.
async fn within<T>(patience: Duration, asked: impl Future<Output = Result<T, AdminError>>) -> Result<T, AdminError> {
    let nothing = |_elapsed| AdminError::Silent(format!("nothing in {} s", patience.as_secs()));
    timeout(patience, asked).await.map_err(nothing)?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contract, as the registry's server has it.
    fn golden<T: DeserializeOwned>(name: &str) -> T {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/server/golden/admin/v1").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn the_contract_is_read() {
        let members: Members = golden("members.json");
        assert_eq!((members.leader, members.members.len()), (Some(2), 4));
        assert_eq!(members.members[3].role, "learner");
        assert_eq!(golden::<Members>("members-without-leader.json").leader, None);
        let status: Status = golden("status.json");
        assert_eq!((&*status.version, status.blob_store), ("1.2.3", Some(Store { is_there: true })));
        assert_eq!((status.mirror, status.backup), (None, None));
        let backup = golden::<Status>("status-with-a-backup.json").backup.unwrap();
        assert_eq!((backup.lag_seconds, backup.snapshot.unwrap().sequence, backup.snapshot_failed), (0.25, 51, false));
        let following = golden::<Status>("status-of-a-mirror.json").mirror.unwrap();
        assert_eq!((following.lag_seconds, following.home_is_there, following.problem), (Some(1.25), true, None));
        let region = golden::<Status>("status.json").region();
        assert_eq!((&*region.standing, region.epoch), ("home", 1), "where home was never moved");
        let region = golden::<Status>("status-of-a-mirror.json").region();
        assert_eq!((&*region.standing, region.is_of_itself()), ("mirror", false));
        let region = golden::<Region>("region-handing-over.json");
        assert_eq!((region.handing_over, region.is_of_itself()), (true, false), "{region:?}");
        assert_eq!(golden::<Promotion>("promotion-outlook.json"), Promotion::default());
        let under_way = golden::<Promotion>("promotion-outlook-under-way.json");
        assert!(under_way.awaits.unwrap().contains("up to its change 300"));
        assert_eq!(under_way.failure.unwrap().code, "needs_force");
        let region = golden::<Promoted>("promotion.json").region;
        assert_eq!((region.epoch, region.is_of_itself()), (2, true), "{region:?}");
        assert_eq!(
            golden::<Value>("promotion-of-an-epoch-request.json"),
            json!({ "force": true, "epoch": 2 }),
            "what it asks for"
        );
        assert!(golden::<Minted>("mirror-token.json").token.starts_with("rsm_"));
        assert_eq!(golden::<Value>("mirror-token-request.json"), json!({ "writes": true }), "what it asks for");
        assert_eq!(golden::<Volume>("volume-blank.json").node, None);
        assert_eq!(golden::<Volume>("volume.json").node, Some(1));
    }

    #[test]
    fn every_path_is_in_the_contract() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/server/golden/admin/v1/paths.txt");
        let paths = std::fs::read_to_string(path).unwrap();
        for path in [
            "GET /admin/v1/volume",
            "GET /admin/v1/members",
            "GET /admin/v1/status",
            "POST /admin/v1/begin",
            "POST /admin/v1/members/{node}/promote",
            "POST /admin/v1/members/{node}/replace",
            "POST /admin/v1/members/{node}/remove",
            "POST /admin/v1/leadership/transfer",
            "POST /admin/v1/mirrors/{name}/token",
            "GET /admin/v1/promotion",
            "POST /admin/v1/promotion",
        ] {
            assert!(paths.lines().any(|line| line == path), "{path}");
        }
    }
}

//! Makes a replica's end of the cluster out of the settings.

use std::sync::Arc;

use roadstead_metadata::ClusterOptions;
use tokio::net::TcpListener;

use super::credentials::{Credentials, TrustFile};
use super::listener::{Answering, PeerListener};
use super::transport::Transport;
use crate::ambient::SystemClock;
use crate::failure::Failure;
use crate::settings::{Cluster, ClusterCredentials};
use crate::tasks::{Supervisor, TaskKind};
use crate::tls::Certificate;
use crate::watched::Watched;

/// Listens for other replicas on `socket`, and says how they are reached, for messages and for content. They are answered as soon as there is metadata
/// to answer from.
pub(crate) fn connect(
    cluster: &Cluster,
    socket: TcpListener,
    supervisor: &Supervisor,
) -> anyhow::Result<(ClusterOptions, Answering, Arc<Transport>)> {
    let credentials = credentials(&cluster.credentials, supervisor)?;
    let answering = Answering::default();
    let listener = Arc::new(PeerListener::new(socket, credentials.clone(), answering.clone()));
    supervisor.spawn(TaskKind::PeerListener, move |stop| Arc::clone(&listener).run(stop));
    let options = ClusterOptions {
        transport: Arc::new(Transport::new(credentials.clone())),
        address: cluster.address.clone(),
        seeds: cluster.seeds.clone(),
    };
    // Connections of its own: what is carried for pulls must not hold up what keeps the cluster together.
    let content = Arc::new(Transport::new(credentials));
    Ok((options, answering, content))
}

fn credentials(given: &ClusterCredentials, supervisor: &Supervisor) -> anyhow::Result<Credentials> {
    match given {
        ClusterCredentials::Secret(path) => {
            let clock = Arc::new(SystemClock::start());
            let (credentials, issued) = Credentials::of_secret(path.clone(), clock).map_err(|error| {
                let next = "set `cluster-secret-file` to a file that holds the same 32 random bytes for every replica";
                Failure::new("cannot use the cluster's secret", next).because(error)
            })?;
            supervisor.spawn(TaskKind::RenewCertificate, move |_| Arc::clone(&issued).renew());
            Ok(credentials)
        }
        ClusterCredentials::Files { certificate, key, ca } => {
            let next = "set `cluster-certificate`, `cluster-key` and `cluster-ca` to PEM files that belong together";
            let unusable =
                |error: anyhow::Error| Failure::new("cannot use the cluster's certificate", next).because(error);
            let certificate = Watched::<Certificate, 2>::open([certificate.clone(), key.clone()]);
            let certificate = Arc::new(certificate.map_err(|error| unusable(error.into()))?);
            let trust = Watched::<TrustFile, 1>::open([ca.clone()]);
            let trust = Arc::new(trust.map_err(|error| unusable(error.into()))?);
            let credentials = Credentials::given(certificate.slot(), trust.slot());
            supervisor.spawn(TaskKind::WatchFiles, move |_| Arc::clone(&certificate).watch());
            supervisor.spawn(TaskKind::WatchFiles, move |_| Arc::clone(&trust).watch());
            Ok(credentials)
        }
    }
}

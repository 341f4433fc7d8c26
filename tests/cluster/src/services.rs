use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::api::Api;
use crate::command::Tool;
use crate::kubeconfig::{self, ADMIN};
use crate::site::Site;
use crate::wait::until;

/// It answers within a second or two on a quiet machine.
const START: Duration = Duration::from_mins(1);

/// The S3 server of the cluster, as pods reach it: a server on the hub behind a Service.
pub struct Bucket;

impl Bucket {
    /// What pods call it by.
    pub const ENDPOINT: &str = "http://minio.minio.svc.cluster.local:9000";
    /// The region that it says it is in.
    pub const REGION: &str = "us-east-1";
    /// A bucket that is there.
    pub const NAME: &str = "registry";
    /// Who may use it.
    pub const ACCESS_KEY: &str = "roadstead";
    /// With what.
    pub const SECRET_KEY: &str = "roadstead-secret";
}

/// Starts the DNS of the cluster on the hub, and makes it a Service.
pub(crate) async fn start_dns(site: &Site, api: &Api) -> Result<()> {
    let corefile = format!(
        "cluster.local:53 in-addr.arpa:53 {{
    bind {hub}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
# Nothing else has a name here.
.:53 {{
    bind {hub}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
",
        hub = site.hub_address(),
        kubeconfig = kubeconfig::path(site, ADMIN).display()
    );
    fs::write(site.file("Corefile"), corefile)?;
    Tool::in_network(&site.hub(), "coredns")?
        .arg("-conf")
        .arg(site.file("Corefile"))
        .daemon(&site.file("coredns.log"))?;
    let ports = [("dns", "UDP", 53), ("dns-tcp", "TCP", 53)];
    publish(site, api, ("kube-system", "kube-dns"), Some(site.dns_service().to_string()), &ports).await
}

/// Starts `MinIO` on the hub with one empty bucket, and makes it a Service.
pub(crate) async fn start_storage(site: &Site, api: &Api) -> Result<()> {
    start_minio(site).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "minio"}});
    api.apply("/api/v1/namespaces/minio", &namespace).await?;
    publish(site, api, ("minio", "minio"), None, &[("s3", "TCP", 9000)]).await
}

/// Starts `MinIO`, with what it held if it ran before, and returns its process id.
pub(crate) async fn start_minio(site: &Site) -> Result<u32> {
    let data = site.file("minio");
    // A folder of a bucket that is there when it starts is a bucket.
    fs::create_dir_all(data.join(Bucket::NAME))?;
    let address = format!("{}:9000", site.hub_address());
    let process = Tool::in_network(&site.hub(), "minio")?
        .args(&format!("server --quiet --address {address}"))
        .arg(&data)
        .env("HOME", site.folder())
        .env("MINIO_ROOT_USER", Bucket::ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", Bucket::SECRET_KEY)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_UPDATE", "off")
        .daemon(&site.file("minio.log"))?;
    fs::write(site.file("minio.pid"), process.to_string())?;
    let ready = async || {
        let curl = Tool::in_network(&site.hub(), "curl")?.args("--silent --show-error --fail");
        curl.arg(format!("http://{address}/minio/health/ready")).output().await
    };
    until("MinIO is ready", START, ready).await?;
    Ok(process)
}

/// Makes a Service of ports of the hub.
async fn publish(
    site: &Site,
    api: &Api,
    (namespace, name): (&str, &str),
    address: Option<String>,
    ports: &[(&str, &str, u16)],
) -> Result<()> {
    let port = |(name, protocol, port): &(&str, &str, u16)| json!({"name": name, "protocol": protocol, "port": port});
    let ports: Vec<_> = ports.iter().map(port).collect();
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": ports},
    });
    if let Some(address) = address {
        service["spec"]["clusterIP"] = json!(address);
    }
    api.apply(&format!("/api/v1/namespaces/{namespace}/services/{name}"), &service).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-hub"),
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [site.hub_address()], "conditions": {"ready": true}}],
        "ports": ports,
    });
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{name}-hub");
    api.apply(&path, &slice).await.map(drop)
}

use std::fs;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::api::Api;
use crate::certificates::{AUTHORITY, SERVER, SERVER_KEY, TOKEN_KEY, TOKEN_PUBLIC_KEY};
use crate::command::Tool;
use crate::kubeconfig;
use crate::site::Site;
use crate::wait::until;

/// The API server is ready in some three seconds; five people's builds beside it make that a minute.
const START: Duration = Duration::from_mins(2);

/// Starts etcd and the API server, and returns once the API server is ready.
pub(crate) async fn start(site: &Site, nodes: u8) -> Result<Api> {
    component(site, "etcd")?
        .arg("--data-dir")
        .arg(site.file("etcd"))
        // Nothing of a test cluster outlives a power cut.
        .args("--unsafe-no-fsync --log-level warn --listen-peer-urls http://127.0.0.1:2380")
        .args("--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379")
        .daemon(&site.file("etcd.log"))?;
    component(site, "kube-apiserver")?
        .args("--etcd-servers http://127.0.0.1:2379 --secure-port 6443 --bind-address 0.0.0.0")
        .args(&format!("--advertise-address {} --service-cluster-ip-range {}", site.hub_address(), site.services()))
        .arg(format!("--tls-cert-file={}", site.file(SERVER).display()))
        .arg(format!("--tls-private-key-file={}", site.file(SERVER_KEY).display()))
        .arg(format!("--token-auth-file={}", kubeconfig::write_tokens(site, nodes)?.display()))
        .arg(format!("--service-account-signing-key-file={}", site.file(TOKEN_KEY).display()))
        .arg(format!("--service-account-key-file={}", site.file(TOKEN_PUBLIC_KEY).display()))
        .args("--service-account-issuer https://kubernetes.default.svc.cluster.local")
        .args("--authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged")
        // Without these, exec and logs go to names that nobody resolves.
        .args("--kubelet-preferred-address-types InternalIP")
        .arg(format!("--audit-policy-file={}", write_audit_policy(site)?.display()))
        .arg(format!("--audit-log-path={}", site.audit_log().display()))
        .daemon(&site.file("kube-apiserver.log"))?;
    let api = Api::of(site)?;
    until("the API server is ready", START, async || api.text("/readyz").await).await?;
    Ok(api)
}

/// Starts the controllers and the scheduler.
pub(crate) fn start_controllers(site: &Site) -> Result<()> {
    let user = "system:kube-controller-manager";
    component(site, "kube-controller-manager")?
        .arg(format!("--kubeconfig={}", kubeconfig::path(site, user).display()))
        .arg(format!("--service-account-private-key-file={}", site.file(TOKEN_KEY).display()))
        .arg(format!("--root-ca-file={}", site.file(AUTHORITY).display()))
        .args("--use-service-account-credentials --leader-elect=false --bind-address 127.0.0.1")
        // A node that is gone is to be noticed within a test.
        .args("--node-monitor-period 2s --node-monitor-grace-period 16s")
        .daemon(&site.file("kube-controller-manager.log"))?;
    component(site, "kube-scheduler")?
        .arg(format!("--kubeconfig={}", kubeconfig::path(site, "system:kube-scheduler").display()))
        .args("--leader-elect=false --bind-address 127.0.0.1")
        .daemon(&site.file("kube-scheduler.log"))?;
    Ok(())
}

fn component(site: &Site, name: &str) -> Result<Tool> {
    Ok(Tool::in_network(&site.hub(), "kubernetes")?.arg(name))
}

impl Site {
    /// Who did what, a JSON event a line: all writes.
    pub fn audit_log(&self) -> std::path::PathBuf {
        self.file("audit.log")
    }
}

fn write_audit_policy(site: &Site) -> Result<std::path::PathBuf> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "verbs": ["get", "list", "watch"]},
            {"level": "Metadata"},
        ],
    });
    let file = site.file("audit-policy.json");
    fs::write(&file, policy.to_string())?;
    Ok(file)
}

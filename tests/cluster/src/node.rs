use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::command::Tool;
use crate::image::{Image, PAUSE};
use crate::site::Site;
use crate::wait::until;
use crate::{cgroups, kubeconfig};

/// containerd answers within a second on a quiet machine.
const START: Duration = Duration::from_mins(1);

/// Folders of the machine in which a node has its own: what runs on it finds them at these paths.
const OWN_FOLDERS: [&str; 4] = ["/etc/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log"];

/// One host of the cluster: a network and a mount namespace, a cgroup, and what runs in them.
#[derive(Clone)]
pub(crate) struct Node {
    site: Site,
    number: u8,
}

impl Node {
    pub(crate) fn new(site: &Site, number: u8) -> Self {
        Self { site: site.clone(), number }
    }

    /// Starts it, with these images, and returns once its kubelet runs.
    pub(crate) async fn start(&self, images: &[PathBuf]) -> Result<()> {
        fs::create_dir_all(self.folder())?;
        cgroups::make(&self.site.node(self.number))?;
        self.make_mounts().await?;
        self.start_containerd().await?;
        for image in images {
            self.import(image).await?;
        }
        self.start_kubelet()?;
        self.start_proxy()
    }

    /// Loads an image from an archive.
    pub(crate) async fn import(&self, archive: &PathBuf) -> Result<()> {
        self.ctr()?.args("images import --all-platforms").arg(archive).output().await.map(drop)
    }

    /// A call of containerd's client, for the images and containers of Kubernetes.
    pub(crate) fn ctr(&self) -> Result<Tool> {
        Ok(Tool::new("ctr")?.arg("--address").arg(self.socket()).args("--namespace k8s.io"))
    }

    fn folder(&self) -> PathBuf {
        self.site.node_folder(self.number)
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("containerd.sock")
    }

    /// Makes the mount namespace, which lives as long as a process in it: one that does nothing.
    async fn make_mounts(&self) -> Result<()> {
        let mut script = String::from("mount --make-rshared /\n");
        for (number, path) in OWN_FOLDERS.iter().enumerate() {
            let own = self.folder().join(format!("mount-{number}"));
            fs::create_dir_all(&own)?;
            // One that this machine lacks is made, and taken away again with the cluster.
            if fs::create_dir(path).is_ok() {
                fs::write(self.site.file(&format!("made-{number}")), path)?;
            }
            writeln!(script, "mount --bind {} {path}", own.display())?;
        }
        writeln!(script, "echo $$ > {}\nexec sleep infinity", self.holder_file().display())?;
        Tool::in_network(&self.site.node(self.number), "unshare")?
            .args("--mount --propagation private sh -ec")
            .arg(script)
            .daemon(&self.folder().join("mounts.log"))?;
        until("the node's mounts are made", START, async || self.holder()).await.map(drop)
    }

    fn holder_file(&self) -> PathBuf {
        self.folder().join("holder")
    }

    fn holder(&self) -> Result<u32> {
        Ok(fs::read_to_string(self.holder_file())?.trim().parse()?)
    }

    /// A tool that runs on the node.
    pub(crate) fn tool(&self, name: &str) -> Result<Tool> {
        let namespaces = format!("/proc/{}/ns", self.holder().context("the node does not run")?);
        Ok(Tool::new("nsenter")?.args(&format!("--net={namespaces}/net --mount={namespaces}/mnt {name}")))
    }

    async fn start_containerd(&self) -> Result<()> {
        let folder = self.folder();
        fs::create_dir_all(folder.join("cni"))?;
        fs::write(folder.join("cni/10-pods.conflist"), self.pod_network().to_string())?;
        fs::write(folder.join("containerd.toml"), self.containerd_settings())?;
        self.tool("containerd")?
            .arg("--config")
            .arg(folder.join("containerd.toml"))
            .daemon(&folder.join("containerd.log"))?;
        let answers = async || Tool::new("ctr")?.arg("--address").arg(self.socket()).arg("version").output().await;
        until("containerd answers", START, answers).await.map(drop)
    }

    /// Each pod is joined to its node by a cable of its own, so that everything passes the node's rules for Services.
    fn pod_network(&self) -> serde_json::Value {
        json!({
            "cniVersion": "1.0.0",
            "name": self.site.node(self.number),
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": false,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": self.folder().join("pod-addresses"),
                        "ranges": [[{"subnet": self.site.pods_of(self.number)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })
    }

    fn containerd_settings(&self) -> String {
        let folder = self.folder().display().to_string();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        format!(
            "version = 4
root = '{folder}/containerd'
state = '{folder}/run'

[plugins.'io.containerd.server.v1.grpc']
  address = '{folder}/containerd.sock'

[plugins.'io.containerd.server.v1.ttrpc']
  address = '{folder}/containerd.sock.ttrpc'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE}'

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'

[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE, as in many containers, a lower score than one's own is refused.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '{folder}/cni'

[plugins.'io.containerd.transfer.v1.local']
  config_path = '/etc/containerd/certs.d'

  [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
    platform = 'linux/{architecture}'
    snapshotter = 'overlayfs'

[plugins.'io.containerd.internal.v1.opt']
  path = '{folder}/opt'

[plugins.'io.containerd.nri.v1.nri']
  disable = true
"
        )
    }

    fn start_kubelet(&self) -> Result<()> {
        let folder = self.folder();
        fs::write(folder.join("resolv.conf"), "")?;
        let settings = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.site.node_address(self.number),
            // Only the hub reaches it.
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.site.node(self.number)),
            "failCgroupV1": false,
            "clusterDNS": [self.site.dns_service()],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "failSwapOn": false,
            // Images that were loaded stay, however full the machine's disk is.
            "imageGCHighThresholdPercent": 100,
            // Tests pull by another name, and with a login, what every node has from its start. The kubelet would then
            // ask everybody else for that login.
            "imagePullCredentialsVerificationPolicy": "NeverVerify",
            // Nothing measures file systems here.
            "localStorageCapacityIsolation": false,
            "nodeStatusUpdateFrequency": "4s",
            "nodeLeaseDurationSeconds": 8,
            "oomScoreAdj": 0,
            "resolvConf": folder.join("resolv.conf"),
            "serializeImagePulls": false,
            // Within which pods see that a Secret has changed: tests would do nothing but wait for it.
            "syncFrequency": "10s",
            "volumePluginDir": folder.join("volume-plugins"),
        });
        fs::write(folder.join("kubelet.json"), settings.to_string())?;
        let user = kubeconfig::node_user(self.number);
        self.tool("kubernetes")?
            .arg("kubelet")
            .arg(format!("--config={}", folder.join("kubelet.json").display()))
            .arg(format!("--kubeconfig={}", kubeconfig::path(&self.site, &user).display()))
            .arg(format!("--hostname-override={}", Site::node_name(self.number)))
            .arg(format!("--node-ip={}", self.site.node_address(self.number)))
            .arg(format!("--node-labels=topology.kubernetes.io/zone=zone-{}", self.number))
            .daemon(&folder.join("kubelet.log"))?;
        Ok(())
    }

    fn start_proxy(&self) -> Result<()> {
        let folder = self.folder();
        let settings = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "bindAddress": self.site.node_address(self.number),
            "clientConnection": {"kubeconfig": kubeconfig::path(&self.site, "system:kube-proxy")},
            "clusterCIDR": self.site.pods(),
            "hostnameOverride": Site::node_name(self.number),
            "mode": "iptables",
            "iptables": {"minSyncPeriod": "100ms"},
            // This machine's limits are not this node's to set.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        });
        fs::write(folder.join("kube-proxy.json"), settings.to_string())?;
        self.tool("kubernetes")?
            .arg("kube-proxy")
            .arg(format!("--config={}", folder.join("kube-proxy.json").display()))
            .daemon(&folder.join("kube-proxy.log"))?;
        Ok(())
    }
}

/// The images that every node has from its start.
pub(crate) async fn base_images(site: &Site) -> Result<Vec<PathBuf>> {
    let pause = Image::pause()?.write(site).await?;
    let tools = Image::tools()?.write(site).await?;
    Ok(vec![pause, tools])
}

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;

use crate::api::Api;
use crate::command::{Tool, say};
use crate::image::Image;
use crate::kubeconfig::{self, ADMIN};
use crate::node::{Node, base_images};
use crate::site::Site;
use crate::tools::tool;
use crate::wait::until;
use crate::{certificates, cgroups, control_plane, network, provisioner, services};

/// Nodes are ready in some six seconds on a quiet machine.
const READY: Duration = Duration::from_mins(2);

/// What was killed is gone at once, and what it leaves in the kernel soon after.
const GONE: Duration = Duration::from_secs(30);

/// A cluster that is up. Dropping it leaves it up.
#[derive(Clone)]
pub struct Cluster {
    site: Site,
    api: Api,
    nodes: u8,
}

impl Cluster {
    /// Brings a cluster up at this site, and returns once all of its nodes are ready. The calling thread is in the
    /// hub's network from then on: the runtime has to be one of a single thread.
    pub async fn up(site: &Site, nodes: u8) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "a cluster takes root: namespaces, mounts and cgroups are made");
        if let Err(error) = fs::create_dir(site.folder()) {
            ensure!(error.kind() == std::io::ErrorKind::AlreadyExists, "{}: {error}", site.folder().display());
            bail!(
                "there is a cluster `{0}` already: take it down with `roadstead-cluster down --name {0}`",
                site.name()
            );
        }
        let made = Self::make(site, nodes).await;
        if made.is_err() {
            say(&format!("it did not come up; logs are below {}", site.folder().display()));
        }
        made
    }

    async fn make(site: &Site, nodes: u8) -> Result<Self> {
        fs::write(site.file(NODES), nodes.to_string())?;
        fs::create_dir(site.file("bin"))?;
        std::os::unix::fs::symlink(tool("kubernetes")?, site.file("bin/kubectl"))?;
        network::make(site, nodes).await?;
        network::enter(site)?;
        certificates::write(site)?;
        kubeconfig::write_all(site, nodes)?;
        let (api, images) = tokio::try_join!(control_plane::start(site, nodes), base_images(site))?;
        control_plane::start_controllers(site)?;
        let provisioner = Tool::in_network(&site.hub(), "env")?.arg(std::env::current_exe()?);
        provisioner.args("provision --name").arg(site.name()).daemon(&site.file("provisioner.log"))?;
        let cluster = Self { site: site.clone(), api, nodes };
        let starts = cluster.hosts().map(|node| {
            let images = &images;
            async move { node.start(images).await }
        });
        tokio::try_join!(
            try_join_all(starts),
            services::start_dns(site, &cluster.api),
            services::start_storage(site, &cluster.api),
            provisioner::make_class(&cluster.api),
        )?;
        until("every node is ready", READY, async || cluster.all_are_ready().await).await?;
        Ok(cluster)
    }

    /// The cluster that is up at this site. The calling thread is in the hub's network from then on.
    pub fn attach(site: &Site) -> Result<Self> {
        if !network::is_entered(site) {
            network::enter(site)?;
        }
        let nodes = fs::read_to_string(site.file(NODES)).context("the cluster is not up")?.trim().parse()?;
        Ok(Self { site: site.clone(), api: Api::of(site)?, nodes })
    }

    /// Joins another cluster to this one, by a link between their hubs: whoever is on this one's hub reaches the hosts of the
    /// other one, and nothing that is in one of them reaches the other. The caller stays on this one's hub.
    pub async fn join(&self, other: &Site) -> Result<Self> {
        network::join(&self.site, other).await?;
        let nodes = fs::read_to_string(other.file(NODES)).context("the cluster is not up")?.trim().parse()?;
        Ok(Self { site: other.clone(), api: Api::of(other)?, nodes })
    }

    /// Takes away whatever is left at this site.
    pub async fn down(site: &Site) -> Result<()> {
        let emptied = async || {
            // Kubelets first, which would start again what is in the cgroups.
            for namespace in network::namespaces(site) {
                network::kill_inside(&namespace).await?;
            }
            cgroups::kill_all(site)?;
            cgroups::remove_all(site)
        };
        until("nothing runs in the cluster any more", GONE, emptied).await?;
        for namespace in network::namespaces(site) {
            network::remove(&namespace).await?;
        }
        if !site.folder().exists() {
            return Ok(());
        }
        // Mounts went with the nodes' mount namespaces. If one were left here, what it shows would be deleted.
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let below = format!(" {}/", site.folder().display());
        ensure!(!mounts.contains(&below), "something is still mounted below {}", site.folder().display());
        let made = fs::read_dir(site.folder())?.flatten().map(|entry| entry.path());
        for note in made.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("made-")))
        {
            // Not empty, if somebody else uses it by now.
            let _ = fs::remove_dir(Path::new(&fs::read_to_string(note)?));
        }
        Ok(fs::remove_dir_all(site.folder())?)
    }

    /// Where it is.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its API server.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The numbers of its nodes.
    pub fn nodes(&self) -> std::ops::RangeInclusive<u8> {
        1..=self.nodes
    }

    fn hosts(&self) -> impl Iterator<Item = Node> {
        self.nodes().map(|number| Node::new(&self.site, number))
    }

    /// Loads an image on every node.
    pub async fn load(&self, image: &Image) -> Result<()> {
        let archive = image.write(&self.site).await?;
        try_join_all(self.hosts().map(|node| {
            let archive = &archive;
            async move { node.import(archive).await }
        }))
        .await?;
        Ok(fs::remove_file(archive)?)
    }

    /// A tool that runs on a node.
    pub fn on_node(&self, node: u8, tool: &str) -> Result<Tool> {
        Node::new(&self.site, node).tool(tool)
    }

    /// A call of the client of a node's containerd.
    pub fn ctr(&self, node: u8) -> Result<Tool> {
        Node::new(&self.site, node).ctr()
    }

    /// A call of kubectl, as admin.
    pub fn kubectl(&self) -> Result<Tool> {
        Ok(self.tool("kubernetes")?.arg("kubectl"))
    }

    /// A tool on the hub that finds the cluster.
    pub fn tool(&self, name: &str) -> Result<Tool> {
        let home = self.site.file("home");
        fs::create_dir_all(&home)?;
        Ok(Tool::new(name)?.env("KUBECONFIG", self.kubeconfig()).env("HOME", home))
    }

    /// The admin's file.
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        kubeconfig::path(&self.site, ADMIN)
    }

    /// Kills the S3 server; what it holds stays.
    pub async fn stop_storage(&self) -> Result<()> {
        let process: i32 = fs::read_to_string(self.site.file("minio.pid"))?.trim().parse()?;
        network::kill(process);
        let gone = async || {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let ended = stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('Z'));
            ensure!(ended, "it runs");
            Ok(())
        };
        until("the S3 server is gone", GONE, gone).await
    }

    /// Starts the S3 server again.
    pub async fn start_storage(&self) -> Result<()> {
        services::start_minio(&self.site).await.map(drop)
    }

    /// Starts a program on the hub that runs until the cluster is taken down.
    pub fn daemon(&self, program: &Path, arguments: &[&str], log: &str) -> Result<()> {
        let tool = Tool::in_network(&self.site.hub(), "env")?.arg(program);
        let tool = arguments.iter().fold(tool, Tool::arg);
        tool.daemon(&self.site.file(log)).map(drop)
    }

    async fn all_are_ready(&self) -> Result<()> {
        let nodes = self.api.list("/api/v1/nodes").await?;
        let is_ready = |node: &&Value| {
            let conditions = node["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        let ready = nodes.iter().filter(is_ready).count();
        ensure!(ready == usize::from(self.nodes), "{ready} of {} nodes are ready", self.nodes);
        Ok(())
    }
}

/// Holds how many nodes there are.
const NODES: &str = "nodes";

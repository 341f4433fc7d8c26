//! Three replicas of Roadstead as three processes, over one folder of blobs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, interval};

use super::registries::data;
use super::server::scratch;
use super::{Process, free_address};
use crate::load::{Connection, Reading, Request};

/// Starting and joining takes seconds.
const START: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(20);

/// A cluster that runs.
pub(crate) struct Cluster {
    binary: PathBuf,
    replicas: Vec<Replica>,
    // After the processes: they must not write into a folder that is being removed.
    folder: TempDir,
}

struct Replica {
    binary: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    address: SocketAddr,
    peer: SocketAddr,
    process: Option<Process>,
}

impl Cluster {
    pub(crate) const REPLICAS: usize = 3;

    /// Starts `binary` so often, and returns once each has a vote.
    pub(crate) async fn start(binary: &Path, parent: &Path) -> Result<Self> {
        let cluster = Self::start_some(binary, parent, Self::REPLICAS).await?;
        cluster.until_all_vote().await?;
        Ok(cluster)
    }

    /// Starts `binary` as `replicas` replicas, and returns once each is ready.
    pub(crate) async fn start_some(binary: &Path, parent: &Path, replicas: usize) -> Result<Self> {
        let folder = scratch(parent, "cluster")?;
        std::fs::write(folder.path().join("secret"), "of-the-benchmark".repeat(4))?;
        let mut cluster = Self { binary: binary.to_owned(), replicas: Vec::new(), folder };
        for _ in 0..replicas {
            cluster.add().await?;
        }
        Ok(cluster)
    }

    /// Starts one more, on an empty folder, and returns once it is ready.
    pub(crate) async fn add(&mut self) -> Result<()> {
        let root = self.folder.path();
        let folder = root.join(format!("replica-{}", self.replicas.len()));
        std::fs::create_dir(&folder)?;
        let (address, peer) = (free_address()?, free_address()?);
        let path = |path: PathBuf| path.display().to_string();
        let mut arguments = vec!["serve".to_owned()];
        for (flag, value) in [
            ("--listen", address.to_string()),
            ("--data", path(data(&folder))),
            ("--blobs", path(root.join("blobs"))),
            ("--peer-listen", peer.to_string()),
            ("--cluster-secret-file", path(root.join("secret"))),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        for replica in &self.replicas {
            arguments.extend(["--join".to_owned(), replica.peer.to_string()]);
        }
        let mut replica = Replica { binary: self.binary.clone(), arguments, folder, address, peer, process: None };
        replica.start().await?;
        self.replicas.push(replica);
        Ok(())
    }

    /// Has the leader hand leadership over.
    pub(crate) async fn transfer(&self) -> Result<()> {
        let leader = &self.replicas[self.leader().await?];
        let mut command = tokio::process::Command::new(&self.binary);
        let output = command.args(["leadership", "transfer", "--data"]).arg(data(&leader.folder)).output().await?;
        ensure!(output.status.success(), "leadership transfer: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Where each replica serves.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|replica| replica.address).collect()
    }

    /// Waits until one leads and all others follow it.
    pub(crate) async fn until_all_vote(&self) -> Result<()> {
        self.until("all replicas have a vote and know who leads", || {
            let roles: Vec<_> = self.replicas.iter().filter_map(|replica| replica.role().ok()).collect();
            let of = |wanted: &str| roles.iter().filter(|role| *role == wanted).count();
            (of("leader") == 1 && of("follower") == self.replicas.len() - 1).then_some(())
        })
        .await
    }

    /// Which one leads.
    pub(crate) async fn leader(&self) -> Result<usize> {
        let leads = |replica: &Replica| replica.role().is_ok_and(|role| role == "leader");
        self.until("a leader is known", || self.replicas.iter().position(leads)).await
    }

    async fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + START;
        let mut tick = interval(LOOK);
        loop {
            tick.tick().await;
            if let Some(found) = look() {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "waited {START:?} in vain until {what}");
        }
    }

    /// Kills one with SIGKILL.
    pub(crate) fn kill(&mut self, replica: usize) {
        self.replicas[replica].process = None;
    }

    /// Starts one again after [`Self::kill`].
    pub(crate) async fn restart(&mut self, replica: usize) -> Result<()> {
        self.replicas[replica].start().await
    }
}

impl Replica {
    async fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).current_dir(&self.folder);
        let mut process = Process::start("roadstead", command, &self.folder)?;
        let (address, request) = (self.address, Request::get("/readyz"));
        process
            .until(START, async || match Connection::open(address, Reading::Copying).await {
                Ok(mut connection) => connection.exchange(&request).await.is_ok(),
                Err(_) => false,
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// What `roadstead status` says that it is.
    fn role(&self) -> Result<String> {
        let data = data(&self.folder);
        let output = Command::new(&self.binary).args(["status", "--json", "--data"]).arg(data).output()?;
        let status: Value = serde_json::from_slice(&output.stdout)?;
        status["raft"]["role"].as_str().map(str::to_owned).context("a status without a role")
    }
}

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::fs::{Advice, fadvise};
use tempfile::TempDir;

use super::{Process, System};
use crate::load::{Connection, Reading, Request};

/// The slowest starts in a few seconds.
const START: Duration = Duration::from_mins(1);

/// A registry writes back what it has in memory, and ends.
const STOP: Duration = Duration::from_mins(1);

/// A system that runs and answers, with a folder of its own that goes when this is dropped.
pub(crate) struct Server {
    pub(crate) system: System,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    /// From starting the process to its first answer.
    pub(crate) start: Duration,
    // After the process: it must not write into a folder that is being removed.
    folder: TempDir,
}

impl Server {
    /// Waits until a process that was just started answers `GET ready` with a 2xx.
    pub(super) async fn ready(
        system: System,
        address: SocketAddr,
        mut process: Process,
        folder: TempDir,
        ready: &str,
    ) -> Result<Self> {
        let request = Request::get(ready);
        process
            .until(START, async || match Connection::open(address, Reading::Copying).await {
                Ok(mut connection) => connection.exchange(&request).await.is_ok(),
                Err(_) => false,
            })
            .await?;
        let start = process.age();
        Ok(Self { system, address, process, start, folder })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(self.address, Reading::Dropping).await
    }

    /// Writes back what it has written and gives up the pages that hold it. So every push finds pages that were used a
    /// moment ago, and not, on a virtual machine, some that the host has yet to provide at eight times the cost.
    pub(crate) fn settle(&self) -> Result<()> {
        rustix::fs::sync();
        let mut folders = vec![self.folder().to_owned()];
        while let Some(folder) = folders.pop() {
            // What is temporary may go while it is looked at.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(file) = File::open(path) {
                    fadvise(file, 0, None, Advice::DontNeed)?;
                }
            }
        }
        Ok(())
    }

    /// Stops it as its supervisor would, and returns the folder of all that it kept.
    pub(crate) async fn stop(self) -> Result<TempDir> {
        let Self { mut process, folder, .. } = self;
        process.terminate(STOP).await?;
        Ok(folder)
    }

    /// Kills it, and returns the folder of all that it kept.
    pub(crate) fn kill(self) -> TempDir {
        let Self { process, folder, .. } = self;
        drop(process);
        folder
    }

    /// Where it keeps what it is given.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An address of loopback that nobody listens on. Not every system tells which port it took when told to take any.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// An empty folder below `parent`, which is on the disk that is measured.
pub(super) fn scratch(parent: &Path, name: &str) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix(&format!("roadstead-bench-{name}-")).tempdir_in(parent)?)
}

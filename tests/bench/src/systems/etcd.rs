//! etcd with three members, as its guide configures one on this machine, and its own benchmark.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::server::scratch;
use super::{Process, free_address};
use crate::load::{Connection, Reading, Request};
use crate::machine::tool;

const START: Duration = Duration::from_mins(1);

/// A cluster that runs.
pub(crate) struct Etcd {
    members: Vec<(SocketAddr, Process)>,
    // After the processes: they must not write into a folder that is being removed.
    _folder: TempDir,
}

/// What its benchmark says of a load.
pub(crate) struct Measured {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Seconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Etcd {
    const MEMBERS: usize = 3;

    /// The key that is read.
    const KEY: &str = "foo";
    const KEY_IN_BASE64: &str = "Zm9v";

    /// Starts it, its data below `parent`.
    pub(crate) async fn start(parent: &Path) -> Result<Self> {
        let folder = scratch(parent, "etcd")?;
        let pairs = (0..Self::MEMBERS).map(|_| Ok((free_address()?, free_address()?))).collect::<Result<Vec<_>>>()?;
        let name = |number: usize| format!("member-{number}");
        let all: Vec<_> =
            (0..).zip(&pairs).map(|(number, (_, peer))| format!("{}=http://{peer}", name(number))).collect();
        let mut members = Vec::new();
        for (number, (client, peer)) in pairs.iter().enumerate() {
            let own = folder.path().join(name(number));
            std::fs::create_dir(&own)?;
            let mut command = Command::new(tool("etcd")?);
            command.args(["--name", &name(number), "--log-level", "warn"]).arg("--data-dir").arg(own.join("data"));
            for (flag, address) in [
                ("--listen-client-urls", client),
                ("--advertise-client-urls", client),
                ("--listen-peer-urls", peer),
                ("--initial-advertise-peer-urls", peer),
            ] {
                command.args([flag, &format!("http://{address}")]);
            }
            command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            members.push((*client, Process::start("etcd", command, &own)?));
        }
        let health = Request::get("/health");
        for (address, process) in &mut members {
            let address = *address;
            process
                .until(START, async || match Connection::open(address, Reading::Copying).await {
                    Ok(mut connection) => connection.exchange(&health).await.is_ok(),
                    Err(_) => false,
                })
                .await?;
        }
        Ok(Self { members, _folder: folder })
    }

    /// Puts values of so many bytes, rounded up to a multiple of three, under keys of as many as clients, for about so
    /// long.
    pub(crate) fn put(&self, clients: usize, bytes: usize, duration: Duration) -> Result<Measured> {
        let (key, value) = ("--key-size=24".to_owned(), format!("--val-size={bytes}"));
        self.for_about(duration, clients, &["put".to_owned(), key, value, format!("--key-space-size={clients}")])
    }

    /// Makes the key that [`Self::get`] reads, with a value of so many bytes, rounded up to a multiple of three.
    pub(crate) async fn make_key(&self, bytes: usize) -> Result<()> {
        // In base64 four letters stand for three bytes, and these for zeros.
        let value = "AAAA".repeat(bytes.div_ceil(3));
        let body = format!("{{\"key\": \"{}\", \"value\": \"{value}\"}}", Self::KEY_IN_BASE64);
        let request = Request::with_body("POST", "/v3/kv/put", "application/json", body.as_bytes());
        let mut connection = Connection::open(self.members[0].0, Reading::Copying).await?;
        connection.exchange(&request).await.map(drop)
    }

    /// Linearizable reads of one key for about so long.
    pub(crate) fn get(&self, clients: usize, duration: Duration) -> Result<Measured> {
        self.for_about(duration, clients, &["range".to_owned(), Self::KEY.to_owned(), "--consistency=l".to_owned()])
    }

    /// It counts requests, not time: so their number follows from a short run.
    fn for_about(&self, duration: Duration, clients: usize, load: &[String]) -> Result<Measured> {
        const FIRST: u32 = 2_000;
        let first = self.benchmark(clients, load, FIRST)?;
        // Some thousands.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is above zero")]
        let total = (first.rate * duration.as_secs_f64()) as u32;
        self.benchmark(clients, load, total.max(FIRST))
    }

    fn benchmark(&self, clients: usize, load: &[String], total: u32) -> Result<Measured> {
        let endpoints: Vec<_> = self.members.iter().map(|(address, _)| address.to_string()).collect();
        let output = Command::new(tool("etcd-benchmark")?)
            .arg(format!("--endpoints={}", endpoints.join(",")))
            .args([format!("--conns={clients}"), format!("--clients={clients}"), "--precise".to_owned()])
            .args(load)
            .arg(format!("--total={total}"))
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "etcd's benchmark failed: {printed}{complaint}");
        ensure!(!printed.contains("Error distribution"), "etcd's benchmark met errors: {printed}");
        Ok(Measured {
            rate: number_after(&printed, "Requests/sec:")?,
            p50: number_after(&printed, "50% in")?,
            p99: number_after(&printed, "99% in")?,
        })
    }
}

fn number_after(printed: &str, label: &str) -> Result<f64> {
    let line = printed.lines().find_map(|line| line.trim_start().strip_prefix(label));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    let number = word.and_then(|word| word.trim_end_matches('.').parse().ok());
    number.with_context(|| format!("etcd's benchmark prints no {label:?}: {printed}"))
}

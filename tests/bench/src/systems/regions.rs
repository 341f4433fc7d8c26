//! A home region and its mirror, with a link between them.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_wan::{Link, Wan};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::{Registries, Server, Storage, System, data};
use crate::load::{Connection, Reading, Request};

/// How often the mirror is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The longest that anything takes to arrive.
const ARRIVAL: Duration = Duration::from_mins(5);

/// How far a mirror is away: a round trip in milliseconds, and a rate in megabits a second.
#[derive(Clone, Copy)]
pub(crate) struct Distance {
    pub(crate) round_trip_ms: u64,
    pub(crate) megabits: u64,
}

impl Distance {
    pub(crate) const fn new(round_trip_ms: u64, megabits: u64) -> Self {
        Self { round_trip_ms, megabits }
    }

    pub(crate) const fn bytes_per_second(self) -> u64 {
        self.megabits * 125_000
    }

    pub(crate) const fn round_trip(self) -> Duration {
        Duration::from_millis(self.round_trip_ms)
    }

    pub(crate) const fn link(self) -> Link {
        Link::new(self.round_trip_ms, self.bytes_per_second())
    }

    /// What so many bytes take at least.
    pub(crate) fn time_of(self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second() as f64)
    }

    pub(crate) fn name(self) -> String {
        format!("{} ms, {} Mb/s", self.round_trip_ms, self.megabits)
    }
}

/// The two, and what is between them.
pub(crate) struct Regions {
    pub(crate) mirror: Server,
    pub(crate) home: Server,
    wan: Wan,
    /// Moves what is on the link, beside the thread that measures. Only gone while this is dropped.
    carrier: Option<Runtime>,
}

impl Regions {
    /// Starts a home, and a mirror of it with these flags.
    pub(crate) async fn start(registries: &Registries, link: Link, flags: &[&str]) -> Result<Self> {
        let home = registries.start(System::Roadstead, Storage::Filesystem).await?;
        let (carrier, wan) = carried(home.address, link).await?;
        let binary = registries.own().context("Roadstead is not measured")?;
        let mint =
            Command::new(binary).args(["mirror", "token", "bench", "--data"]).arg(data(home.folder())).output()?;
        ensure!(mint.status.success(), "mirror token: {}", String::from_utf8_lossy(&mint.stderr));
        let mirror = registries.start_mirror(&wan.endpoint(), &mint.stdout, flags).await?;
        let regions = Self { mirror, home, wan, carrier: Some(carrier) };
        regions.until_gauge("roadstead_mirror_home_up", |up| up > 0.0).await?;
        Ok(regions)
    }

    /// Starts a distribution, and another one that is its pull-through cache.
    pub(crate) async fn start_distribution(registries: &Registries, link: Link) -> Result<Self> {
        let home = registries.start(System::Distribution, Storage::Filesystem).await?;
        let (carrier, wan) = carried(home.address, link).await?;
        let mirror = registries.start_cache(&wan.endpoint()).await?;
        Ok(Self { mirror, home, wan, carrier: Some(carrier) })
    }

    /// Where home is from the mirror's side of the link.
    pub(crate) const fn far(&self) -> SocketAddr {
        self.wan.address()
    }

    /// Bytes that the link has carried to the mirror.
    pub(crate) fn carried(&self) -> u64 {
        self.wan.carried_back()
    }

    /// Waits until the mirror lists a tag, which it does when all of the image is there; how long that took from now.
    pub(crate) async fn until_whole(&self, repository: &str, tag: &str) -> Result<Duration> {
        let began = Instant::now();
        let mut connection = Connection::open(self.mirror.address, Reading::Copying).await?;
        let request = Request::get(&format!("/v2/{repository}/tags/list"));
        let mut tick = interval(LOOK);
        while began.elapsed() < ARRIVAL {
            // Before anything has arrived there is no such repository.
            let (status, body) = connection.fetch(&request).await?;
            if status == 200 && lists(&body, tag) {
                return Ok(began.elapsed());
            }
            tick.tick().await;
        }
        anyhow::bail!("{repository}:{tag} has not arrived after {ARRIVAL:?}")
    }

    /// A metric of the mirror.
    pub(crate) async fn gauge(&self, name: &str) -> Result<f64> {
        let mut connection = Connection::open(self.mirror.address, Reading::Copying).await?;
        let (_, body) = connection.fetch(&Request::get("/metrics")).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no metric {name}"))?.parse()?)
    }

    pub(crate) async fn until_gauge(&self, name: &str, mut is_so: impl FnMut(f64) -> bool) -> Result<()> {
        let (began, mut tick) = (Instant::now(), interval(LOOK * 10));
        while began.elapsed() < ARRIVAL {
            if is_so(self.gauge(name).await?) {
                return Ok(());
            }
            tick.tick().await;
        }
        anyhow::bail!("{name} does not become what it should after {ARRIVAL:?}")
    }
}

impl Drop for Regions {
    fn drop(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            carrier.shutdown_background();
        }
    }
}

/// A link to `target` that is moved by a thread of its own.
pub(crate) async fn carried(target: SocketAddr, link: Link) -> Result<(Runtime, Wan)> {
    let carrier = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut opening = JoinSet::new();
    opening.spawn_on(Wan::to(target, link), carrier.handle());
    let opened = opening.join_next().await.context("one was begun")?;
    match opened.map_err(anyhow::Error::from).and_then(|wan| wan.map_err(Into::into)) {
        Ok(wan) => Ok((carrier, wan)),
        Err(error) => {
            carrier.shutdown_background();
            Err(error)
        }
    }
}

/// Whether a listing names a tag.
pub(crate) fn lists(listing: &[u8], tag: &str) -> bool {
    let listing: Value = serde_json::from_slice(listing).unwrap_or_default();
    listing["tags"].as_array().is_some_and(|tags| tags.iter().any(|listed| listed == tag))
}

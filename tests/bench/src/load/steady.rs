use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Connection, Reading, Request, Tally};

/// Clients that go on, each at one server and at its own pace, until they are told to stop: what is done to the servers
/// meanwhile shows in how long they waited, and in how often they failed.
pub(crate) struct Steady {
    start: Instant,
    stop: Arc<AtomicBool>,
    clients: JoinSet<Result<(Vec<Duration>, u64)>>,
}

impl Steady {
    /// A client for each of `requests`, at the servers in turn, that sends it every `pace`, or when the answer to the one
    /// before has come.
    pub(crate) fn start(addresses: &[SocketAddr], requests: &[Request], pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for (request, address) in requests.iter().zip(addresses.iter().cycle()) {
            clients.spawn(client(*address, request.clone(), pace, Arc::clone(&stop)));
        }
        Self { start: Instant::now(), stop, clients }
    }

    /// Ends them: what they measured, and how many requests failed.
    pub(crate) async fn stop(mut self) -> Result<(Tally, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut latencies, mut failed) = (Vec::new(), 0);
        while let Some(ended) = self.clients.join_next().await {
            let (more_latencies, more_failed) = ended??;
            latencies.extend(more_latencies);
            failed += more_failed;
        }
        Ok((Tally::new(self.start.elapsed(), 0, latencies), failed))
    }
}

/// Lets a load go on for a set time.
#[expect(clippy::disallowed_methods, reason = "how long a load is measured is no condition to wait for")]
pub(crate) async fn go_on(duration: Duration) {
    tokio::time::sleep(duration).await;
}

async fn client(
    address: SocketAddr,
    request: Request,
    pace: Duration,
    stop: Arc<AtomicBool>,
) -> Result<(Vec<Duration>, u64)> {
    let mut connection = Connection::open(address, Reading::Copying).await?;
    let (mut latencies, mut failed) = (Vec::new(), 0);
    let mut tick = interval(pace);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let sent = Instant::now();
        if connection.exchange(&request).await.is_err() {
            failed += 1;
            connection = Connection::open(address, Reading::Copying).await?;
        }
        latencies.push(sent.elapsed());
    }
    Ok((latencies, failed))
}

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Connection, Reading, Request, Tally};

/// `clients` that each send their next request when the last was answered, over one keep-alive connection each, for
/// `duration`. They go through `requests` in turn, each from another one on. One failed request fails the measurement.
pub(crate) async fn closed_loop(
    address: SocketAddr,
    reading: Reading,
    requests: &Arc<[Request]>,
    clients: usize,
    duration: Duration,
) -> Result<Tally> {
    spread_loop(&[address], reading, requests, clients, duration).await
}

/// The same with the clients spread over several servers.
pub(crate) async fn spread_loop(
    addresses: &[SocketAddr],
    reading: Reading,
    requests: &Arc<[Request]>,
    clients: usize,
    duration: Duration,
) -> Result<Tally> {
    let mut connections = Vec::new();
    for address in addresses.iter().cycle().take(clients) {
        connections.push(Connection::open(*address, reading).await?);
    }
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        running.spawn(client(connection, Arc::clone(requests), number, start + duration));
    }
    let (mut bytes, mut latencies) = (0, Vec::new());
    while let Some(ended) = running.join_next().await {
        let (more_bytes, more_latencies) = ended??;
        bytes += more_bytes;
        latencies.extend(more_latencies);
    }
    Ok(Tally::new(start.elapsed(), bytes, latencies))
}

async fn client(
    mut connection: Connection,
    requests: Arc<[Request]>,
    first: usize,
    end: Instant,
) -> Result<(u64, Vec<Duration>)> {
    let (mut bytes, mut latencies) = (0, Vec::new());
    let mut now = Instant::now();
    for request in requests.iter().cycle().skip(first % requests.len()) {
        bytes += connection.exchange(request).await?;
        let answered = Instant::now();
        latencies.push(answered - now);
        now = answered;
        if now >= end {
            break;
        }
    }
    Ok((bytes, latencies))
}

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Connection, Image, Reading, Request, Tally};

/// What a client does when its time has come.
#[derive(Clone)]
pub(crate) enum Operation {
    Ask(Request),
    /// Pushes an image whose layers have these lengths, of bytes of this seed.
    Push {
        repository: String,
        seed: u64,
        layers: Vec<u64>,
    },
}

/// An operation and when it is due, counted from the beginning.
#[derive(Clone)]
pub(crate) struct Due {
    pub(crate) at: Duration,
    pub(crate) operation: Operation,
    /// The group of operations that its latency is counted in.
    pub(crate) group: usize,
}

/// Requests that are due at a fixed rate a second.
pub(crate) fn evenly<'a>(requests: impl IntoIterator<Item = &'a Request>, rate: f64) -> Arc<[Due]> {
    let due = |(number, request): (u32, &Request)| Due {
        at: Duration::from_secs_f64(f64::from(number) / rate),
        operation: Operation::Ask(request.clone()),
        group: 0,
    };
    (0..).zip(requests).map(due).collect()
}

/// Does all of `plan` when it is due, whether or not what came before was answered, over up to `clients` connections.
/// An operation that had to wait for a free connection counts from when it was due, so that a stall of the server
/// shows in everything that it held up. Returns a tally for each of the `groups`.
pub(crate) async fn open_loop(
    address: SocketAddr,
    plan: &Arc<[Due]>,
    clients: usize,
    groups: usize,
) -> Result<Vec<Tally>> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(address, Reading::Dropping).await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut running = JoinSet::new();
    for connection in connections {
        running.spawn(client(connection, Arc::clone(plan), Arc::clone(&next), start));
    }
    let mut latencies = vec![Vec::new(); groups];
    while let Some(ended) = running.join_next().await {
        for (group, latency) in ended?? {
            latencies[group].push(latency);
        }
    }
    Ok(latencies.into_iter().map(|latencies| Tally::new(start.elapsed(), 0, latencies)).collect())
}

async fn client(
    mut connection: Connection,
    plan: Arc<[Due]>,
    next: Arc<AtomicUsize>,
    start: Instant,
) -> Result<Vec<(usize, Duration)>> {
    let mut latencies = Vec::new();
    while let Some(Due { at, operation, group }) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
        let due = start + *at;
        // The timer wakes up to a millisecond late, which is no fault of the server.
        let from = if Instant::now() < due {
            sleep_until(due).await;
            Instant::now()
        } else {
            due
        };
        match operation {
            Operation::Ask(request) => drop(connection.exchange(request).await?),
            Operation::Push { repository, seed, layers } => {
                Image::new(*seed, layers).push(&mut connection, repository, "pushed").await?;
            }
        }
        latencies.push((*group, from.elapsed()));
    }
    Ok(latencies)
}

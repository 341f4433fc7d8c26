use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Connection, Reading, Request};

/// Has `bytes` of a blob over so many connections at once, which are open before, also beyond a link that lets a connection
/// begin after a round trip: how long that took.
pub(crate) async fn download(address: SocketAddr, target: &str, bytes: u64, connections: u64) -> Result<Duration> {
    let mut open = Vec::new();
    for number in 0..connections {
        let share = bytes * number / connections..bytes * (number + 1) / connections;
        let mut connection = Connection::open(address, Reading::Dropping).await?;
        connection.exchange(&Request::get("/v2/")).await?;
        open.push((connection, Request::range(target, &share)));
    }
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (mut connection, request) in open {
        running.spawn(async move { connection.exchange(&request).await });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(began.elapsed())
}

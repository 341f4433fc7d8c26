//! `roadstead drain`: this replica is about to be stopped, and nobody is to notice.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::api::Admin;
use super::client::{Client, block_on};
use super::problem::Problem;
use crate::cluster::{Leadership, hand_over};

/// The answer of `POST /admin/v1/drain`, when leadership is elsewhere. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drained {
    /// This replica.
    pub node: u64,
    /// Who leads, where it is known.
    pub leader: Option<u64>,
    /// Whether this replica led, and another one does now.
    pub handed_over: bool,
    /// Whether it is the only voter, which keeps its leadership to the end.
    pub alone: bool,
}

/// Lets readiness say no from now on, and leadership go to another replica. What clients send meanwhile is answered as
/// ever. Asking twice is asking once.
pub(super) async fn drain(admin: &Admin) -> Result<Drained, Problem> {
    admin.health.draining();
    let metadata = admin.registry.metadata();
    let leadership = hand_over(metadata).await?;
    Ok(Drained {
        node: metadata.identity().node,
        leader: metadata.status().leader,
        handed_over: leadership == Leadership::HandedOver,
        alone: leadership == Leadership::Alone,
    })
}

/// Asks the registry on `data`, and `linger` later gives what is to be printed.
pub(crate) fn run(data: &Path, linger: Duration, as_json: bool) -> anyhow::Result<String> {
    let done: Drained = block_on(async {
        let done = Client::connect(data).await?.command("/admin/v1/drain").await?;
        // Nothing tells when every load balancer has noticed.
        let _elapsed = timeout(linger, std::future::pending::<()>()).await;
        Ok(done)
    })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&done)? + "\n");
    }
    let leads = match done.leader {
        _ if done.alone => "it is the only voter and leads on until it is stopped".to_owned(),
        Some(leader) => format!("node {leader} leads"),
        None => "no leader is known".to_owned(),
    };
    Ok(format!("node {} is not ready any more and can be stopped; {leads}\n", done.node))
}

//! `roadstead leadership transfer`: another replica leads, without an election that clients notice.

use std::path::Path;

use roadstead_metadata::{MemberChange, Metadata};
use serde::{Deserialize, Serialize};

use super::client::{Client, block_on};
use super::problem::{Code, Problem};

/// The body of `POST /admin/v1/leadership/transfer`; none at all is the same as an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// The node that is to lead. Without it, the voter that is nearest to the leader's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// The answer, when it is done. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transferred {
    /// Who led before.
    pub from: u64,
    /// Who leads now, as far as this replica knows by now.
    pub leader: Option<u64>,
    pub term: u64,
}

/// Hands leadership over, wherever it is.
pub(super) async fn transfer(metadata: &Metadata, request: Request) -> Result<Transferred, Problem> {
    let Some(from) = metadata.view().await.leader else {
        return Err(Problem::new(Code::NoLeader, "no leader is known that could hand over"));
    };
    let change = match request.to {
        Some(to) => MemberChange::TransferLeadership { to },
        None => MemberChange::HandOver { from },
    };
    metadata.change_members(change).await?;
    let now = metadata.view().await;
    Ok(Transferred { from, leader: now.leader, term: now.term })
}

/// Asks the registry on `data`, and gives what is to be printed.
pub(crate) fn run(data: &Path, to: Option<u64>, as_json: bool) -> anyhow::Result<String> {
    let done: Transferred = block_on(async {
        Client::connect(data).await?.command_with("/admin/v1/leadership/transfer", &Request { to }).await
    })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&done)? + "\n");
    }
    Ok(match done.leader {
        Some(leader) if leader == done.from => format!("node {leader} leads, as before\n"),
        Some(leader) => format!("node {leader} leads now, in term {}; before it was node {}\n", done.term, done.from),
        None => format!("node {} leads no longer; who does now is not known yet\n", done.from),
    })
}

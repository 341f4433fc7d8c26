//! `roadstead members`: who is in the cluster, who gets a vote, who goes.

use std::path::Path;
use std::time::Duration;

use roadstead_metadata::{ClusterId, Metadata, VolumeId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::client::{Client, block_on};
use super::table::table;

/// The answer of `GET /admin/v1/members`, and of what changes them. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Membership {
    /// The cluster's id: a UUID.
    pub cluster: String,
    pub this: This,
    /// The leader's node id, if it answered: then all that follows is as it sees it. Otherwise as this replica does, which
    /// knows neither lag nor contact.
    pub leader: Option<u64>,
    pub term: u64,
    /// The newest entry of the log.
    pub last_log_index: u64,
    /// What the cluster may use: the least that any member reads, or has read.
    pub level: u32,
    pub quorum: Quorum,
    /// In the order of their node ids.
    pub members: Vec<Member>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct This {
    pub node: u64,
    /// The volume's id: a UUID.
    pub volume: String,
}

/// What it takes to agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quorum {
    pub voters: u64,
    /// How many of them must agree.
    pub needed: u64,
    /// How many of them answer the leader.
    pub in_contact: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub node: u64,
    /// The volume's id, where it is known.
    pub volume: Option<String>,
    /// Where the other replicas reach it.
    pub address: String,
    pub role: Role,
    /// Entries that it is not known to have.
    pub lag_entries: Option<u64>,
    /// Milliseconds since the leader heard of it last.
    pub last_contact_ms: Option<u64>,
    /// The level up to which its release reads.
    pub reads: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Its acknowledgement counts.
    Voter,
    /// It follows without a vote.
    Learner,
}

/// The body of `POST /admin/v1/members/{node}/replace`: in one change, the node is out and the other one has its vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replace {
    /// A learner that has caught up.
    pub by: u64,
}

/// What is asked of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Promote(u64),
    Remove(u64),
}

/// The present ones.
pub(super) async fn of(metadata: &Metadata) -> Membership {
    let identity = metadata.identity();
    let view = metadata.view().await;
    let member = |member: &roadstead_metadata::Member| Member {
        node: member.node,
        volume: member.volume.map(|VolumeId(id)| uuid(id)),
        address: member.address.clone(),
        role: if member.is_voter { Role::Voter } else { Role::Learner },
        lag_entries: view.lag(member),
        last_contact_ms: member.last_contact.map(milliseconds),
        reads: member.reads.0,
    };
    let ClusterId(cluster) = identity.cluster;
    let VolumeId(volume) = metadata.volume();
    Membership {
        cluster: uuid(cluster),
        this: This { node: identity.node, volume: uuid(volume) },
        leader: view.leader,
        term: view.term,
        last_log_index: view.last_index,
        level: metadata.status().level.0,
        quorum: Quorum { voters: view.voters(), needed: view.quorum(), in_contact: view.voters_in_contact() },
        members: view.members.iter().map(member).collect(),
    }
}

pub(super) fn uuid(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Asks the registry on `data`, and gives what is to be printed.
pub(crate) fn run(data: &Path, as_json: bool) -> anyhow::Result<String> {
    printed(&block_on(async { Client::connect(data).await?.get("/admin/v1/members").await })?, as_json)
}

/// Lets it change a member, and gives the members after that.
pub(crate) fn change(data: &Path, change: Change, as_json: bool) -> anyhow::Result<String> {
    let path = match change {
        Change::Promote(node) => format!("/admin/v1/members/{node}/promote"),
        Change::Remove(node) => format!("/admin/v1/members/{node}/remove"),
    };
    printed(&block_on(async { Client::connect(data).await?.command(&path).await })?, as_json)
}

fn printed(members: &Membership, as_json: bool) -> anyhow::Result<String> {
    if as_json { Ok(serde_json::to_string_pretty(members)? + "\n") } else { Ok(text(members)) }
}

fn text(answer: &Membership) -> String {
    let Membership { cluster, this, leader, term, last_log_index, level, quorum, members } = answer;
    let led = match leader {
        Some(leader) => format!("node {leader} leads in term {term}"),
        None => format!("no leader answers (term {term}): this is what node {} knows", this.node),
    };
    let contact = quorum.in_contact.map(|count| format!(", {count} in contact")).unwrap_or_default();
    let head = format!(
        "cluster {cluster}: {led}, entry {last_log_index}\n{}, {} must agree{contact}\n{}\n",
        voters(quorum.voters),
        quorum.needed,
        waiting(*level, members)
    );
    let row = |member: &Member| {
        let unknown = || "?".to_owned();
        [
            member.node.to_string(),
            match member.role {
                _ if *leader == Some(member.node) => "leader".to_owned(),
                Role::Voter => "voter".to_owned(),
                Role::Learner => "learner".to_owned(),
            },
            member.lag_entries.map_or_else(unknown, |lag| lag.to_string()),
            match member.last_contact_ms {
                Some(0) => "now".to_owned(),
                Some(ago) => format!("{}.{} s ago", ago / 1000, ago % 1000 / 100),
                None => unknown(),
            },
            member.reads.to_string(),
            member.address.clone(),
            member.volume.clone().unwrap_or_else(unknown),
        ]
    };
    let rows: Vec<_> = members.iter().map(row).collect();
    head + &table(["node", "role", "behind", "last contact", "reads", "address", "volume"], &rows)
}

fn voters(count: u64) -> String {
    format!("{count} {}", if count == 1 { "voter" } else { "voters" })
}

/// Who keeps the cluster at its level, if some of the others read more: a line, or nothing.
fn waiting(level: u32, members: &[Member]) -> String {
    let most = members.iter().map(|member| member.reads).max().unwrap_or(level);
    let nodes = members.iter().filter(|member| member.reads < most).map(|member| format!("node {}", member.node));
    let nodes = nodes.collect::<Vec<_>>().join(", ");
    if most <= level || nodes.is_empty() {
        return String::new();
    }
    format!(
        "level {level} is in force; what came with level {most} waits until a release that reads it runs on {nodes}\n"
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn members() -> Membership {
        let member = |node: u64, role, lag, contact| Member {
            node,
            volume: Some(uuid(0x1000 + u128::from(node))),
            address: format!("10.0.0.{node}:5001"),
            role,
            lag_entries: lag,
            last_contact_ms: contact,
            reads: 1,
        };
        Membership {
            cluster: uuid(7),
            this: This { node: 1, volume: uuid(0x1001) },
            leader: Some(2),
            term: 3,
            last_log_index: 120,
            level: 1,
            quorum: Quorum { voters: 3, needed: 2, in_contact: Some(2) },
            members: vec![
                member(1, Role::Voter, Some(1), Some(70)),
                member(2, Role::Voter, Some(0), Some(0)),
                Member { volume: None, ..member(4, Role::Voter, None, Some(61_250)) },
                member(5, Role::Learner, Some(119), None),
            ],
        }
    }

    /// Without a leader.
    pub(crate) fn members_alone() -> Membership {
        let mut alone = members();
        (alone.leader, alone.quorum.in_contact) = (None, None);
        for member in &mut alone.members {
            (member.lag_entries, member.last_contact_ms) = (None, None);
        }
        alone
    }

    #[test]
    fn people_read_it_so() {
        insta::assert_snapshot!(text(&members()), @r"
        cluster 00000000-0000-0000-0000-000000000007: node 2 leads in term 3, entry 120
        3 voters, 2 must agree, 2 in contact

        node  role     behind  last contact  reads  address        volume
        1     voter    1       0.0 s ago     1      10.0.0.1:5001  00000000-0000-0000-0000-000000001001
        2     leader   0       now           1      10.0.0.2:5001  00000000-0000-0000-0000-000000001002
        4     voter    ?       61.2 s ago    1      10.0.0.4:5001  ?
        5     learner  119     ?             1      10.0.0.5:5001  00000000-0000-0000-0000-000000001005
        ");
        let mut upgrading = members();
        (upgrading.members[0].reads, upgrading.members[1].reads) = (2, 2);
        let told =
            "level 1 is in force; what came with level 2 waits until a release that reads it runs on node 4, node 5\n";
        assert!(text(&upgrading).contains(told), "{}", text(&upgrading));
        let one = Membership { quorum: Quorum { voters: 1, needed: 1, in_contact: Some(1) }, ..members() };
        assert!(text(&one).contains("\n1 voter, 1 must agree, 1 in contact\n"), "{}", text(&one));
        let alone = text(&members_alone());
        assert!(alone.contains("no leader answers (term 3): this is what node 1 knows"), "{alone}");
    }
}

//! `roadstead status`: what the running registry is doing.

use std::path::Path;

use roadstead_domain::{Fault, Registry};
use roadstead_geo::Mirror;
use roadstead_metadata::{ClusterId, Identity, Level, Role};
use serde::{Deserialize, Serialize};

use super::api::Admin;
use super::backup::{self, BackupState, Taken};
use super::client::{Client, block_on};
use super::members::uuid;
use super::region::{self, RegionView};
use super::table::{bytes, columns};
use crate::health::Readiness;

/// Above it, it is only said that there are so many at least: each is a row that is read.
const MAX_ASIDE_COUNTED: usize = 10_000;

/// The answer of `GET /admin/v1/status`. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Status {
    /// Of the program.
    pub version: String,
    /// Where clients reach it.
    pub url: String,
    /// As `/readyz` says it: `starting`, `ready` or `draining`.
    pub readiness: String,
    /// The cluster's id: a UUID.
    pub cluster: String,
    /// This replica's node id in it.
    pub node: u64,
    pub level: Levels,
    pub raft: Raft,
    pub changes: Changes,
    pub uploads_open: u64,
    pub memory_budget: Memory,
    pub blob_store: Store,
    /// If this replica writes the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupState>,
    /// If this is a mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorLag>,
    /// Where home is not the first one any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionView>,
    /// Changes that are kept aside, counted up to ten thousand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_aside: Option<u64>,
}

/// How far a mirror is behind its home, as this replica sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MirrorLag {
    /// The URL of its home.
    pub home: String,
    /// Whether home was heard of lately.
    pub home_is_there: bool,
    /// How old what it shows is; none before home was heard of.
    pub lag_seconds: Option<f64>,
    /// The last change of home's feed that was received.
    pub received_sequence: u64,
    /// Changes at home that are not published here, as far as is known.
    pub lag_changes: u64,
    pub lag_blobs: u64,
    pub lag_bytes: u64,
    /// Blobs that are on their way to this replica.
    pub fetching: u64,
    /// Whether it is being compared with its home anew.
    pub comparing: bool,
    /// Why somebody has to look, if somebody has to.
    pub problem: Option<String>,
    /// Whether home is of an earlier release, and signatures that were there before their image was followed are not copied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lists_no_referrers: bool,
}

/// What the facts may hold: a number that rises when all replicas of a cluster run a release that reads more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Levels {
    /// What the cluster may use.
    pub in_force: u32,
    /// Up to which this release reads.
    pub reads: u32,
}

/// This replica in its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Raft {
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub role: String,
    /// The leader's node id, where one is known.
    pub leader: Option<u64>,
    pub term: u64,
    pub last_log_index: u64,
    pub applied_index: u64,
    /// The newest entry that the state holds durably.
    pub checkpoint_index: u64,
    pub log_bytes: u64,
    /// Why it has stopped, if it has.
    pub fatal: Option<String>,
}

/// The newest entry of the change feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changes {
    pub epoch: u64,
    pub sequence: u64,
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Store {
    /// Whether it answered when it was asked last, which is at least each half minute.
    pub is_there: bool,
}

/// Of content in transit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    pub used_bytes: u64,
    pub total_bytes: u64,
}

/// The present one.
pub(super) fn of(admin: &Admin) -> Result<Status, Fault> {
    let registry = &admin.registry;
    let Identity { cluster: ClusterId(cluster), node } = registry.metadata().identity();
    let status = registry.metadata().status();
    let query = registry.metadata().query()?;
    let position = query.position()?;
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: format!("{}://{}", admin.scheme, admin.address),
        readiness: readiness(admin.health.readiness()).to_owned(),
        cluster: uuid(cluster),
        node,
        level: Levels { in_force: status.level.0, reads: status.reads.0 },
        raft: Raft {
            role: role(status.role).to_owned(),
            leader: status.leader,
            term: status.term,
            last_log_index: status.last_log_index,
            applied_index: status.applied_index,
            checkpoint_index: status.checkpoint_index,
            log_bytes: status.log_bytes,
            fatal: status.fatal,
        },
        changes: Changes { epoch: position.epoch, sequence: position.sequence },
        uploads_open: query.uploads_open()?,
        memory_budget: Memory { used_bytes: registry.budget().used(), total_bytes: registry.budget().total() },
        blob_store: Store { is_there: admin.store_contact.is_there() },
        backup: backup::state(registry),
        mirror: admin
            .mirror
            .as_ref()
            .filter(|mirror| !mirror.is_over())
            .map(|mirror| mirror_lag(mirror))
            .transpose()?,
        region: status_of_region(registry)?,
        kept_aside: Some(query.count_aside(MAX_ASIDE_COUNTED)? as u64).filter(|kept| *kept > 0),
    })
}

fn status_of_region(registry: &Registry) -> Result<Option<RegionView>, Fault> {
    Ok(Some(region::of(registry)?).filter(|region| region.epoch > 1))
}

fn mirror_lag(mirror: &Mirror) -> Result<MirrorLag, Fault> {
    let lag = mirror.lag()?;
    Ok(MirrorLag {
        home: mirror.home().to_owned(),
        home_is_there: lag.home_is_there,
        lag_seconds: lag.seconds,
        received_sequence: lag.received,
        lag_changes: lag.changes,
        lag_blobs: lag.blobs,
        lag_bytes: lag.bytes,
        fetching: mirror.fetching() as u64,
        comparing: lag.comparing,
        problem: mirror.problem(),
        lists_no_referrers: mirror.lists_no_referrers(),
    })
}

const fn readiness(readiness: Readiness) -> &'static str {
    match readiness {
        Readiness::Starting => "starting",
        Readiness::Ready => "ready",
        Readiness::Draining => "draining",
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}

/// Asks the registry on `data`, and gives what is to be printed.
pub(crate) fn run(data: &Path, as_json: bool) -> anyhow::Result<String> {
    let status: Status = block_on(async { Client::connect(data).await?.get("/admin/v1/status").await })?;
    if as_json { Ok(serde_json::to_string_pretty(&status)? + "\n") } else { Ok(text(&status)) }
}

fn text(status: &Status) -> String {
    let Status { version, url, readiness, cluster, node, level, raft, changes, .. } = status;
    let Status { uploads_open, memory_budget, blob_store, backup, mirror, region, kept_aside, .. } = status;
    let store = if blob_store.is_there { "answers" } else { "does not answer; what is cached is served, pushes wait" };
    let leader = match raft.leader {
        Some(_) if raft.role == "leader" => String::new(),
        Some(leader) => format!(" of node {leader}"),
        None => ", no leader is known".to_owned(),
    };
    let log = bytes(raft.log_bytes);
    let (used, total) = (bytes(memory_budget.used_bytes), bytes(memory_budget.total_bytes));
    let mut rows = vec![
        ("registry", format!("roadstead {version}, {readiness} on {url}")),
        ("cluster", format!("node {node} of {cluster}; `roadstead members` lists all")),
        ("level", level_text(level)),
        ("raft", format!("{}{leader}, term {}", raft.role, raft.term)),
        (
            "log",
            format!(
                "entry {}, applied to {}, durable in the state to {}; {log}",
                raft.last_log_index, raft.applied_index, raft.checkpoint_index
            ),
        ),
        ("change feed", format!("epoch {}, change {}", changes.epoch, changes.sequence)),
        ("uploads", format!("{uploads_open} open")),
        ("blob store", store.to_owned()),
        ("memory", format!("{used} of {total} for content in transit")),
    ];
    rows.extend(backup.as_ref().map(|backup| ("backup", backup_row(backup))));
    if let Some(mirror) = mirror {
        rows.push(("mirror of", mirror_row(mirror)));
        rows.push(("lag", lag_row(mirror)));
    }
    rows.extend(region.as_ref().map(|region| ("region", region_row(region))));
    rows.extend(kept_aside.map(|kept| ("kept aside", format!("{kept} changes; `roadstead aside` lists them"))));
    rows.extend(raft.fatal.iter().map(|reason| ("stopped", reason.clone())));
    columns(&rows)
}

fn backup_row(BackupState { lag_seconds, snapshot, snapshot_failed }: &BackupState) -> String {
    let shipped = match lag_seconds {
        0.0 => "every change is in it".to_owned(),
        seconds => format!("changes have been waiting for {seconds:.1} s"),
    };
    let snapshot = match snapshot {
        Some(Taken { sequence, time, .. }) => format!("; snapshot of change {sequence} ({time})"),
        None => "; no snapshot yet".to_owned(),
    };
    let failed = if *snapshot_failed { "; the last snapshot could not be written: see the log" } else { "" };
    format!("{shipped}{snapshot}{failed}")
}

fn region_row(region: &RegionView) -> String {
    let RegionView { standing, epoch, home, handing_over, .. } = region;
    match standing.as_str() {
        "fenced" if *handing_over => format!(
            "stands still for cluster {home}, which takes over in epoch {epoch}; `roadstead demote --cancel` takes it back"
        ),
        "home" => format!("home, in epoch {epoch}"),
        "mirror" => format!("mirror, in epoch {epoch} of cluster {home}"),
        _ => format!("fenced: cluster {home} is home since epoch {epoch}; no pushes are taken here"),
    }
}

fn level_text(level: &Levels) -> String {
    let Levels { in_force, reads } = level;
    if in_force == reads {
        return format!("{in_force}, which is all that this release knows");
    }
    let release = Level(*reads).release().map(|release| format!(" (roadstead {release})")).unwrap_or_default();
    format!(
        "{in_force}; level {reads}{release} waits until all replicas read it: `roadstead members` shows which do not"
    )
}

fn mirror_row(mirror: &MirrorLag) -> String {
    let home = &mirror.home;
    match &mirror.problem {
        Some(problem) => format!("{home}: {problem}"),
        None if mirror.comparing => format!("{home}, being compared with it anew"),
        None if mirror.home_is_there && mirror.lists_no_referrers => {
            format!(
                "{home}, an earlier release: signatures that were there before their image was followed are not copied"
            )
        }
        None if mirror.home_is_there => home.clone(),
        None => format!("{home}, which does not answer"),
    }
}

fn lag_row(mirror: &MirrorLag) -> String {
    let Some(seconds) = mirror.lag_seconds else {
        return "unknown until home is heard of, and what it has was received once".to_owned();
    };
    let (changes, blobs, size) = (mirror.lag_changes, mirror.lag_blobs, bytes(mirror.lag_bytes));
    format!("{seconds:.1} s; {changes} changes; {blobs} blobs with {size}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn status() -> Status {
        Status {
            version: "1.2.3".to_owned(),
            url: "https://127.0.0.1:5000".to_owned(),
            readiness: "ready".to_owned(),
            cluster: uuid(7),
            node: 1,
            level: Levels { in_force: 1, reads: 1 },
            raft: Raft {
                role: "leader".to_owned(),
                leader: Some(1),
                term: 3,
                last_log_index: 120,
                applied_index: 119,
                checkpoint_index: 100,
                log_bytes: 1_600_000,
                fatal: None,
            },
            changes: Changes { epoch: 1, sequence: 57 },
            uploads_open: 2,
            memory_budget: Memory { used_bytes: 8 << 20, total_bytes: 128 << 20 },
            blob_store: Store { is_there: true },
            backup: None,
            mirror: None,
            region: None,
            kept_aside: None,
        }
    }

    pub(crate) fn status_with_a_backup() -> Status {
        let snapshot = Taken {
            sequence: 51,
            time: "2026-07-01T12:00:00.000Z".to_owned(),
            key: "meta/00000000-0000-0000-0000-000000000005/snapshot-000000000099".to_owned(),
            bytes: 20_480,
            index: 99,
        };
        let backup = BackupState { lag_seconds: 0.25, snapshot: Some(snapshot), snapshot_failed: false };
        Status { backup: Some(backup), ..status() }
    }

    pub(crate) fn status_of_a_mirror() -> Status {
        let mirror = MirrorLag {
            home: "https://registry.example.com".to_owned(),
            home_is_there: true,
            lag_seconds: Some(1.25),
            received_sequence: 300,
            lag_changes: 3,
            lag_blobs: 2,
            lag_bytes: 1_600_000,
            fetching: 1,
            comparing: false,
            problem: None,
            lists_no_referrers: false,
        };
        Status { mirror: Some(mirror), ..status() }
    }

    #[test]
    fn a_mirror_says_how_far_it_is() {
        let text = text(&status_of_a_mirror());
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("mirror") || line.starts_with("lag")).collect();
        insta::assert_snapshot!(rows.join("\n"), @r"
        mirror of    https://registry.example.com
        lag          1.2 s; 3 changes; 2 blobs with 1.5 MiB
        ");
    }

    #[test]
    fn the_backup_says_how_far_it_is() {
        let row = |backup: &BackupState| backup_row(backup);
        let mut backup = status_with_a_backup().backup.unwrap();
        assert_eq!(
            row(&backup),
            "changes have been waiting for 0.2 s; snapshot of change 51 (2026-07-01T12:00:00.000Z)"
        );
        backup = BackupState { lag_seconds: 0.0, snapshot: None, snapshot_failed: true };
        assert_eq!(
            row(&backup),
            "every change is in it; no snapshot yet; the last snapshot could not be written: see the log"
        );
    }

    #[test]
    fn people_read_it_so() {
        insta::assert_snapshot!(text(&status()), @r"
        registry     roadstead 1.2.3, ready on https://127.0.0.1:5000
        cluster      node 1 of 00000000-0000-0000-0000-000000000007; `roadstead members` lists all
        level        1, which is all that this release knows
        raft         leader, term 3
        log          entry 120, applied to 119, durable in the state to 100; 1.5 MiB
        change feed  epoch 1, change 57
        uploads      2 open
        blob store   answers
        memory       8.0 MiB of 128.0 MiB for content in transit
        ");
        let upgrading = text(&Status { level: Levels { in_force: 1, reads: 2 }, ..status() });
        assert!(upgrading.contains("level        1; level 2 waits until all replicas read it"), "{upgrading}");
    }
}

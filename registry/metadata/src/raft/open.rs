//! Opening a replica: its files, who it is, and what it begins with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::impls::BasicNode;
use tokio::sync::mpsc;

use super::config::{Types, config, seeded};
use super::group::{Contact, Group};
use super::index::Limits;
use super::log::Log;
use super::machine::Machine;
use super::members::join;
use super::peers::Peers;
use super::proposal_rounds::ProposalRounds;
use super::read_rounds::ReadRounds;
use super::receive_snapshot::SnapshotReceiver;
use super::rests::Rests;
use super::segment::SEGMENT_BYTES;
use crate::disk::{Disk, wait_for};
use crate::folder_format;
use crate::identity::{IdentityFile, IdentityRecord};
use crate::log_clock::LogClock;
use crate::state::{FIRST_NODE, State};
use crate::{Beginning, ClusterOptions, Identity, Level, Levels, OpenError, Options, Query, QueryError};

/// Who a replica with seeds is: who it was, or whom the seeds take it for, or the first of a cluster that it is ordered to
/// begin; and whether it was.
async fn enter(
    record: IdentityRecord,
    has_log: bool,
    reads: Level,
    cluster: &ClusterOptions,
    beginning: &Beginning,
) -> Result<(Identity, bool), OpenError> {
    // Whoever was ordered to begin a cluster and died before its log began waits like a blank one.
    if let Some(identity) = record.member.filter(|identity| identity.node != FIRST_NODE || has_log) {
        return Ok((identity, false));
    }
    tokio::select! {
        biased;
        ordered = beginning.ordered() => {
            Ok((record.member.unwrap_or(Identity { cluster: ordered, node: FIRST_NODE }), true))
        }
        joined = join(record.volume, reads, cluster) => Ok((joined?, false)),
    }
}

impl Group {
    /// Opens a replica, or begins one: as a cluster of its own, or as a learner of the cluster that it joins. A group of
    /// one leads and has applied its whole log when this returns, within `patience`; a member of a larger group has
    /// begun to.
    pub(crate) async fn open(options: Options, patience: Duration) -> Result<Arc<Self>, OpenError> {
        let (alive, ended) = mpsc::channel(1);
        let Options {
            folder,
            state_cache_bytes,
            log_cache_bytes,
            new_volume,
            new_cluster,
            disk,
            seed,
            levels,
            cluster,
            beginning,
            purge_every,
            entries_kept,
            disk_reserve: _,
        } = options;
        let (files, folder_of) = (disk.clone(), folder.clone());
        let open = move || open_files(&files, &folder_of, [state_cache_bytes, log_cache_bytes], levels, alive);
        let (log, machine) = wait_for(&*disk, open).await.map_err(not_started)??;

        let file = IdentityFile::of(disk.clone(), &folder);
        let record = match file.read()? {
            Some(record) => record,
            // Before there were identities there were only groups of one.
            None if log.reader().last_index() > 0 => {
                let member = Identity { cluster: new_cluster, node: FIRST_NODE };
                IdentityRecord { volume: new_volume, member: Some(member) }
            }
            None => IdentityRecord { volume: new_volume, member: None },
        };
        file.write(&record)?;
        // Whose survivor went on alone, and died before its file said so.
        let member = record.member.map(|identity| identity_by(&machine.shared().state, identity)).transpose();
        let record = IdentityRecord { member: member.map_err(not_started)?, ..record };
        let joins = cluster.as_ref().filter(|cluster| !cluster.seeds.is_empty());
        beginning.found(record.volume);
        let has_log = log.reader().last_index() > 0;
        let (identity, is_ordered) = match joins {
            Some(cluster) => enter(record, has_log, levels.reads, cluster, &beginning).await?,
            None => (record.member.unwrap_or(Identity { cluster: new_cluster, node: FIRST_NODE }), false),
        };
        file.write(&IdentityRecord { member: Some(identity), ..record })?;
        beginning.settled(identity);

        let (shared, reader) = (machine.shared(), log.reader());
        let last_index_at_open = reader.last_index();
        let peers = Peers::new(disk.clone(), identity.cluster, cluster.as_ref().map(|of| of.transport.clone()));
        let config = Arc::new(config(purge_every, entries_kept).map_err(not_started)?);
        let raft = seeded(seed, Raft::new(identity.node, config, peers.clone(), log, machine));
        let raft = raft.await.map_err(not_started)?;
        let group = Arc::new(Self {
            raft,
            identity,
            volume: record.volume,
            peers,
            snapshots: SnapshotReceiver::new(disk, folder),
            contact: Contact::default(),
            clock: LogClock::default(),
            shared,
            log: reader,
            last_index_at_open,
            reads: ReadRounds::default(),
            proposals: ProposalRounds::default(),
            rests: Rests::default(),
            joining: tokio::sync::Mutex::default(),
            ended: tokio::sync::Mutex::new(ended),
        });
        let begins = is_ordered || joins.is_none() && identity.node == FIRST_NODE;
        if group.start(begins, cluster.map(|cluster| cluster.address).unwrap_or_default()).await? {
            group.lead_alone(patience).await?;
        }
        Ok(group)
    }

    /// Waits until this group of one leads, and has applied its log.
    async fn lead_alone(self: &Arc<Self>, patience: Duration) -> Result<(), OpenError> {
        let led = self.linearize(patience).await;
        led.map_err(|error| self.shared.later().map_or_else(|| not_started(error), OpenError::Later))?;
        // What is told of a replica follows what it does by a moment.
        let is_led = |metrics: &openraft::RaftMetrics<Types>| metrics.current_leader == Some(self.identity.node);
        self.raft.wait(Some(patience)).metrics(is_led, "it leads").await.map_err(not_started)?;
        self.settle_level(patience).await;
        Ok(())
    }

    /// Begins what there is to begin, and says whether this replica is a group of one.
    async fn start(&self, begins: bool, address: String) -> Result<bool, OpenError> {
        if !self.raft.is_initialized().await.map_err(not_started)? {
            if begins {
                let members = BTreeMap::from([(self.identity.node, BasicNode { addr: address })]);
                self.raft.initialize(members).await.map_err(not_started)?;
            }
            return Ok(begins);
        }
        let is_alone = self.is_alone();
        if is_alone {
            // A group of one has nobody to wait for.
            self.raft.trigger().elect(true).await.map_err(not_started)?;
        }
        Ok(is_alone)
    }
}

fn open_files(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    [state_cache_bytes, log_cache_bytes]: [usize; 2],
    levels: Levels,
    alive: mpsc::Sender<()>,
) -> Result<(Log, Machine), OpenError> {
    disk.create_folder(folder).map_err(|source| OpenError::Io { path: folder.to_owned(), source })?;
    folder_format::check(&**disk, folder)?;
    // The state first: its file is locked, which keeps a second process off the log as well.
    let state = State::open(&**disk, &folder.join("state.redb"), state_cache_bytes)?;
    let machine = Machine::new(disk.clone(), state, levels, alive)?;
    folder_format::stamp(&**disk, folder)?;
    let limits = Limits { cache_bytes: log_cache_bytes, segment_bytes: SEGMENT_BYTES };
    let log = Log::open(disk.clone(), &folder.join("log"), limits)?;
    // So that a power cut cannot take away the names of files that hold acknowledged facts.
    for folder in [Some(folder), folder.parent().filter(|parent| !parent.as_os_str().is_empty())].into_iter().flatten()
    {
        disk.sync_folder(folder).map_err(|source| OpenError::Io { path: folder.to_owned(), source })?;
    }
    Ok((log, machine))
}

/// The identity of a replica by its facts: they name the cluster where it is not the one that it was taken into.
pub(super) fn identity_by(state: &State, identity: Identity) -> Result<Identity, QueryError> {
    let cluster = Query::new(state.read()?).cluster()?.unwrap_or(identity.cluster);
    Ok(Identity { cluster, ..identity })
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn not_started(error: impl ToString) -> OpenError {
    OpenError::NotStarted(error.to_string())
}

//! What openraft is told about us: types and times.

use std::fmt;

use bytes::Bytes;
use openraft::SnapshotPolicy;
use openraft::rt::deterministic_rng::DeterministicRng;
use serde::{Deserialize, Serialize};

use crate::Outcome;

openraft::declare_raft_types!(
    /// Commands as encoded envelopes, their outcomes, numbered nodes with an address; what openraft draws by chance is
    /// drawn from a seed.
    pub(super) Types:
        D = Proposal,
        R = Option<Outcome>,
        AsyncRuntime = Seeded,
);

type Seeded = DeterministicRng<openraft::impls::TokioRuntime>;

/// Runs what begins a Raft core: all that it draws by chance comes from `seed`. It draws election timeouts, and they
/// need only differ between replicas.
pub(super) fn seeded<F: Future>(seed: u64, begin: F) -> impl Future<Output = F::Output> {
    Seeded::scope(seed, begin)
}

pub(super) type Entry = openraft::alias::EntryOf<Types>;
pub(super) type LogId = openraft::alias::LogIdOf<Types>;
pub(super) type Vote = openraft::alias::VoteOf<Types>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

/// An encoded [`Envelope`](crate::Envelope): encoded once, by whoever proposes it, and decoded when it is applied.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a command of {} bytes", self.0.len())
    }
}

/// How often a leader is heard of. When it falls silent, its lease lasts for the longest time below; the first replica
/// stands for election when a random time between both has passed after that: 1.2 to 1.6 s after the last heartbeat.
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MIN_MS: u64 = 400;
pub(super) const ELECTION_MAX_MS: u64 = 800;

/// How long a snapshot may take to reach a follower and to be installed there. Each of its pieces has to come much
/// sooner; this only ends what would go on for ever.
const INSTALL_SNAPSHOT_MS: u64 = 15 * 60 * 1000;

/// Entries in one write of the log: at most 256 x 64 KiB of inline manifests are in memory for it.
const ENTRIES_PER_WRITE: u64 = 256;

/// See [`Options`](crate::Options) for the two numbers.
pub(super) fn config(purge_every: u64, entries_kept: u64) -> Result<openraft::Config, openraft::ConfigError> {
    openraft::Config {
        cluster_name: "roadstead".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        install_snapshot_timeout: INSTALL_SNAPSHOT_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(purge_every),
        max_in_snapshot_log_to_keep: entries_kept,
        replication_lag_threshold: purge_every + entries_kept,
        max_append_entries: Some(ENTRIES_PER_WRITE),
        api_batch_capacity: ENTRIES_PER_WRITE,
        // A replica that was cut off must not depose a leader that works.
        enable_pre_vote: Some(true),
        // A restarted leader that believed it still led answered reads that were not linearizable in simulation.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    }
    .validate()
}

//! A replica: a volume, a clock, and the processes that run on them, one after the other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use futures_util::join;
use parking_lot::Mutex;
use roadstead_domain::{AccessPolicy, Acknowledge, Entropy, Options, Ports, Registry};
use roadstead_geo::Mirror;
use roadstead_metadata::{
    ClusterOptions, LaterLevel, Levels, MemberChange, Metadata, OpenError, Options as MetadataOptions, Role, VolumeId,
};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::bucket::BucketOf;
use super::clock::SimulatedClock;
use super::cluster::Cluster;
use super::disk::{Crash, SimulatedDisk, Volume};
use super::network::Wire;
use super::process::Process;
use super::upstream;
use crate::random::Random;

/// A page of the memory budget, so that a part is exactly one.
pub(crate) const PART_SIZE: u64 = 4096;

pub(crate) const MEMORY_BUDGET: u64 = 12 * PART_SIZE;

pub(crate) const GRACE: Duration = Duration::from_mins(10);

pub(crate) const UPLOAD_EXPIRY: Duration = Duration::from_hours(1);

/// Short, so that it is met.
pub(crate) const MAX_STALENESS: Duration = Duration::from_secs(20);

/// How often a member looks whether it has what it wants, and the janitor sweeps: as in the server.
const LOOK: Duration = Duration::from_millis(250);
const SETTLE: Duration = Duration::from_secs(5);
pub(crate) const SWEEP: Duration = Duration::from_secs(10);

/// Few, so that snapshots and purges take part.
const PURGE_EVERY: u64 = 60;
const ENTRIES_KEPT: u64 = 20;

/// A place in the cluster.
pub(crate) struct Replica {
    pub(crate) address: String,
    pub(crate) volume_id: VolumeId,
    pub(crate) volume: Arc<Mutex<Volume>>,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) wants_vote: bool,
    /// The release that it runs, or will when it starts.
    levels: Mutex<Levels>,
    /// Why that release did not start, if it reads too little.
    refused: Mutex<Option<LaterLevel>>,
    run: Mutex<Option<Run>>,
}

struct Run {
    process: Arc<Process>,
    serving: Option<Serving>,
    /// Dropped with the process.
    _tasks: JoinSet<()>,
}

/// A process that answers.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) process: Arc<Process>,
    pub(crate) metadata: Metadata,
    pub(crate) registry: Arc<Registry>,
    /// If it is a mirror's.
    pub(crate) mirror: Option<Arc<Mirror>>,
}

impl Replica {
    pub(crate) fn new(
        address: String,
        volume_id: VolumeId,
        volume: Arc<Mutex<Volume>>,
        clock: Arc<SimulatedClock>,
        wants_vote: bool,
        levels: Levels,
    ) -> Arc<Self> {
        let (levels, refused) = (Mutex::new(levels), Mutex::default());
        Arc::new(Self { address, volume_id, volume, clock, wants_vote, levels, refused, run: Mutex::default() })
    }

    /// Which release it runs from the next start on.
    pub(crate) fn install(&self, levels: Levels) {
        *self.levels.lock() = levels;
    }

    pub(crate) fn levels(&self) -> Levels {
        *self.levels.lock()
    }

    /// Why its release did not start, if it reads too little.
    pub(crate) fn refused(&self) -> Option<LaterLevel> {
        *self.refused.lock()
    }

    pub(crate) fn serving(&self) -> Option<Serving> {
        self.run.lock().as_ref()?.serving.clone()
    }

    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        Some(Arc::clone(&self.run.lock().as_ref()?.process))
    }

    /// Starts a process, if there is none.
    pub(crate) fn start(self: &Arc<Self>, cluster: &Arc<Cluster>) {
        let mut run = self.run.lock();
        // Whoever has hit it before it was lost for good would start it again.
        if run.is_some() || cluster.is_gone(self) {
            return;
        }
        let process = Process::start(&self.address);
        cluster.trace.note(format_args!("{} starts", self.address));
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(self).work(Arc::clone(cluster), Arc::clone(&process)));
        *run = Some(Run { process, serving: None, _tasks: tasks });
    }

    /// Ends the process at once; the next one finds what `crash` leaves on the disk.
    pub(crate) fn crash(&self, cluster: &Cluster, crash: Crash) {
        let Some(Run { process, serving, _tasks }) = self.run.lock().take() else { return };
        cluster.trace.note(format_args!("{} dies ({crash:?})", self.address));
        process.kill();
        self.volume.lock().crash(crash);
        cluster.network.leave(&self.address);
        if let Some(Serving { metadata, mirror, .. }) = serving {
            // What is left of it cannot touch anything, and is to end.
            cluster.bury(async move {
                let end: OptionFuture<_> = mirror.as_ref().map(|mirror| mirror.end()).into();
                drop(join!(end, metadata.shutdown()));
            });
        }
    }

    /// Ends the process in order.
    pub(crate) async fn stop(&self, cluster: &Cluster) {
        let Some(Serving { process, metadata, registry, mirror }) = self.serving() else {
            return self.crash(cluster, Crash::Process);
        };
        cluster.trace.note(format_args!("{} stops", self.address));
        process.stop();
        let in_order = async {
            if metadata.status().role == Role::Leader {
                let me = metadata.identity().node;
                let other = metadata.members().into_iter().find(|member| member.is_voter && member.node != me);
                if let Some(other) = other {
                    let to = other.node;
                    drop(metadata.change_members(MemberChange::TransferLeadership { to }).await);
                }
            }
            if let Some(mirror) = &mirror {
                mirror.end().await;
            }
            registry.drain().await;
            drop(metadata.shutdown().await);
        };
        let _dead_or_not = process.unless_dead(in_order).await;
        self.crash(cluster, Crash::Process);
    }

    async fn work(self: Arc<Self>, cluster: Arc<Cluster>, process: Arc<Process>) {
        let mut random = cluster.draw(|random| Random::new(random.next()));
        let metadata = match Metadata::open(self.options(&cluster, &process, &mut random)).await {
            Ok(metadata) => metadata,
            Err(_) if process.is_dead() => return,
            Err(OpenError::Later(later)) => {
                cluster.trace.note(format_args!("{} does not start: {later}", self.address));
                *self.refused.lock() = Some(later);
                return;
            }
            Err(error) => return cluster.violated(format!("P2: {} cannot start: {error}", self.address)),
        };
        let traffic = cluster.new_traffic();
        let store = BucketOf {
            bucket: Arc::clone(&cluster.bucket),
            process: Arc::clone(&process),
            traffic,
            trace: cluster.trace.clone(),
            never_looks: cluster.bugs.never_looks,
        };
        let entropy = SimulatedEntropy::new(random, cluster.bugs.never_claims);
        let ports = Ports { clock: Arc::clone(&self.clock) as _, entropy: Arc::new(entropy) };
        let registry = Registry::new(metadata.clone(), Arc::new(store), ports, registry_options());
        cluster.network.listen(&self.address, Arc::clone(&process), metadata.clone());
        let mirror = upstream::follow(&cluster, &process, &registry);
        let serving = Serving { process: Arc::clone(&process), metadata, registry, mirror };
        if let Some(run) = &mut *self.run.lock() {
            run.serving = Some(serving.clone());
        }
        let fatal = watch_over(&cluster, &self.address, &serving);
        let following: OptionFuture<_> = serving.mirror.clone().map(upstream::run).into();
        join!(be_a_member(&serving, &self.address, self.wants_vote), clean_up(&serving), fatal, following);
    }

    fn options(&self, cluster: &Arc<Cluster>, process: &Arc<Process>, random: &mut Random) -> MetadataOptions {
        let wire = Wire { network: cluster.network.clone(), process: Arc::clone(process) };
        let seeds = cluster.addresses().into_iter().filter(|address| *address != self.address).collect();
        let disk = SimulatedDisk {
            volume: Arc::clone(&self.volume),
            process: Arc::clone(process),
            trace: cluster.trace.clone(),
        };
        MetadataOptions {
            state_cache_bytes: 1 << 20,
            log_cache_bytes: 16 << 10,
            new_volume: self.volume_id,
            new_cluster: cluster.id,
            disk: Arc::new(disk),
            seed: random.next(),
            levels: self.levels(),
            purge_every: PURGE_EVERY,
            entries_kept: ENTRIES_KEPT,
            cluster: Some(ClusterOptions { transport: Arc::new(wire), address: self.address.clone(), seeds }),
            ..MetadataOptions::new(format!("/{}", self.address), [1, 2])
        }
    }
}

fn registry_options() -> Options {
    Options {
        access: AccessPolicy::Open,
        part_size: PART_SIZE,
        memory_budget: MEMORY_BUDGET,
        max_uploads: 1_000,
        upload_expiry: UPLOAD_EXPIRY,
        max_staleness: MAX_STALENESS,
        gc_grace: GRACE,
        backup: false,
        backup_interval: Duration::MAX,
        backup_retention: Duration::ZERO,
        sparse_manifests: false,
        acknowledge: Acknowledge::Local,
        redirect: None,
    }
}

/// Says where it is, asks for a vote, and sees to the level in force, as the server's task of the same kind does.
async fn be_a_member(serving: &Serving, address: &str, wants_vote: bool) {
    let metadata = &serving.metadata;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_announced = false;
    loop {
        looks.tick().await;
        is_announced = is_announced || metadata.announce(address).await.is_ok();
        if !is_announced || metadata.linearize().await.is_err() {
            continue;
        }
        let node = metadata.identity().node;
        let settled = !wants_vote
            || metadata.status().role != Role::Learner
            || metadata.change_members(MemberChange::Promote { node }).await.is_ok();
        if settled {
            break;
        }
    }
    let mut looks = interval(SETTLE);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        metadata.settle_level().await;
    }
}

/// Sweeps while it leads, as the server's janitor does.
async fn clean_up(serving: &Serving) {
    let mut sweeps = interval(SWEEP);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        sweeps.tick().await;
        serving.registry.look_at_the_clock();
        if serving.metadata.status().role == Role::Leader {
            // What fails is tried again.
            drop(serving.registry.sweep().await);
            drop(serving.registry.sweep_multiparts().await);
        }
    }
}

/// A replica stops by itself only if its disk does.
async fn watch_over(cluster: &Cluster, address: &str, serving: &Serving) {
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        if let Some(fatal) = serving.metadata.status().fatal {
            if !serving.process.is_ending() {
                cluster.violated(format!("P2: {address} has stopped by itself: {fatal}"));
            }
            return;
        }
    }
}

/// Randomness of one process.
struct SimulatedEntropy {
    random: Mutex<Random>,
    /// The bug: what is drawn first, which names the run of the process, is the same for all.
    first_is_the_same: Mutex<bool>,
}

impl SimulatedEntropy {
    fn new(random: Random, first_is_the_same: bool) -> Self {
        Self { random: Mutex::new(random), first_is_the_same: Mutex::new(first_is_the_same) }
    }
}

impl Entropy for SimulatedEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if std::mem::take(&mut *self.first_is_the_same.lock()) {
            return bytes.fill(7);
        }
        self.random.lock().fill(bytes);
    }
}

//! All replicas of a world, and what they share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roadstead_metadata::{ClusterId, Levels, MemberChange, Role, VolumeId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::bucket::{Bucket, Traffic};
use super::clock::{SimulatedClock, Time};
use super::disk::{Crash, Volume};
use super::network::Network;
use super::replica::{Replica, SWEEP, Serving};
use super::upstream::Upstream;
use crate::bugs::Bugs;
use crate::random::Random;
use crate::trace::Trace;

/// How long a world without faults may take to be as it should.
const PATIENCE: Duration = Duration::from_mins(2);

/// What every home is, in its world.
const HOME: ClusterId = ClusterId(7);

/// A region's replicas.
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    /// With what the names of its replicas begin.
    prefix: String,
    /// Whom it follows, if it is a mirror.
    pub(crate) upstream: Option<Arc<Upstream>>,
    pub(crate) trace: Trace,
    pub(crate) time: Arc<Time>,
    pub(crate) network: Network,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) bugs: Bugs,
    /// The release that new replicas run.
    pub(crate) levels: Mutex<Levels>,
    random: Mutex<Random>,
    replicas: Mutex<Vec<Arc<Replica>>>,
    /// How many replicas there ever were.
    numbered: Mutex<u64>,
    dead: Mutex<JoinSet<()>>,
    /// Of every process that there was.
    traffic: Mutex<Vec<Arc<Traffic>>>,
    violations: Mutex<Vec<String>>,
    /// Held by whoever takes a volume away.
    pub(crate) membership: tokio::sync::Mutex<()>,
}

impl Cluster {
    pub(crate) fn new(seed: u64, trace: Trace, bugs: Bugs) -> Arc<Self> {
        Self::of(seed, trace, bugs, Time::begin(), None)
    }

    /// A mirror, in the same world as its home.
    pub(crate) fn mirror(seed: u64, upstream: Arc<Upstream>) -> Arc<Self> {
        let home = &upstream.home;
        Self::of(seed, home.trace.clone(), home.bugs, Arc::clone(&home.time), Some(upstream))
    }

    fn of(seed: u64, trace: Trace, bugs: Bugs, time: Arc<Time>, upstream: Option<Arc<Upstream>>) -> Arc<Self> {
        // A home draws what it drew before there were mirrors.
        let (id, prefix, of) = match &upstream {
            Some(upstream) => (upstream.mirror_id(), format!("{}r", upstream.name), format!(" {}", upstream.name)),
            None => (HOME, "r".to_owned(), String::new()),
        };
        Arc::new(Self {
            id,
            prefix,
            upstream,
            network: Network::new(Random::of(seed, &format!("network{of}")), trace.clone(), bugs),
            bucket: Bucket::new(Random::of(seed, &format!("bucket{of}")), &time),
            trace,
            time,
            bugs,
            levels: Mutex::new(Levels::OF_THIS_BUILD),
            random: Mutex::new(Random::of(seed, &format!("cluster{of}"))),
            replicas: Mutex::default(),
            numbered: Mutex::default(),
            dead: Mutex::default(),
            traffic: Mutex::default(),
            violations: Mutex::default(),
            membership: tokio::sync::Mutex::default(),
        })
    }

    /// A cluster of `voters` that have found each other, without any fault so far.
    pub(crate) async fn begin(self: &Arc<Self>, voters: usize) -> Result<(), String> {
        for _ in 0..voters {
            let replica = self.add(true);
            replica.start(self);
            let has_a_vote = async || {
                let serving = replica.serving()?;
                let node = serving.metadata.identity().node;
                let members = self.leader()?.metadata.members();
                members.iter().any(|member| member.node == node && member.is_voter).then_some(())
            };
            self.until("a replica has a vote", has_a_vote).await?;
        }
        Ok(())
    }

    /// A replica on a blank volume, which has not been started.
    pub(crate) fn add(self: &Arc<Self>, wants_vote: bool) -> Arc<Replica> {
        let (volume_id, disk) = self.draw(|random| {
            let mut id = [0; 16];
            random.fill(&mut id);
            (VolumeId(u128::from_be_bytes(id)), Random::new(random.next()))
        });
        self.add_as(volume_id, disk, wants_vote)
    }

    /// A replica on a blank volume that takes the place of one that is lost.
    pub(crate) fn replace(self: &Arc<Self>, lost: &Replica) -> Arc<Replica> {
        self.remove(lost);
        if self.bugs.reuses_node_ids {
            let disk = self.draw(|random| Random::new(random.next()));
            return self.add_as(lost.volume_id, disk, true);
        }
        self.add(false)
    }

    fn add_as(self: &Arc<Self>, volume_id: VolumeId, disk: Random, wants_vote: bool) -> Arc<Replica> {
        let number = {
            let mut numbered = self.numbered.lock();
            *numbered += 1;
            *numbered
        };
        let clock = Arc::new(SimulatedClock::new(Arc::clone(&self.time), self.bugs.trusts_the_wall));
        let volume = Volume::blank(disk, self.bugs.lie);
        let replica =
            Replica::new(format!("{}{number}", self.prefix), volume_id, volume, clock, wants_vote, *self.levels.lock());
        self.replicas.lock().push(Arc::clone(&replica));
        replica
    }

    /// A replica goes for good.
    pub(crate) fn remove(&self, lost: &Replica) {
        lost.crash(self, Crash::PowerLosesAll);
        self.replicas.lock().retain(|replica| replica.address != lost.address);
    }

    /// Whether it has been lost for good.
    pub(crate) fn is_gone(&self, replica: &Replica) -> bool {
        self.replicas().iter().all(|other| other.address != replica.address)
    }

    pub(crate) fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.lock().clone()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.replicas.lock().iter().map(|replica| replica.address.clone()).collect()
    }

    pub(crate) fn serving(&self) -> Vec<Serving> {
        self.replicas().iter().filter_map(|replica| replica.serving()).collect()
    }

    /// Who leads, of those that believe it the one with the newest term.
    pub(crate) fn leader(&self) -> Option<Serving> {
        let leads = |serving: &Serving| serving.metadata.status().role == Role::Leader && !serving.process.is_dead();
        let term = |serving: &Serving| serving.metadata.status().term;
        self.serving().into_iter().filter(leads).max_by_key(term)
    }

    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock())
    }

    /// Lets hours pass in which nothing happens but that every replica looks at its clock.
    pub(crate) fn pass(&self, time: Duration) {
        let mut left = time;
        while left > Duration::ZERO {
            let step = left.min(SWEEP);
            self.time.pass(step);
            left -= step;
            self.serving().iter().for_each(|serving| serving.registry.look_at_the_clock());
        }
    }

    /// Takes down what must never be.
    pub(crate) fn violated(&self, what: String) {
        self.trace.note(format_args!("VIOLATION {what}"));
        self.violations.lock().push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    /// What a process that begins now sends to the bucket.
    pub(crate) fn new_traffic(&self) -> Arc<Traffic> {
        let traffic = Arc::<Traffic>::default();
        self.traffic.lock().push(Arc::clone(&traffic));
        traffic
    }

    /// Of every process that there was.
    pub(crate) fn traffic(&self) -> Vec<Arc<Traffic>> {
        self.traffic.lock().clone()
    }

    /// Lets what is left of a process run out.
    pub(crate) fn bury(&self, end: impl Future<Output = ()> + Send + 'static) {
        self.dead.lock().spawn(end);
    }

    /// Finds those whose power has gone.
    pub(crate) fn find_dead(&self) {
        for replica in self.replicas() {
            if replica.process().is_some_and(|process| process.is_dead()) && replica.volume.lock().has_lost_power() {
                replica.crash(self, Crash::PowerTears);
            }
        }
    }

    /// Ends every fault, and starts who is down.
    pub(crate) fn heal(self: &Arc<Self>) {
        self.trace.note(format_args!("everything heals"));
        self.bucket.heal();
        self.find_dead();
        for replica in self.replicas() {
            replica.volume.lock().keep_power();
            if let Some(process) = replica.process() {
                process.resume();
            }
        }
        self.heal_quorum();
    }

    /// Starts who is down and mends the network, without which nobody joins.
    pub(crate) fn heal_quorum(self: &Arc<Self>) {
        self.network.heal();
        self.replicas().iter().for_each(|replica| replica.start(self));
    }

    /// Lets the group replace who is lost by who waits, as often as it takes. Meanwhile no other change is made, so that
    /// whoever makes those may wait for this one and heal nothing: after a while this does.
    pub(crate) async fn change_members(self: &Arc<Self>, change: MemberChange) -> Result<(), String> {
        let (mut last, begun) = (String::new(), Instant::now());
        let changed = async || {
            if begun.elapsed() > PATIENCE / 4 {
                self.heal_quorum();
            }
            let serving = self.serving().into_iter().next()?;
            let changed = serving.process.unless_dead(serving.metadata.change_members(change)).await.ok()?;
            changed.map_err(|refused| last = refused.to_string()).ok()
        };
        let ended = self.until("the members change", changed).await;
        ended.map_err(|why| format!("{why} ({change:?}: {last})"))
    }

    /// Waits for something that has to be so soon.
    pub(crate) async fn until<T>(&self, what: &str, holds: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
        self.until_within(PATIENCE, what, holds).await
    }

    /// Waits for something that has to be in so much time.
    pub(crate) async fn until_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut holds: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, String> {
        let held = async {
            loop {
                self.find_dead();
                if let Some(value) = holds().await {
                    return value;
                }
                sleep_until(Instant::now() + Duration::from_millis(50)).await;
            }
        };
        timeout(patience, held).await.map_err(|_| format!("it does not come to pass that {what}"))
    }
}

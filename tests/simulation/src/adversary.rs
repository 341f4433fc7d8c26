//! What goes wrong, and when.

use std::sync::Arc;
use std::time::Duration;

use roadstead_metadata::{MemberChange, Role};
use tokio::time::{Instant, sleep_until};

use crate::random::Random;
use crate::world::cluster::Cluster;
use crate::world::disk::Crash;
use crate::world::replica::{GRACE, Replica, Serving, UPLOAD_EXPIRY};

/// Members at most.
const MOST_REPLICAS: usize = 5;

/// A year, by which a clock may be wrong.
const YEAR_MS: i64 = 365 * 24 * 3_600_000;

/// How often it looks for those whose power has gone.
const LOOK: Duration = Duration::from_millis(100);

/// Whoever disturbs a world.
pub(crate) struct Adversary {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) random: Random,
    /// What it does, mostly.
    pub(crate) fond_of: Option<Blow>,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// A process dies, mostly the leader.
    Kill,
    /// All die at once.
    KillAll,
    /// The power goes in the middle of a write.
    PowerCut,
    /// A process does nothing for a while.
    Stall,
    /// One is cut off, or hears and is not heard.
    Isolate,
    /// The network loses messages and is slow.
    Storm,
    /// The bucket fails.
    BucketStorm,
    /// Somebody sets a clock.
    SetClock,
    /// Hours in which nothing else happens.
    TimePasses,
    /// A replica is lost for good, and a blank one takes its place.
    Replace,
    /// One more joins, or leaves.
    Resize,
    /// One after the other is started anew.
    Roll,
    /// Another one leads.
    Transfer,
}

const BLOWS: [(Blow, usize); 13] = [
    (Blow::Kill, 6),
    (Blow::KillAll, 1),
    (Blow::PowerCut, 3),
    (Blow::Stall, 4),
    (Blow::Isolate, 5),
    (Blow::Storm, 3),
    (Blow::BucketStorm, 4),
    (Blow::SetClock, 3),
    (Blow::TimePasses, 2),
    (Blow::Replace, 2),
    (Blow::Resize, 2),
    (Blow::Roll, 1),
    (Blow::Transfer, 2),
];

impl Adversary {
    /// Deals so many blows.
    pub(crate) async fn run(mut self, blows: usize) {
        for _ in 0..blows {
            let pause = self.random.time(Duration::from_millis(200), Duration::from_secs(4));
            self.wait(pause).await;
            let blow = match self.fond_of {
                Some(blow) if self.random.chance(2) => blow,
                _ => self.choose(),
            };
            self.cluster.trace.note(format_args!("the adversary: {blow:?}"));
            self.deal(blow).await;
        }
    }

    fn choose(&mut self) -> Blow {
        let all: usize = BLOWS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.random.below(all);
        for (blow, weight) in BLOWS {
            if drawn < weight {
                return blow;
            }
            drawn -= weight;
        }
        Blow::Kill
    }

    async fn deal(&mut self, blow: Blow) {
        let victim = self.victim();
        match blow {
            Blow::Kill => {
                let crash = self.crash();
                victim.crash(&self.cluster, crash);
                self.start_again(&[victim]).await;
            }
            Blow::KillAll => {
                let all = self.cluster.replicas();
                for replica in &all {
                    let crash = self.crash();
                    replica.crash(&self.cluster, crash);
                }
                self.start_again(&all).await;
            }
            Blow::PowerCut => {
                let operations = 1 + self.random.below(40);
                victim.volume.lock().lose_power_after(u32::try_from(operations).expect("few"));
                self.start_again(&[victim]).await;
            }
            Blow::Stall => {
                let time = self.random.time(Duration::from_millis(200), Duration::from_secs(8));
                if let Some(process) = victim.process() {
                    process.stall(time);
                }
            }
            Blow::Isolate => self.isolate(&victim).await,
            Blow::Storm => {
                let (lost, latest) = (self.random.below(300), 5 + self.random.below(400));
                self.cluster.network.disturb(lost, Duration::from_millis(latest as u64));
                self.wait_a_while().await;
                self.cluster.network.heal();
            }
            Blow::BucketStorm => {
                let (failing, latest) = (50 + self.random.below(600), 20 + self.random.below(2_000));
                self.cluster.bucket.disturb(failing, Duration::from_millis(latest as u64));
                self.wait_a_while().await;
                self.cluster.bucket.heal();
            }
            Blow::SetClock => self.set_clock(&victim),
            Blow::TimePasses => self.let_time_pass(),
            Blow::Replace | Blow::Resize => {
                // Of two volumes that are lost at once, the group could not get over one.
                let cluster = Arc::clone(&self.cluster);
                let _turn = cluster.membership.lock().await;
                match blow {
                    Blow::Replace => self.replace(&victim).await,
                    _ => self.resize(&victim).await,
                }
            }
            Blow::Roll => self.roll().await,
            Blow::Transfer => {
                let Some(leader) = self.cluster.leader() else { return };
                let (members, me) = (leader.metadata.members(), leader.metadata.identity().node);
                let others: Vec<u64> = members
                    .iter()
                    .filter(|member| member.is_voter && member.node != me)
                    .map(|member| member.node)
                    .collect();
                if !others.is_empty() {
                    let to = *self.random.pick(&others);
                    let change = leader.metadata.change_members(MemberChange::TransferLeadership { to });
                    drop(leader.process.unless_dead(change).await);
                }
            }
        }
    }

    /// The leader half of the time.
    fn victim(&mut self) -> Arc<Replica> {
        let replicas = self.cluster.replicas();
        let leads = |replica: &&Arc<Replica>| {
            replica.serving().is_some_and(|serving| serving.metadata.status().role == Role::Leader)
        };
        let leader = replicas.iter().find(leads).cloned();
        let anybody = Arc::clone(self.random.pick(&replicas));
        if self.random.chance(2) { leader.unwrap_or(anybody) } else { anybody }
    }

    fn crash(&mut self) -> Crash {
        *self.random.pick(&[Crash::Process, Crash::PowerLosesAll, Crash::PowerTears, Crash::PowerTears])
    }

    async fn start_again(&mut self, replicas: &[Arc<Replica>]) {
        for replica in replicas {
            if self.random.chance(2) {
                self.wait_a_while().await;
            }
            self.cluster.find_dead();
            replica.start(&self.cluster);
        }
    }

    async fn isolate(&mut self, victim: &Replica) {
        let kind = self.random.below(4);
        for other in self.cluster.addresses() {
            if other == victim.address || (kind == 3 && self.random.chance(2)) {
                continue;
            }
            if kind != 1 {
                self.cluster.network.cut(&victim.address, &other);
            }
            if kind != 2 {
                self.cluster.network.cut(&other, &victim.address);
            }
        }
        self.wait_a_while().await;
        self.wait_a_while().await;
        if !self.random.chance(4) {
            self.cluster.network.heal();
        }
    }

    fn set_clock(&mut self, victim: &Replica) {
        let ahead = match self.random.below(4) {
            0 => YEAR_MS,
            1 => -YEAR_MS,
            2 => i64::try_from(self.random.below(10_000_000)).expect("some hours"),
            _ => 0,
        };
        victim.clock.set_ahead(ahead);
    }

    /// Mostly about a grace or half of one, so that answers, leases and collections meet.
    fn let_time_pass(&mut self) {
        let second = Duration::from_secs(1);
        let time = match self.random.below(10) {
            0..3 => GRACE / 2 + second,
            3..6 => GRACE + second,
            6 | 7 => GRACE.saturating_sub(second),
            8 => UPLOAD_EXPIRY,
            _ => Duration::from_hours(3),
        };
        self.cluster.pass(time);
    }

    async fn replace(&mut self, victim: &Replica) {
        let Some(lost) = victim.serving().map(|serving| serving.metadata.identity().node) else { return };
        let leader = self.cluster.leader();
        let is_voter = leader.is_some_and(|leader| {
            leader.metadata.members().iter().any(|member| member.node == lost && member.is_voter)
        });
        if !is_voter || self.cluster.serving().len() < 3 {
            return;
        }
        let blank = self.cluster.replace(victim);
        blank.start(&self.cluster);
        if self.cluster.bugs.reuses_node_ids {
            return;
        }
        let joined = self.cluster.until("a blank replica joins", async || {
            self.cluster.heal_quorum();
            blank.serving()
        });
        let by = match joined.await {
            Ok(serving) => serving.metadata.identity().node,
            Err(why) => return self.cluster.violated(format!("P2: {why}")),
        };
        if let Err(why) = self.cluster.change_members(MemberChange::Replace { lost, by }).await {
            self.cluster.violated(format!("P2: a lost voter is not replaced: {why}"));
        }
    }

    async fn resize(&mut self, victim: &Replica) {
        let replicas = self.cluster.replicas();
        if replicas.len() < MOST_REPLICAS {
            let wants_vote = self.random.chance(2);
            self.cluster.add(wants_vote).start(&self.cluster);
            return;
        }
        let Some(serving) = victim.serving() else { return };
        let node = serving.metadata.identity().node;
        let removed = async {
            let speaker = self.cluster.leader()?;
            let change = speaker.metadata.change_members(MemberChange::Remove { node });
            speaker.process.unless_dead(change).await.ok()?.ok()
        };
        if removed.await.is_some() {
            self.cluster.remove(victim);
        }
    }

    async fn roll(&mut self) {
        for replica in self.cluster.replicas() {
            replica.stop(&self.cluster).await;
            replica.start(&self.cluster);
            let served = async || {
                // A cut that was left open would keep it from a leader for as long.
                self.cluster.network.heal();
                let follows = |serving: Serving| serving.metadata.status().leader.is_some();
                (self.cluster.is_gone(&replica) || replica.serving().is_some_and(follows)).then_some(())
            };
            if let Err(why) = self.cluster.until("a replica that was stopped in order serves again", served).await {
                self.cluster.violated(format!("P2: {why}"));
            }
        }
    }

    async fn wait_a_while(&mut self) {
        let time = self.random.time(Duration::from_millis(100), Duration::from_secs(4));
        self.wait(time).await;
    }

    async fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            sleep_until(until.min(Instant::now() + LOOK)).await;
            self.cluster.find_dead();
        }
    }
}

//! What goes wrong at a mirror, and on its way home.

use std::sync::Arc;
use std::time::Duration;

use roadstead_metadata::{MemberChange, Role};

use crate::random::Random;
use crate::world::cluster::Cluster;
use crate::world::disk::Crash;
use crate::world::network::pause;
use crate::world::replica::Replica;
use crate::world::wan::{Direction, Wan};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Nothing comes through in one direction, or in none.
    Cut,
    /// Connections break, and all is slow.
    Break,
    /// A replica dies.
    Kill,
    /// All of them die.
    KillAll,
    /// The power goes in the middle of a write.
    PowerCut,
    /// A replica does nothing for a while.
    Stall,
    /// One is stopped in order, and started anew.
    Restart,
    /// The mirror's bucket fails.
    BucketStorm,
    /// Another of its replicas leads.
    Transfer,
}

const MISHAPS: [(Mishap, usize); 9] = [
    (Mishap::Cut, 6),
    (Mishap::Break, 4),
    (Mishap::Kill, 4),
    (Mishap::KillAll, 2),
    (Mishap::PowerCut, 3),
    (Mishap::Stall, 2),
    (Mishap::Restart, 2),
    (Mishap::BucketStorm, 3),
    (Mishap::Transfer, 1),
];

/// Whoever disturbs one mirror.
pub(crate) struct Adversary {
    pub(crate) mirror: Arc<Cluster>,
    pub(crate) random: Random,
    /// What it does, mostly.
    pub(crate) fond_of: Option<Mishap>,
}

impl Adversary {
    /// Lets so many things go wrong.
    pub(crate) async fn run(mut self, mishaps: usize) {
        for _ in 0..mishaps {
            self.wait(Duration::from_millis(200), Duration::from_secs(3)).await;
            let mishap = match self.fond_of {
                Some(mishap) if self.random.chance(2) => mishap,
                _ => self.choose(),
            };
            self.mirror.trace.note(format_args!("at a mirror: {mishap:?}"));
            self.let_happen(mishap).await;
        }
    }

    fn choose(&mut self) -> Mishap {
        let all: usize = MISHAPS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.random.below(all);
        for (mishap, weight) in MISHAPS {
            if drawn < weight {
                return mishap;
            }
            drawn -= weight;
        }
        Mishap::Cut
    }

    async fn let_happen(&mut self, mishap: Mishap) {
        let replicas = self.mirror.replicas();
        let victim = Arc::clone(self.random.pick(&replicas));
        match mishap {
            Mishap::Cut => {
                let ways = [&[Direction::Home][..], &[Direction::Mirror], &[Direction::Home, Direction::Mirror]];
                let (directions, refuses) = (*self.random.pick(&ways), self.random.chance(3));
                self.way(|wan| wan.cut(directions, refuses));
                self.wait(Duration::from_millis(200), Duration::from_secs(15)).await;
                self.way(Wan::heal);
            }
            Mishap::Break => {
                let (breaking, latest) = (self.random.below(300), 5 + self.random.below(900));
                self.way(|wan| wan.disturb(breaking, Duration::from_millis(latest as u64)));
                self.wait(Duration::from_secs(1), Duration::from_secs(8)).await;
                self.way(Wan::heal);
            }
            Mishap::Kill => self.crash(&[victim]).await,
            Mishap::KillAll => self.crash(&replicas).await,
            Mishap::PowerCut => {
                let operations = 1 + self.random.below(40);
                victim.volume.lock().lose_power_after(u32::try_from(operations).expect("few"));
                self.wait(Duration::from_millis(100), Duration::from_secs(3)).await;
                self.start_again(&[victim]).await;
            }
            Mishap::Stall => {
                let time = self.random.time(Duration::from_millis(200), Duration::from_secs(8));
                if let Some(process) = victim.process() {
                    process.stall(time);
                }
            }
            Mishap::Restart => {
                victim.stop(&self.mirror).await;
                victim.start(&self.mirror);
            }
            Mishap::BucketStorm => {
                let (failing, latest) = (50 + self.random.below(500), 20 + self.random.below(1_000));
                self.mirror.bucket.disturb(failing, Duration::from_millis(latest as u64));
                self.wait(Duration::from_millis(500), Duration::from_secs(5)).await;
                self.mirror.bucket.heal();
            }
            Mishap::Transfer => self.transfer().await,
        }
    }

    fn way(&self, change: impl FnOnce(&Wan)) {
        if let Some(upstream) = &self.mirror.upstream {
            change(&upstream.wan);
        }
    }

    async fn crash(&mut self, replicas: &[Arc<Replica>]) {
        for replica in replicas {
            let kinds = [Crash::Process, Crash::PowerLosesAll, Crash::PowerTears];
            replica.crash(&self.mirror, *self.random.pick(&kinds));
        }
        self.start_again(replicas).await;
    }

    async fn start_again(&mut self, replicas: &[Arc<Replica>]) {
        for replica in replicas {
            if self.random.chance(2) {
                self.wait(Duration::from_millis(100), Duration::from_secs(4)).await;
            }
            self.mirror.find_dead();
            replica.start(&self.mirror);
        }
    }

    /// Lets another voter lead, if there is one.
    async fn transfer(&mut self) {
        let leads = |replica: &&Arc<Replica>| {
            replica.serving().is_some_and(|serving| serving.metadata.status().role == Role::Leader)
        };
        let replicas = self.mirror.replicas();
        let Some(leader) = replicas.iter().find(leads).and_then(|replica| replica.serving()) else { return };
        let me = leader.metadata.identity().node;
        let others = leader.metadata.members().into_iter().filter(|member| member.is_voter && member.node != me);
        let others: Vec<u64> = others.map(|member| member.node).collect();
        if !others.is_empty() {
            let change = MemberChange::TransferLeadership { to: *self.random.pick(&others) };
            drop(leader.process.unless_dead(leader.metadata.change_members(change)).await);
        }
    }

    async fn wait(&mut self, least: Duration, most: Duration) {
        let time = self.random.time(least, most);
        pause(time).await;
        self.mirror.find_dead();
    }
}

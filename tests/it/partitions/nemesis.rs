//! What cuts the replicas off from each other.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep_until};

use crate::harness::{Cluster, Network};

/// Ways in which a network fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// The leader and the majority lose each other.
    LeaderAlone,
    /// Another replica and the majority lose each other.
    FollowerAlone,
    /// What the leader sends reaches nobody, while it hears them.
    LeaderMute,
    /// The leader hears nobody, while they hear it.
    LeaderDeaf,
    /// What the leader sends does not reach one of the others.
    OneDoesNotHearTheLeader,
    /// The two others lose each other, and both have the leader.
    OthersApart,
}

impl Cut {
    const ALL: [Self; 6] = [
        Self::LeaderAlone,
        Self::FollowerAlone,
        Self::LeaderMute,
        Self::LeaderDeaf,
        Self::OneDoesNotHearTheLeader,
        Self::OthersApart,
    ];

    fn apply(self, network: &Network, leader: usize) {
        let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
        match self {
            Self::LeaderAlone => network.plug(leader, false),
            Self::FollowerAlone => network.plug(one, false),
            Self::LeaderMute => [one, other].iter().for_each(|to| network.drop_packets(leader, *to)),
            Self::LeaderDeaf => [one, other].iter().for_each(|from| network.drop_packets(*from, leader)),
            Self::OneDoesNotHearTheLeader => network.drop_packets(leader, one),
            Self::OthersApart => {
                network.drop_packets(one, other);
                network.drop_packets(other, one);
            }
        }
    }
}

/// From below an election to beyond the patience of requests.
const CUT_MS: std::ops::Range<u64> = 800..7_000;
const WHOLE_MS: std::ops::Range<u64> = 500..2_500;

/// Cuts and heals until `end`, and tells how often it did what. The network is whole when it returns.
pub(super) async fn cut_and_heal(
    network: &Network,
    cluster: &Cluster,
    mut random: StdRng,
    end: Instant,
) -> BTreeMap<Cut, u32> {
    let mut done = BTreeMap::new();
    // Each of them once, in some order, before any comes again.
    let mut bag: Vec<Cut> = Vec::new();
    loop {
        pause(&mut random, WHOLE_MS, end).await;
        if Instant::now() >= end {
            return done;
        }
        if bag.is_empty() {
            bag.extend(Cut::ALL);
        }
        let cut = bag.swap_remove(random.random_range(0..bag.len()));
        cut.apply(network, cluster.leader().await);
        *done.entry(cut).or_default() += 1;
        pause(&mut random, CUT_MS, end).await;
        network.heal();
    }
}

async fn pause(random: &mut StdRng, millis: std::ops::Range<u64>, end: Instant) {
    let pause = Duration::from_millis(random.random_range(millis));
    sleep_until(end.min(Instant::now() + pause)).await;
}

//! Tags through real partitions of a real network, in the manner of Jepsen (P3, P6).
//!
//! ```text
//!  clients --> any replica, on a network that never breaks        nemesis --> cuts the network of the replicas, heals it
//!     |
//!     '--> history of each tag: writes, compare-and-sets, deletions, reads --> is it linearizable?
//!          set of tags: what was acknowledged before a listing began       --> is it in the listing?
//! ```
//!
//! Answers that say `Registry-Stale` promise no more than that they were true once. `ROADSTEAD_PARTITION_SECONDS` says for
//! how long, `ROADSTEAD_PARTITION_SEED` which cuts.

mod nemesis;
mod recorder;
mod register;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::harness::{Cluster, Network, Roadstead, Setup, alone};
use recorder::Recorder;

const CLIENTS: usize = 9;

/// Some cuts in each run of the tests; a longer run has every kind many times.
const SECONDS: u64 = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn replica(network: &Network, node: usize) -> Setup {
    Setup::filesystem()
        .in_namespace(network.namespace_file(node))
        .flag("--listen", &format!("{}:5000", Network::client_side(node)))
        // Nothing else is on this network.
        .switch("--insecure-http")
}

#[test]
fn p3_tags_are_linearizable_whatever_the_network_does() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _alone = runtime().block_on(alone());
    let Some(network) = Network::new(3) else { return };
    network.on_hub(|| runtime().block_on(partition(&network)));
}

async fn partition(network: &Network) {
    let seconds = number("ROADSTEAD_PARTITION_SECONDS").unwrap_or(SECONDS);
    let seed = number("ROADSTEAD_PARTITION_SEED").unwrap_or_else(|| StdRng::from_os_rng().random_range(0..1 << 32));
    say(&format!("ROADSTEAD_PARTITION_SEED={seed} ROADSTEAD_PARTITION_SECONDS={seconds}"));
    let mut random = StdRng::seed_from_u64(seed);
    let peers: Vec<String> = (0..3).map(|node| format!("{}:5001", Network::peer_side(node))).collect();
    let mut cluster = Cluster::start_at(&peers, |node| replica(network, node)).await;
    let recorder = Recorder::prepare(cluster.replicas.iter().map(Roadstead::client).collect()).await;

    let end = Instant::now() + Duration::from_secs(seconds);
    let clients =
        (0..CLIENTS).map(|home| recorder.run(StdRng::seed_from_u64(random.random()), home, end)).collect::<Vec<_>>();
    let nemesis = nemesis::cut_and_heal(network, &cluster, StdRng::seed_from_u64(random.random()), end);
    let (cuts, _) = tokio::join!(nemesis, futures_util::future::join_all(clients));

    say(&format!("{cuts:?}\n{}", recorder.summary()));
    recorder.assert_linearizable();
    for seen in ["write done", "swap done", "swap refused", "create done", "delete done", "read shown", "set: added"] {
        assert!(recorder.count(seen) > 0, "no {seen}: the clients did next to nothing");
    }
    for replica in &mut cluster.replicas {
        recorder.assert_all_listed_by(&replica.client()).await;
        replica.assert_unharmed();
    }
}

/// Whoever reads the result must know what was done.
#[expect(clippy::print_stdout, reason = "it is what a failure is tried again with, and what a run has shown")]
fn say(what: &str) {
    println!("{what}");
}

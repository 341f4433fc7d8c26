//! One world, from its seed to its end.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::join;
use tokio::runtime::{Builder, RngSeed};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::adversary::{Adversary, Blow};
use crate::bugs::Bugs;
use crate::client::Client;
use crate::history::{History, Tally};
use crate::promises;
use crate::random::Random;
use crate::trace::{Story, Trace};
use crate::universe::Universe;
use crate::world::cluster::Cluster;

const CLIENTS: usize = 4;

/// A client that takes longer for what it began hangs.
const LONGEST_REQUESTS: Duration = Duration::from_mins(20);

/// How a world is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) bugs: Bugs,
    pub(crate) blows: usize,
    pub(crate) fond_of: Option<Blow>,
    pub(crate) keep_lines: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, bugs: Bugs::default(), blows: 10, fond_of: None, keep_lines: false }
    }
}

/// What the checks look at.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) universe: Arc<Universe>,
    pub(crate) history: Arc<History>,
}

/// How a world ended, and what was counted in it.
pub(crate) struct Ended<T = Tally> {
    pub(crate) violations: Vec<String>,
    pub(crate) story: Story,
    pub(crate) lines: Vec<String>,
    pub(crate) tally: T,
}

/// Runs a world in this thread.
pub(crate) fn run(plan: Plan) -> Ended {
    block_on(plan.seed, live(plan))
}

/// Runs something to its end, in a time of its own that passes when nothing else is to be done.
pub(crate) fn block_on<T>(seed: u64, work: impl Future<Output = T>) -> T {
    let seed = RngSeed::from_bytes(&seed.to_be_bytes());
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).rng_seed(seed).build();
    runtime.expect("a runtime").block_on(work)
}

impl World {
    /// One in which nothing has happened.
    pub(crate) fn new(plan: Plan, trace: Trace) -> Self {
        Self {
            seed: plan.seed,
            cluster: Cluster::new(plan.seed, trace, plan.bugs),
            universe: Arc::new(Universe::new(plan.seed)),
            history: Arc::default(),
        }
    }
}

async fn live(plan: Plan) -> Ended {
    let trace = Trace::begin(plan.keep_lines);
    let world = World::new(plan, trace.clone());
    if let Err(violation) = Box::pin(story(&world, plan)).await {
        world.cluster.violated(violation);
    }
    Ended {
        violations: world.cluster.violations(),
        story: trace.story(),
        lines: trace.take_lines(),
        tally: world.history.with(|records| records.tally),
    }
}

async fn story(world: &World, plan: Plan) -> Result<(), String> {
    let mut random = Random::of(plan.seed, "story");
    let voters = if random.chance(5) { 5 } else { 3 };
    world.cluster.begin(voters).await?;
    Box::pin(endure(world, plan, random, ready(()).boxed_local())).await?;
    if world.cluster.violations().is_empty() { promises::check(world).await } else { Ok(()) }
}

/// Lets clients work and things go wrong, beside something else, until all has healed and every client has its answer.
pub(crate) async fn endure(
    world: &World,
    plan: Plan,
    mut random: Random,
    beside: LocalBoxFuture<'_, ()>,
) -> Result<(), String> {
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client {
            cluster: Arc::clone(&world.cluster),
            universe: Arc::clone(&world.universe),
            history: Arc::clone(&world.history),
            random: Random::new(random.next()),
            number,
            loses: random.below(60),
        };
        clients.spawn(client.run(stop.clone()));
    }
    let mut adversary =
        || Adversary { cluster: Arc::clone(&world.cluster), random: Random::new(random.next()), fond_of: plan.fond_of };
    let (one, other) = (adversary(), adversary());
    // In every other world there are two, whose blows fall together.
    let others_blows = if random.chance(2) { plan.blows } else { 0 };
    join!(one.run(plan.blows), other.run(others_blows), beside);
    world.cluster.heal();
    stop.cancel();
    let ended = async {
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client does not panic");
        }
    };
    timeout(LONGEST_REQUESTS, ended).await.map_err(|_| "P6: a client's request does not end".to_owned())
}

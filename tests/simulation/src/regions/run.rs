//! One world of regions, from its seed to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use roadstead_geo::Filter;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Regions;
use super::adversary::{Adversary, Mishap};
use crate::bugs::Bugs;
use crate::client::Client;
use crate::history::{MirrorTally, Records, TAGS, Tally};
use crate::promises;
use crate::random::Random;
use crate::run::{Ended, Plan, World, block_on, endure};
use crate::trace::Trace;
use crate::universe::SCRATCH;
use crate::world::cluster::Cluster;
use crate::world::network::pause;
use crate::world::upstream::{Part, Upstream};
use crate::world::wan::Wan;

/// Who pulls at each mirror.
const PULLERS: usize = 3;

/// How often all facts of a mirror are looked at.
const AUDIT: Duration = Duration::from_millis(250);

/// A client that takes longer for what it began hangs.
const LONGEST_PULLS: Duration = Duration::from_mins(20);

/// How a world of regions is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionsPlan {
    pub(crate) seed: u64,
    pub(crate) bugs: Bugs,
    pub(crate) fond_of: Option<Mishap>,
    pub(crate) keep_lines: bool,
}

impl RegionsPlan {
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, bugs: Bugs::default(), fond_of: None, keep_lines: false }
    }
}

/// What is counted in a world of regions.
#[derive(Default)]
pub(crate) struct RegionsTally {
    pub(crate) home: Tally,
    pub(crate) at_mirrors: MirrorTally,
}

/// Runs a world in this thread.
pub(crate) fn run(plan: RegionsPlan) -> Ended<RegionsTally> {
    block_on(plan.seed, live(plan))
}

async fn live(plan: RegionsPlan) -> Ended<RegionsTally> {
    let trace = Trace::begin(plan.keep_lines);
    let mut random = Random::of(plan.seed, "regions");
    let blows = 3 + random.below(4);
    let home = World::new(Plan { bugs: plan.bugs, blows, ..Plan::of(plan.seed) }, trace.clone());
    let mirrors = (1..=1 + random.below(2) as u64).map(|number| mirror(plan.seed, &home, number, &mut random));
    let regions = Regions { mirrors: mirrors.collect(), home };
    if let Err(violation) = Box::pin(story(&regions, plan, random)).await {
        regions.home.cluster.violated(violation);
    }
    let mut violations = regions.home.cluster.violations();
    violations.extend(regions.mirrors.iter().flat_map(|mirror| mirror.violations()));
    let count = |records: &mut Records| RegionsTally { home: records.tally, at_mirrors: records.at_mirrors };
    let tally = regions.home.history.with(count);
    Ended { violations, story: trace.story(), lines: trace.take_lines(), tally }
}

/// A mirror that has not begun, of all of its home or a part, and of a home that keeps all of its feed for it, some, or
/// little.
fn mirror(seed: u64, home: &World, number: u64, random: &mut Random) -> Arc<Cluster> {
    let kept = *random.pick(&[u64::MAX / 2, 40, 8]);
    let wan = Wan::new(Random::of(seed, &format!("way {number}")));
    let mut drawn = Random::of(seed, &format!("part {number}"));
    let part = if drawn.chance(4) {
        let tag = drawn.chance(2).then(|| drawn.below(TAGS));
        Part::Of(drawn.below(SCRATCH), tag)
    } else {
        Part::Everything
    };
    let rules = match part {
        Part::Everything => Vec::new(),
        Part::Of(repository, tag) => {
            let tag = tag.map(|tag| format!(":{}", home.universe.tag(tag))).unwrap_or_default();
            let rule = format!("{}{tag}", home.universe.repositories[repository]);
            vec![rule.parse().expect("a rule")]
        }
    };
    let filter = Filter { rules, platforms: Vec::new() };
    Cluster::mirror(seed, Upstream::new(number, &home.cluster, wan, kept, part, filter))
}

async fn story(regions: &Regions, plan: RegionsPlan, mut random: Random) -> Result<(), String> {
    let Regions { home, mirrors } = regions;
    home.cluster.begin(3).await?;
    for mirror in mirrors {
        let voters = if random.chance(6) { 3 } else { 1 };
        mirror.begin(voters).await?;
    }
    let stop = CancellationToken::new();
    let mut pulls = JoinSet::new();
    for mirror in mirrors {
        for number in 0..PULLERS {
            pulls.spawn(puller(regions, mirror, 10 + number, &mut random).run_at_mirror(stop.clone()));
        }
    }
    let mishaps = random.below(5) + 4;
    let adversaries: Vec<_> = mirrors
        .iter()
        .map(|mirror| Adversary {
            mirror: Arc::clone(mirror),
            random: Random::new(random.next()),
            fond_of: plan.fond_of,
        })
        .collect();
    let chance = Random::new(random.next());
    let blows = Plan { bugs: plan.bugs, blows: 3 + random.below(4), ..Plan::of(plan.seed) };
    let beside = async {
        tokio::select! {
            biased;
            () = audit(regions) => {}
            _ = join_all(adversaries.into_iter().map(|adversary| adversary.run(mishaps))) => {}
        }
    };
    Box::pin(endure(home, blows, chance, beside.boxed_local())).await?;
    heal(mirrors);
    stop.cancel();
    let ended = async {
        while let Some(ended) = pulls.join_next().await {
            ended.expect("a client does not panic");
        }
    };
    timeout(LONGEST_PULLS, ended).await.map_err(|_| "P8: a pull at a mirror does not end".to_owned())?;
    let violated = |cluster: &Arc<Cluster>| !cluster.violations().is_empty();
    if violated(&home.cluster) || mirrors.iter().any(violated) {
        return Ok(());
    }
    promises::check_tags(home)?;
    let checked = promises::check_regions(regions).await;
    for upstream in mirrors.iter().filter_map(|mirror| mirror.upstream.as_ref()) {
        home.history.with(|records| {
            records.at_mirrors.snapshots += upstream.snapshots.load(Ordering::Relaxed);
            records.at_mirrors.needless += upstream.needless.load(Ordering::Relaxed);
        });
    }
    checked
}

/// Somebody who pulls at a mirror.
pub(crate) fn puller(regions: &Regions, mirror: &Arc<Cluster>, number: usize, random: &mut Random) -> Client {
    Client {
        cluster: Arc::clone(mirror),
        universe: Arc::clone(&regions.home.universe),
        history: Arc::clone(&regions.home.history),
        random: Random::new(random.next()),
        number,
        loses: random.below(40),
    }
}

/// Ends every fault at mirrors and on their ways.
fn heal(mirrors: &[Arc<Cluster>]) {
    for mirror in mirrors {
        if let Some(upstream) = &mirror.upstream {
            upstream.wan.heal();
        }
        mirror.heal();
    }
}

/// Looks at all facts of all mirrors again and again, until something is wrong with them.
async fn audit(regions: &Regions) {
    loop {
        pause(AUDIT).await;
        for mirror in &regions.mirrors {
            regions.home.history.with(|records| records.at_mirrors.audits += 1);
            if let Err(violation) = promises::audit(regions, mirror) {
                return mirror.violated(violation);
            }
        }
    }
}

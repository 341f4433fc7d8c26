//! Worlds that are rolled from one release to the next while everything else goes wrong.
//!
//! Both releases are this one, with other tables of levels: by them, deleting a tag came with level 2, which the older
//! does not read. A replica of the older release that comes to such an entry stops, which is a violation of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use roadstead_domain::{Fault, ManifestReadError};
use roadstead_metadata::{Command, LaterLevel, Level, Levels, MemberChange, ProposeError, Role};
use roadstead_oci::Reference;

use crate::promises;
use crate::random::Random;
use crate::run::{Plan, World, block_on, endure};
use crate::seeds::number;
use crate::trace::Trace;
use crate::world::disk::Crash;
use crate::world::network::pause;
use crate::world::replica::{Replica, Serving};

/// A minute's worth on two cores, with those of `seeds.rs`.
const SEEDS: u64 = 8;

/// Worlds in which a gate that does not hold may stay hidden.
const MUTANT_SEEDS: u64 = 10;

fn since(command: &Command) -> Level {
    match command {
        Command::DeleteTag(_) => Level(2),
        command => command.since(),
    }
}

const OLD: Levels = Levels { reads: Level(1), since };
const NEW: Levels = Levels { reads: Level(2), since };

/// The bug: a newer release whose author forgot to say that the older does not read what it has added.
const FORGETFUL: Levels = Levels { reads: Level(2), since: Command::since };

fn is_old(replica: &Arc<Replica>) -> bool {
    replica.levels().reads < NEW.reads
}

/// Upgrades one replica after the other, in no order, some of them as they die.
async fn roll(world: &World, random: &mut Random, to: Levels) {
    let cluster = &world.cluster;
    loop {
        let old: Vec<Arc<Replica>> = cluster.replicas().into_iter().filter(is_old).collect();
        if old.is_empty() {
            return;
        }
        pause(random.time(Duration::from_millis(100), Duration::from_secs(8))).await;
        let replica = random.pick(&old);
        // From the first one on, who comes anew is of the new release: so it is in a set of pods.
        *cluster.levels.lock() = to;
        replica.install(to);
        cluster.trace.note(format_args!("{} is upgraded", replica.address));
        if random.chance(3) {
            replica.crash(cluster, *random.pick(&[Crash::Process, Crash::PowerTears]));
        } else {
            replica.stop(cluster).await;
        }
        replica.start(cluster);
        if random.chance(2) {
            change_leader(world, random).await;
        }
    }
}

/// Lets any other voter lead, of whichever release.
async fn change_leader(world: &World, random: &mut Random) {
    let Some(leader) = world.cluster.leader() else { return };
    let me = leader.metadata.identity().node;
    let others = leader.metadata.members().into_iter().filter(|member| member.is_voter && member.node != me);
    let others: Vec<u64> = others.map(|member| member.node).collect();
    if !others.is_empty() {
        let change = MemberChange::TransferLeadership { to: *random.pick(&others) };
        drop(leader.process.unless_dead(leader.metadata.change_members(change)).await);
    }
}

/// Deletes a tag that there never was.
async fn delete_tag(world: &World, serving: &Serving) -> Result<(), ManifestReadError> {
    let reference = Reference::Tag("none".parse().expect("a tag"));
    let deleted = serving.registry.delete_manifest(&world.universe.repositories[0], &reference).await;
    match deleted {
        Err(ManifestReadError::Unknown) => Ok(()),
        other => other,
    }
}

/// What is added must not work before all replicas read it, nor for longer than needed.
async fn story(world: &World, plan: Plan, to: Levels) -> Result<(), String> {
    let mut random = Random::of(plan.seed, "upgrade");
    let cluster = &world.cluster;
    *cluster.levels.lock() = OLD;
    cluster.begin(3).await?;
    for serving in cluster.serving() {
        match delete_tag(world, &serving).await {
            Err(ManifestReadError::Fault(Fault::Propose(ProposeError::NotYet { since, in_force })))
                if (since, in_force) == (Level(2), Level(1)) => {}
            other => return Err(format!("it is not put off: {other:?}")),
        }
    }
    let chance = Random::new(random.next());
    Box::pin(endure(world, plan, chance, roll(world, &mut random, to).boxed_local())).await?;
    if !cluster.violations().is_empty() {
        return Ok(());
    }
    let risen = async || {
        let all = cluster.serving();
        let is_risen = |serving: &Serving| serving.metadata.status().level == Level(2);
        (all.len() == cluster.replicas().len() && all.iter().all(is_risen)).then_some(())
    };
    cluster.until("level 2 is in force everywhere", risen).await?;
    for serving in cluster.serving() {
        let deleted = async || delete_tag(world, &serving).await.ok();
        cluster.until("a tag is deleted by each of them", deleted).await?;
    }
    promises::check(world).await?;

    // Back to the older, or the older anew: neither.
    let followers = cluster
        .replicas()
        .into_iter()
        .filter(|replica| replica.serving().is_some_and(|serving| serving.metadata.status().role != Role::Leader));
    let back = followers.last().ok_or("nobody follows")?;
    back.install(OLD);
    back.stop(cluster).await;
    *cluster.levels.lock() = OLD;
    let blank = cluster.add(false);
    let later = LaterLevel { level: Level(2), reads: Level(1) };
    for replica in [back, blank] {
        replica.start(cluster);
        let refused = cluster.until("the older is refused", async || replica.refused()).await?;
        if refused != later {
            return Err(format!("{} is refused otherwise: {refused}", replica.address));
        }
    }
    let rest = cluster.serving();
    let rest = rest.first().ok_or("nobody is left")?;
    cluster.until("the others go on", async || delete_tag(world, rest).await.ok()).await
}

fn violations(seed: u64, to: Levels) -> Vec<String> {
    let plan = Plan { keep_lines: number("ROADSTEAD_TRACE").is_some(), ..Plan::of(seed) };
    block_on(seed, async {
        let trace = Trace::begin(plan.keep_lines);
        let world = World::new(plan, trace.clone());
        if let Err(violation) = Box::pin(story(&world, plan, to)).await {
            world.cluster.violated(violation);
        }
        if plan.keep_lines {
            std::fs::write(format!("trace-upgrade-{seed}.txt"), trace.take_lines().join("\n")).expect("it is kept");
        }
        world.cluster.violations()
    })
}

#[test]
fn what_the_older_release_does_not_read_waits_for_the_last_replica_whatever_goes_wrong() {
    let (first, count) = match number("ROADSTEAD_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("ROADSTEAD_SEEDS").unwrap_or(SEEDS)),
    };
    for seed in first..first + count {
        let violations = violations(seed, NEW);
        assert!(
            violations.is_empty(),
            "seed {seed}: {violations:#?}\nTo run it again, with every event in trace-upgrade-{seed}.txt:\n    \
             ROADSTEAD_SEED={seed} ROADSTEAD_TRACE=1 cargo test --workspace --test simulation -- upgrades"
        );
    }
}

/// The bug that a release proposes what the older does not read.
#[test]
fn a_command_that_is_proposed_too_early_is_caught() {
    let is_caught =
        |seed: &u64| violations(*seed, FORGETFUL).iter().any(|violation| violation.contains("stopped by itself"));
    assert!((0..MUTANT_SEEDS).any(|seed| is_caught(&seed)), "not in {MUTANT_SEEDS} seeds");
}

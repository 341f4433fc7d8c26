//! P2: what was acknowledged is there, at every replica, which all hold the same.

use crate::client::Client;
use crate::random::Random;
use crate::run::World;

pub(super) async fn check(world: &World) -> Result<(), String> {
    let leader = || world.cluster.leader();
    let agreed = async || {
        let leader = leader()?;
        leader.process.unless_dead(leader.metadata.linearize()).await.ok()?.ok()?;
        let applied = leader.metadata.status().applied_index;
        let all = world.cluster.serving();
        let as_far = |index: u64| index >= applied && leader.metadata.status().last_log_index == applied;
        (all.len() == world.cluster.replicas().len()
            && all.iter().all(|serving| as_far(serving.metadata.status().applied_index)))
        .then_some(())
    };
    world.cluster.until("all replicas have applied the same", agreed).await.map_err(|why| format!("P2: {why}"))?;

    let mut facts: Option<(String, u32, usize)> = None;
    for serving in world.cluster.serving() {
        let mut bytes = Vec::new();
        let snapshot = serving.metadata.snapshot().map_err(|error| error.to_string())?;
        snapshot.write_to(&mut bytes).map_err(|error| error.to_string())?;
        let (name, sum) = (serving.process.name.clone(), crc32fast::hash(&bytes));
        match &facts {
            Some((first, theirs, length)) if *theirs != sum => {
                return Err(format!("P2: {name} holds {} bytes of facts, and {first} other {length}", bytes.len()));
            }
            Some(_) => {}
            None => facts = Some((name, sum, bytes.len())),
        }
    }

    let ledger = world.history.with(|records| records.stored.clone());
    for serving in world.cluster.serving() {
        let mut client = Client {
            cluster: world.cluster.clone(),
            universe: world.universe.clone(),
            history: world.history.clone(),
            random: Random::new(1),
            number: 99,
            loses: 0,
        };
        for (value, stored) in &ledger {
            if !client.pull_from(&serving, stored.repository, *value).await {
                return Err(format!("P2: manifest {value} was acknowledged and is not at {}", serving.process.name));
            }
        }
    }
    Ok(())
}

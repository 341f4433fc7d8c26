//! Pushes, mounts, questions, deletions and collection race each other, in thousands of orders (P7).
//!
//! ```text
//! clients, the janitor --> wait before each proposal, before or after each call of the store <--.
//!                             one of them, drawn from the seed, goes on to its next step; -------'
//!                             then facts, objects and promises are compared; now and then the clock is put forward
//! ```
//!
//! What was answered "exists" is there for half a grace at least, and while a manifest names it; no fact is without its
//! object at any step; what nothing references is gone after two graces and the readers' time; nothing else is left.
//! The facts, the verbs and the janitor are the real ones. `ROADSTEAD_RACES` says how many orders, `ROADSTEAD_RACE_SEED`
//! which is the first.

mod client;
mod oracle;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roadstead_blobs::{MultipartStore as _, ObjectStore as _};
use roadstead_oci::Reference;
use tokio::task::JoinSet;

use self::client::Client;
use self::oracle::{Oracle, Tally, Universe};
use self::steps::{Random, Steps};
pub(crate) use self::steps::{busy, step, store_step};
use crate::fixture::{GRACE, World, sha256};

/// In each run of the tests.
const RACES: u64 = 2_000;

/// Each has a world and a runtime of its own.
const THREADS: u64 = 2;

const CLIENTS: usize = 3;
const ACTIONS: usize = 2;
const SWEEPS: usize = 3;

/// No race lasts longer: a single write to the store would take a day, after which its key is given up.
const LONGEST: Duration = Duration::from_hours(20);

/// How far the clock is put forward: mostly about a grace or half of one, so that answers, leases and collections meet;
/// now and then past the expiry of sessions and the readers' time.
fn forward(random: &mut Random) -> Duration {
    let second = Duration::from_secs(1);
    match random.below(40) {
        0..8 => second,
        8..16 => GRACE / 2 + second,
        16..22 => GRACE / 2,
        22..30 => GRACE + second,
        30..34 => GRACE.saturating_sub(second),
        _ => Duration::from_hours(2) + second,
    }
}

/// Runs one order of events to its end.
async fn race(world: &mut World, universe: &Arc<Universe>, seed: u64) -> Result<Tally, String> {
    world.restart();
    let steps = Steps::begin(seed);
    let oracle = Arc::new(Mutex::new(Oracle::default()));
    let mut tasks = JoinSet::new();
    let mut handles = Vec::new();
    let mut lasted = Duration::ZERO;
    for number in 0..=CLIENTS {
        let client = Client {
            registry: Arc::clone(&world.registry),
            clock: Arc::clone(&world.clock),
            universe: Arc::clone(universe),
            oracle: Arc::clone(&oracle),
            random: Random::new(steps.draw(Random::next)),
        };
        let is_janitor = number == CLIENTS;
        handles.push(if is_janitor { tasks.spawn(client.sweep(SWEEPS)) } else { tasks.spawn(client.run(ACTIONS)) });
    }
    loop {
        steps.settle().await;
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                assert!(error.is_cancelled(), "{error}");
                oracle.lock().tally.abandoned += 1;
            }
        }
        let mut oracle = oracle.lock();
        oracle.check(world, universe);
        if let Some(violation) = oracle.violation.take() {
            return Err(violation);
        }
        let time = steps.draw(forward);
        if steps.draw(|random| random.chance(5)) && lasted + time < LONGEST {
            world.clock.advance(time);
            lasted += time;
        }
        if steps.draw(|random| random.chance(100)) {
            handles[steps.draw(|random| random.below(handles.len()))].abort();
        }
        if !steps.advance() {
            break;
        }
    }
    Steps::end();
    assert!(tasks.is_empty(), "somebody waits for nothing");
    clean_up(world, universe).await?;
    let tally = oracle.lock().tally;
    Ok(tally)
}

/// Lets the janitor work in peace, and looks at what it leaves.
async fn clean_up(world: &World, universe: &Universe) -> Result<(), String> {
    pass_two_graces(world).await;
    let query = world.registry.metadata.query().expect("facts");
    let (mut expected, mut manifests) = (Vec::new(), Vec::new());
    for repository in &universe.repositories {
        let mut named = Vec::new();
        for (manifest, blobs) in &universe.manifests {
            let digest = sha256(manifest.bytes());
            if query.manifest(repository, &digest).expect("a fact").is_some() {
                manifests.push((repository, Reference::Digest(digest)));
                named.extend(blobs);
            }
        }
        for (blob, content) in universe.blobs.iter().enumerate() {
            match query.blob(repository, &sha256(content)).expect("a fact") {
                Some(fact) if named.contains(&blob) => expected.push(fact.key.to_string()),
                Some(_) => {
                    return Err(format!("blob {blob} of {repository} outlives two graces, and nothing names it"));
                }
                None => {}
            }
        }
    }
    // Keys that were reserved and not used, with whatever was written to them.
    world.clock.advance(Duration::from_hours(25));
    let mut left = world.objects_after_sweep().await;
    left.retain(|key| key.starts_with("blobs/"));
    expected.sort();
    expected.dedup();
    if left != expected {
        return Err(format!("the store holds {left:?}, the facts {expected:?}"));
    }

    for (repository, digest) in manifests {
        world.registry.delete_manifest(repository, &digest).await.expect("it is there");
    }
    pass_two_graces(world).await;
    world.registry.sweep_multiparts().await.expect("a sweep");
    let objects = world.store.inner().list("", None).await.expect("a listing").items;
    let multiparts = world.store.inner().list_multiparts(None).await.expect("a listing").items;
    if !objects.is_empty() || !multiparts.is_empty() {
        return Err(format!("nothing references {objects:?} and {multiparts:?}"));
    }
    Ok(())
}

async fn pass_two_graces(world: &World) {
    let second = Duration::from_secs(1);
    for time in [GRACE + second, GRACE + second, Duration::from_hours(2) + second] {
        world.clock.advance(time);
        world.objects_after_sweep().await;
    }
}

/// Says how a failure is tried again, whoever found it.
struct Replay(u64);

impl Drop for Replay {
    #[expect(clippy::print_stderr, reason = "it is what a failure is tried again with")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("ROADSTEAD_RACE_SEED={seed} ROADSTEAD_RACES=1 cargo test -p roadstead-domain race");
        }
    }
}

#[test]
fn p7_nothing_promised_is_lost_and_nothing_unreferenced_stays_in_any_order_of_events() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let first = number("ROADSTEAD_RACE_SEED").unwrap_or(0);
    let races = number("ROADSTEAD_RACES").unwrap_or(RACES);
    let lane = |lane: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut world, universe) = (World::new().await, Arc::new(Universe::new()));
            let mut tally = Tally::default();
            for seed in (first + lane..first + races).step_by(usize::try_from(THREADS).expect("few")) {
                let _replay = Replay(seed);
                let ended = race(&mut world, &universe, seed).await;
                let ended = ended.unwrap_or_else(|violation| panic!("{violation}"));
                tally.add(ended);
            }
            tally
        })
    };
    let tallies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || lane(number))).collect();
        let ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.map(|tally| tally.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<_>>()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally);
    }
    all.assert_that_it_was_a_race(races);
}

use std::time::Duration;

use anyhow::{Result, ensure};
use roadstead_cluster::until;
use serde_json::{Value, json};
use tokio::time::interval;

use crate::figures::Figures;
use crate::registry::{Registry, Status};
use crate::simulated::{NODE_LABEL, Simulated};
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

/// Registries of one operator.
const REGISTRIES: usize = 100;

/// In which all of them come to be, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(15);

/// A list of all of them is a megabyte: asked for at each moment, it would be what is measured.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// In which what they have begun with is done: twice as long as until they are looked at again.
const SETTLING: Duration = Duration::from_secs(30);

/// For how long it is watched.
const WATCHED: Duration = Duration::from_mins(1);

/// What is asked of the API server for one look: the goal of the row.
const MOST_CALLS: f64 = 12.0;

/// Where something has gone wrong: twice the goal of the row, 60 MiB, which is of a release build.
const MOST_MEMORY: f64 = 120.0 * 1_048_576.0;

/// One operator, its API server, its CRD and its rights are real, and so is everything that it makes of a hundred Registries of
/// three replicas each. The replicas are simulated, since a machine that runs three hundred of them says more of itself than of
/// the operator (see [`Simulated`]). How long a look takes is measured and not judged: it is what the machine leaves it. The row's
/// goal of 100 ms is for a machine that does nothing else.
#[tokio::test]
#[ignore = "make e2e"]
async fn hundred_registries_cost_one_operator_little() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("100 Registries of one operator, with simulated replicas");
    let world = World::with_operator().await;
    world.namespace("hundred", "restricted").await?;
    let simulated = Simulated::start(&world, "hundred").await?;
    let measured = measure(&world, &mut watch).await;
    // Whatever was measured: an operator with a hundred Registries that nobody answers for is of no use to other tests.
    world.remove_namespace("hundred").await?;
    drop(simulated);
    measured
}

async fn measure(world: &World, watch: &mut Stopwatch) -> Result<()> {
    let none = Figures::now(world).await?;
    watch.lap(&format!("an operator without Registries: {:.1} MiB", mebibytes(&none)));

    let list = "/apis/roadstead.dev/v1alpha1/namespaces/hundred/registries";
    for number in 0..REGISTRIES {
        let registry = wanted(world, number);
        world.cluster.api().create(list, &registry).await?;
    }
    let mut looks = interval(BETWEEN_LOOKS);
    until("all of them are ready", PATIENCE, async || {
        looks.tick().await;
        let registries = world.cluster.api().list(list).await?;
        let is_settled = |registry: &&Value| {
            let status = Status((*registry).clone());
            status.is_ready() && status.voters() == "3/3" && status.0["status"]["readyReplicas"] == 3
        };
        let settled = registries.iter().filter(is_settled).count();
        ensure!(settled == REGISTRIES, "{settled} are");
        Ok(())
    })
    .await?;
    watch.lap(&format!("{REGISTRIES} are Ready, each with three voters"));

    passes(SETTLING).await;
    let before = Figures::now(world).await?;
    passes(WATCHED).await;
    let now = Figures::now(world).await?;
    let (seen, memory) = (now.since(&before), now.memory());
    let (looks, calls) = (seen.looks(), seen.calls() / seen.looks());
    let within = |share: f64| {
        let bound = seen.quantile(share);
        bound.map_or_else(|| "no bound".to_owned(), |bound| format!("{} ms", bound.as_millis()))
    };
    watch.lap(&format!(
        "in {WATCHED:?} {looks} looks: {calls:.1} API calls each, p50 at most {}, p99 at most {}; {:.1} MiB of memory",
        within(0.5),
        within(0.99),
        mebibytes(&now)
    ));
    ensure!(looks >= 100.0, "there were {looks} looks in {WATCHED:?}");
    ensure!(calls <= MOST_CALLS, "{calls:.1} API calls a look");
    ensure!(memory > 0.0 && memory < MOST_MEMORY, "the operator has {memory} bytes of memory");
    Ok(())
}

async fn passes(time: Duration) {
    let mut tick = interval(time);
    tick.tick().await;
    tick.tick().await;
}

/// The eight lines of each, with pods that find no node.
fn wanted(world: &World, number: usize) -> Value {
    let mut registry = Registry::new(world, "hundred", "r").eight_lines();
    registry["metadata"]["name"] = json!(format!("r{number}"));
    registry["spec"]["storage"]["s3"]["prefix"] = json!(format!("hundred-{number}"));
    registry["spec"]["pod"] = json!({"nodeSelector": {NODE_LABEL: "true"}});
    registry
}

fn mebibytes(figures: &Figures) -> f64 {
    figures.memory() / 1_048_576.0
}

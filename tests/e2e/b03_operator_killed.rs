use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Context as _, Result, ensure};
use roadstead_cluster::{repository_root, until};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::ledger::Ledger;
use crate::registry::{Registry, Status};
use crate::stopwatch::{Stopwatch, report};
use crate::world::{PATIENCE, World};

/// More lives than any of this takes: an operator that does the same thing in each would need more.
const LIVES: usize = 150;

/// More than the ten gibibytes that a volume has unless something else is said.
const LARGER: &str = "12Gi";

#[tokio::test]
#[ignore = "make e2e"]
async fn b03_an_operator_that_dies_after_each_of_its_writes_converges_to_one_cluster() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("3 the operator dies right after each of its writes");
    let world = World::with_operator().await;
    world.stop_operator().await?;
    let registry = Registry::new(&world, "b03", "home");
    world.namespace("b03", "restricted").await?;
    watch.lap("the cluster has no operator but those that the test starts");

    registry.apply(&registry.eight_lines()).await?;
    let lives = die_after_each_write(&world, &registry, 3).await?;
    let first = registry.status().await?;
    ensure!(first.members().len() == 3, "the members are {:?}", first.members());
    watch.lap(&format!("bootstrap in {lives} lives of one write: three voters of one cluster"));

    let ledger = Ledger::new(registry.client().await?);
    let mut nodes = first.members();
    for replicas in [5, 3] {
        registry.change(json!({"replicas": replicas})).await?;
        let lives = ledger.during(die_after_each_write(&world, &registry, replicas)).await?;
        let status = registry.status().await?;
        ensure!(status.cluster_id() == first.cluster_id(), "it is another cluster");
        nodes.extend(status.members());
        watch.lap(&format!("scaled to {replicas} in {lives} lives; {}", ledger.figures()));
    }
    ensure!(nodes.len() == 5, "the nodes over all times are {nodes:?}");

    registry.change(json!({"pod": {"annotations": {"example.com/roll": "1"}}})).await?;
    let lives = ledger.during(die_until(&world, 1, async || is_rolled(&registry).await)).await?;
    same_members(&registry, &first).await?;
    watch.lap(&format!("rolled in {lives} lives, with the same nodes; {}", ledger.figures()));

    let before = pods(&registry).await?;
    registry.change(json!({"metadataVolume": {"size": LARGER}})).await?;
    let lives = ledger.during(die_until(&world, 1, async || is_grown(&world, &registry).await)).await?;
    same_members(&registry, &first).await?;
    let after = pods(&registry).await?;
    ensure!(after == before, "replicas were restarted: they were {before:?}, and are {after:?}");
    watch.lap(&format!("volumes grown to {LARGER} in {lives} lives, and no replica restarted; {}", ledger.figures()));

    world.install_operator("dev").await?;
    world.remove_namespace("b03").await
}

/// Waits until every replica runs with what is wanted.
async fn is_rolled(registry: &Registry<'_>) -> Result<()> {
    until("every replica is rolled", PATIENCE, async || {
        let pods = registry.pods().await?;
        let rolled = pods.iter().filter(|pod| pod["metadata"]["annotations"]["example.com/roll"] == "1").count();
        ensure!(rolled == 3, "{rolled} are");
        Ok(())
    })
    .await?;
    registry.has_voters(3).await.map(drop)
}

/// Waits until all volumes are as large as is wanted, and those of replicas that come later will be.
async fn is_grown(world: &World, registry: &Registry<'_>) -> Result<()> {
    const SIZE: &str = "/spec/volumeClaimTemplates/0/spec/resources/requests/storage";
    until("every volume is larger", PATIENCE, async || {
        let claims = world.cluster.api().list("/api/v1/namespaces/b03/persistentvolumeclaims").await?;
        let sizes: Vec<_> = claims.iter().map(|claim| claim["status"]["capacity"]["storage"].clone()).collect();
        ensure!(sizes == [LARGER; 3], "they have {sizes:?}");
        let set = world.cluster.api().get("/apis/apps/v1/namespaces/b03/statefulsets/home").await?;
        ensure!(
            set.pointer(SIZE).is_some_and(|size| size == LARGER),
            "the StatefulSet asks for {:?}",
            set.pointer(SIZE)
        );
        Ok(())
    })
    .await?;
    registry.has_voters(3).await.map(drop)
}

async fn same_members(registry: &Registry<'_>, first: &Status) -> Result<()> {
    let now = registry.status().await?;
    ensure!(now.cluster_id() == first.cluster_id(), "it is another cluster");
    ensure!(now.members() == first.members(), "the members were {:?}, and are {:?}", first.members(), now.members());
    Ok(())
}

/// The ids of its replicas' pods.
async fn pods(registry: &Registry<'_>) -> Result<Vec<String>> {
    Ok(registry.pods().await?.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect())
}

/// Until there is nothing more to write and so many vote. Returns how many operators it took.
async fn die_after_each_write(world: &World, registry: &Registry<'_>, voters: usize) -> Result<usize> {
    die_until(world, 1, async || registry.has_voters(voters).await.map(drop)).await
}

/// Starts one operator after the other, each of which ends itself after one write, or after up to `most` by turns, until it
/// is so. Returns how many it took.
pub(crate) async fn die_until(world: &World, most: usize, is_so: impl AsyncFn() -> Result<()>) -> Result<usize> {
    for life in 1..=LIVES {
        let mut operator = start(world, life % most + 1)?;
        tokio::select! {
            ended = operator.wait() => {
                let ended = ended?;
                ensure!(ended.core_dumped() || ended.signal().is_some(), "the operator ended by itself: {ended}");
            }
            converged = is_so() => {
                converged?;
                operator.kill().await?;
                return Ok(life);
            }
        }
    }
    anyhow::bail!("{LIVES} writes did not do it")
}

/// An operator outside of the cluster, always of the same name, so that each takes the Lease from the one before.
fn start(world: &World, writes: usize) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(world.cluster.site().file("b03-operator.log"))?;
    Command::new(repository_root().join("target/debug/roadstead-operator"))
        .args(["run", "--image", "lab.local/roadstead:dev", "--lease-namespace", "roadstead", "--identity", "e2e"])
        .args(["--listen", "127.0.0.1:8089", "--die-after-writes", &writes.to_string()])
        .env("KUBECONFIG", world.cluster.kubeconfig())
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("the operator starts")
}

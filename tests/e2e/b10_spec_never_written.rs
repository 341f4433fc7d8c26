use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::World;

#[tokio::test]
#[ignore = "make e2e"]
async fn b10_the_spec_is_never_written_so_that_a_gitops_diff_is_empty() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("10 the spec is the user's alone");
    let world = World::with_operator().await;
    let registry = Registry::new(&world, "b10", "home");
    registry.create().await?;
    registry.has_voters(3).await?;
    watch.lap("three voters");
    let object = registry.status().await?.0;
    ensure!(object["metadata"]["generation"] == 1, "it is of generation {}", object["metadata"]["generation"]);
    let fields = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let of_spec = fields.iter().filter(|fields| fields["fieldsV1"].get("f:spec").is_some());
    let managers: BTreeSet<_> = of_spec.filter_map(|fields| fields["manager"].as_str()).collect();
    ensure!(managers == BTreeSet::from(["e2e"]), "the spec is written by {managers:?}");
    let kubectl = world.cluster.kubectl()?.args("diff --server-side --field-manager e2e --filename -");
    // It ends with 1 where there is a difference.
    let (is_empty, shown) = kubectl.input(registry.eight_lines().to_string()).outcome().await?;
    ensure!(is_empty, "{shown}");
    watch.lap("generation 1, one manager of the spec, and an empty diff");
    world.remove_namespace("b10").await
}

use anyhow::{Result, ensure};
use roadstead_cluster::repository_root;

use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{OPERATOR, World};

#[tokio::test]
#[ignore = "make e2e"]
async fn b19_with_rights_in_one_namespace_it_works_there_and_reads_nothing_elsewhere() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("19 an operator with rights in one restricted namespace");
    let world = World::with_operator().await;
    world.namespace("b19", "restricted").await?;
    world
        .helm("upgrade roadstead --reuse-values --wait --timeout 3m")?
        .arg(repository_root().join("charts/roadstead"))
        .args("--namespace roadstead --set watchNamespaces={b19}")
        .output()
        .await?;
    watch.lap("helm upgrade to one namespace");
    for (verb, what, namespace, may) in [
        ("get", "secrets", "b19", true),
        ("list", "secrets", "b19", false),
        ("watch", "secrets", "b19", false),
        ("get", "secrets", "default", false),
        ("list", "registries.roadstead.dev", "default", false),
        ("update", "registries.roadstead.dev", "b19", false),
        ("create", "pods --subresource=exec", "b19", false),
        ("list", "nodes", "", false),
    ] {
        let question =
            world.cluster.kubectl()?.args("auth can-i --as").arg(format!("system:serviceaccount:{OPERATOR}:roadstead"));
        let question = question.args(&format!("{verb} {what} --namespace")).arg(namespace);
        let (is_allowed, said) = question.outcome().await?;
        ensure!(is_allowed == may, "{verb} {what} in `{namespace}`: {said}");
    }
    watch.lap("it may read Secrets by name where it works, list none, and write no spec");
    let registry = Registry::new(&world, "b19", "home");
    registry.apply(&registry.eight_lines()).await?;
    registry.has_voters(3).await?;
    watch.lap("a Registry there is Ready");
    world.helm("uninstall roadstead --wait --namespace")?.arg(OPERATOR).output().await?;
    world.install_operator("dev").await?;
    world.remove_namespace("b19").await
}

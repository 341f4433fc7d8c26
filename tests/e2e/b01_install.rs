use anyhow::{Result, ensure};
use roadstead_cluster::{Image, until};
use serde_json::json;

use crate::node_mirror::NodeMirror;
use crate::registry::Registry;
use crate::stopwatch::{Stopwatch, report};
use crate::world::{OPERATOR, PATIENCE, World};

/// What images are called by; nobody resolves it.
const HOST: &str = "registry.example.test";

#[tokio::test]
#[ignore = "make e2e"]
async fn b01_a_bare_cluster_gets_a_registry_that_its_own_pods_pull_from() {
    report(run().await);
}

async fn run() -> Result<()> {
    let mut watch = Stopwatch::start("1 helm install, eight lines, push, and pods pull through the kubelet");
    let world = World::attach();
    // As bare as it was, whatever ran before.
    world.helm("uninstall roadstead --ignore-not-found --wait --namespace")?.arg(OPERATOR).output().await?;
    world.remove_namespace(OPERATOR).await?;
    world.namespace("b01", "restricted").await?;
    watch.lap("the cluster is bare: no operator, a namespace with a bucket's Secret");

    world.install_operator("dev").await?;
    watch.lap("helm install, until the operator is ready");

    let registry = Registry::new(&world, "b01", "home");
    registry.apply(&registry.eight_lines()).await?;
    registry.is_ready().await?;
    watch.lap("apply of the Registry, until it is Ready");
    registry.has_voters(3).await?;
    watch.lap("until three replicas vote");

    push_tools(&world, &registry, "team/app:1").await?;
    watch.lap("an image is pushed with the credential and the CA that status names");

    let nodes = NodeMirror::install(&world, &registry, HOST, None).await?;
    watch.lap("helm install of the node mirror, until it is on every node");

    pull_on_every_node(&world, &registry).await?;
    watch.lap("pods on all three nodes run the image, pulled by their kubelets");

    nodes.uninstall().await?;
    for node in world.cluster.nodes() {
        // helm waits for the DaemonSet, whose pods put back what they found as they end.
        let put_back = async || {
            let listed = world.cluster.on_node(node, "ls /etc/containerd/certs.d")?.outcome().await?.1;
            ensure!(!listed.contains(HOST), "it still has {listed}");
            Ok(())
        };
        until(&format!("nothing of the mirror is left on node {node}"), PATIENCE, put_back).await?;
    }
    watch.lap("the node mirror is uninstalled, and nothing of it is left on the nodes");
    nodes.remove().await?;
    world.remove_namespace("b01").await
}

/// Pushes an image that runs, as people do: by a client that knows nothing of Kubernetes.
async fn push_tools(world: &World, registry: &Registry<'_>, reference: &str) -> Result<()> {
    let site = world.cluster.site();
    let authority = site.file("b01-ca.crt");
    std::fs::write(&authority, registry.authority().await?)?;
    let layout = site.file("b01-layout");
    Image::tools()?.lay_out_at(&layout).await?;
    let address = registry.address().await?;
    let (user, password) = registry.credential().await?;
    let crane = || Ok::<_, anyhow::Error>(world.cluster.tool("crane")?.env("SSL_CERT_FILE", &authority));
    let login = crane()?.args("auth login --password-stdin --username").arg(user).arg(&address);
    login.input(password).output().await?;
    crane()?.arg("push").arg(&layout).arg(format!("{address}/{reference}")).output().await?;
    Ok(std::fs::remove_dir_all(layout)?)
}

async fn pull_on_every_node(world: &World, registry: &Registry<'_>) -> Result<()> {
    let (username, password) = registry.credential().await?;
    let login = json!({"auths": {HOST: {"username": username, "password": password}}});
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pull", "namespace": "b01"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": login.to_string()},
    });
    let api = world.cluster.api();
    api.apply("/api/v1/namespaces/b01/secrets/pull", &secret).await?;
    for node in world.cluster.nodes() {
        let name = format!("puller-{node}");
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "b01"},
            "spec": {
                "nodeName": roadstead_cluster::Site::node_name(node),
                "automountServiceAccountToken": false,
                "imagePullSecrets": [{"name": "pull"}],
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "app",
                    "image": format!("{HOST}/team/app:1"),
                    "imagePullPolicy": "Always",
                    "command": ["/bin/sleep", "3600"],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        });
        api.create("/api/v1/namespaces/b01/pods", &pod).await?;
    }
    for node in world.cluster.nodes() {
        world.pod_runs("b01", &format!("puller-{node}")).await?;
    }
    Ok(())
}

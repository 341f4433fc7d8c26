use anyhow::Result;
use roadstead_cluster::{Image, Site};
use serde_json::json;

use crate::registry::Registry;
use crate::world::World;

/// Pushes an image that runs, as people do: by a client that knows nothing of Kubernetes.
pub(crate) async fn push_tools(world: &World, registry: &Registry<'_>, reference: &str) -> Result<()> {
    push_tools_to(world, registry, &registry.address().await?, reference).await
}

/// The same, to an address of the registry that is reached from here.
pub(crate) async fn push_tools_to(
    world: &World,
    registry: &Registry<'_>,
    address: &str,
    reference: &str,
) -> Result<()> {
    let site = world.cluster.site();
    let authority = site.file(&format!("{}-ca.crt", registry.namespace));
    std::fs::write(&authority, registry.authority().await?)?;
    let layout = site.file(&format!("{}-layout", registry.namespace));
    Image::tools()?.lay_out_at(&layout).await?;
    let (user, password) = registry.credential().await?;
    let crane = || Ok::<_, anyhow::Error>(world.cluster.tool("crane")?.env("SSL_CERT_FILE", &authority));
    let login = crane()?.args("auth login --password-stdin --username").arg(user).arg(address);
    login.input(password).output().await?;
    crane()?.arg("push").arg(&layout).arg(format!("{address}/{reference}")).output().await?;
    Ok(std::fs::remove_dir_all(layout)?)
}

/// A pod on each node runs an image that its kubelet has pulled by this host's name, with the login of `registry`.
pub(crate) async fn pull_on_every_node(
    world: &World,
    registry: &Registry<'_>,
    host: &str,
    reference: &str,
) -> Result<()> {
    let namespace = registry.namespace;
    let login = login(host, &registry.credential().await?);
    pull_with(world, namespace, &login, &format!("{host}/{reference}"), "puller").await
}

/// What a pull Secret says of a host.
pub(crate) fn login(host: &str, (username, password): &(String, String)) -> String {
    json!({"auths": {host: {"username": username, "password": password}}}).to_string()
}

/// A pod on each node, each called `name` and its number, runs an image.
pub(crate) async fn pull_with(world: &World, namespace: &str, login: &str, image: &str, name: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pull", "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": login},
    });
    let api = world.cluster.api();
    api.apply(&format!("/api/v1/namespaces/{namespace}/secrets/pull"), &secret).await?;
    for node in world.cluster.nodes() {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": format!("{name}-{node}"), "namespace": namespace},
            "spec": {
                "nodeName": Site::node_name(node),
                "automountServiceAccountToken": false,
                "imagePullSecrets": [{"name": "pull"}],
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "app",
                    "image": image,
                    "imagePullPolicy": "Always",
                    "command": ["/bin/sleep", "3600"],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        });
        api.create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod).await?;
    }
    for node in world.cluster.nodes() {
        world.pod_runs(namespace, &format!("{name}-{node}")).await?;
    }
    Ok(())
}

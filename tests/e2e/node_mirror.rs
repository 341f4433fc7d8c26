use anyhow::Result;
use roadstead_cluster::{repository_root, until};
use serde_json::json;

use crate::registry::Registry;
use crate::world::{PATIENCE, World};

/// The chart of the node mirror, by which the nodes ask a Registry for the images of a host.
pub(crate) struct NodeMirror<'a> {
    world: &'a World,
    /// Beside that of the Registry.
    namespace: String,
}

impl<'a> NodeMirror<'a> {
    /// Installs it, and waits until every node is told. What the Registry lacks comes from `fallback`, if there is one.
    pub(crate) async fn install(
        world: &'a World,
        registry: &Registry<'_>,
        host: &str,
        fallback: Option<&str>,
    ) -> Result<Self> {
        Self::install_all(world, &[registry], host, fallback).await
    }

    /// The same with several Registries of one namespace, which are asked in this order.
    pub(crate) async fn install_all(
        world: &'a World,
        registries: &[&Registry<'_>],
        host: &str,
        fallback: Option<&str>,
    ) -> Result<Self> {
        let namespace = format!("{}-nodes", registries[0].namespace);
        // It mounts a folder of the node, which restricted namespaces do not allow.
        world.namespace(&namespace, "privileged").await?;
        let mut helm = world
            .helm("install")?
            .arg(&namespace)
            .arg(repository_root().join("charts/roadstead-node-mirror"))
            .args("--wait --timeout 3m --namespace")
            .arg(&namespace)
            .args("--set image.repository=lab.local/roadstead --set image.tag=dev --set image.pullPolicy=Never")
            .args(&format!("--set hosts[0].host={host}"));
        for (number, registry) in registries.iter().enumerate() {
            let authority = format!("{}-ca", registry.name);
            let map = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": authority, "namespace": namespace},
                "data": {"ca.crt": registry.authority().await?},
            });
            world.cluster.api().apply(&format!("/api/v1/namespaces/{namespace}/configmaps/{authority}"), &map).await?;
            let endpoint = format!("https://{}.{}.svc:5000", registry.name, registry.namespace);
            let mirror = format!("hosts[0].mirrors[{number}]");
            helm = helm.args(&format!("--set {mirror}.endpoint={endpoint}"));
            helm = helm.args(&format!("--set {mirror}.authority.configMap={authority}"));
        }
        if let Some(fallback) = fallback {
            helm = helm.args(&format!("--set hosts[0].fallback={fallback}"));
        }
        helm.output().await?;
        for node in world.cluster.nodes() {
            let file = format!("cat /etc/containerd/certs.d/{host}/hosts.toml");
            let written = async || world.cluster.on_node(node, &file)?.output().await;
            until(&format!("node {node} is told of the mirror"), PATIENCE, written).await?;
        }
        Ok(Self { world, namespace })
    }

    /// Uninstalls it; its namespace stays until [`Self::remove`].
    pub(crate) async fn uninstall(&self) -> Result<()> {
        let helm = self.world.helm("uninstall --wait --namespace")?.arg(&self.namespace).arg(&self.namespace);
        helm.output().await.map(drop)
    }

    /// Removes its namespace.
    pub(crate) async fn remove(self) -> Result<()> {
        self.world.remove_namespace(&self.namespace).await
    }
}

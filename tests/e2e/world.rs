use std::time::Duration;

use anyhow::{Result, ensure};
use roadstead_cluster::{Bucket, Cluster, Site, Tool, repository_root, until};
use serde_json::{Value, json};

/// Where the operator is.
pub(crate) const OPERATOR: &str = "roadstead";

/// Everything that is waited for takes seconds on a quiet machine, and this at most on a busy one.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

/// The cluster that the tests run on.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
}

impl World {
    /// The one that `roadstead-cluster run` (or `enter`) has told this process.
    pub(crate) fn attach() -> Self {
        let name = std::env::var("ROADSTEAD_CLUSTER").expect("run this by `make e2e`, which brings a cluster up");
        let site = Site::new(&name).expect("a name");
        Self { cluster: Cluster::attach(&site).expect("a cluster that is up") }
    }

    /// The same, with the operator installed and ready.
    pub(crate) async fn with_operator() -> Self {
        let world = Self::attach();
        world.install_operator("dev").await.expect("the operator is installed");
        world
    }

    /// Installs the operator's chart, or upgrades it, with the image of this tag.
    pub(crate) async fn install_operator(&self, tag: &str) -> Result<()> {
        self.helm("upgrade --install roadstead")?
            .arg(repository_root().join("charts/roadstead"))
            .args("--namespace roadstead --create-namespace --wait --timeout 5m")
            .args("--set image.repository=lab.local/roadstead --set image.pullPolicy=Never")
            .args(&format!("--set image.tag={tag}"))
            .output()
            .await
            .map(drop)
    }

    /// A call of helm.
    pub(crate) fn helm(&self, arguments: &str) -> Result<Tool> {
        Ok(self.cluster.tool("helm")?.args(arguments))
    }

    /// Makes a namespace with pods that are restricted, and the Secret of the bucket in it. What an earlier run left
    /// there is deleted first.
    pub(crate) async fn namespace(&self, name: &str, security: &str) -> Result<()> {
        self.clear_namespace(name).await?;
        let path = format!("/api/v1/namespaces/{name}");
        let labels = json!({"pod-security.kubernetes.io/enforce": security});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.cluster.api().apply(&path, &namespace).await?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "bucket", "namespace": name},
            "stringData": {"AWS_ACCESS_KEY_ID": Bucket::ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": Bucket::SECRET_KEY},
        });
        self.cluster.api().apply(&format!("{path}/secrets/bucket"), &secret).await.map(drop)
    }

    /// Deletes a namespace, and waits until no pod of it is left. Kubernetes takes some more time to delete the rest, which is
    /// nobody's concern.
    pub(crate) async fn remove_namespace(&self, name: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{name}");
        self.cluster.api().delete(&path).await?;
        // Nobody is served by them any more, so that they need not end in order.
        let at_once = json!({"gracePeriodSeconds": 0});
        // To delete some hundred can take a busy API server longer than it is waited for: told once more, it goes on.
        let told = async || self.cluster.api().delete_with(&format!("{path}/pods"), &at_once).await;
        until(&format!("the pods of {name} are told to go"), PATIENCE, told).await?;
        let ended = async || {
            let pods = self.cluster.api().list(&format!("{path}/pods")).await?;
            ensure!(pods.is_empty(), "there are {} pods", pods.len());
            Ok(())
        };
        until(&format!("no pod of {name} is left"), PATIENCE, ended).await
    }

    /// Waits until a namespace that an earlier run has deleted, or left, and all in it are gone.
    pub(crate) async fn clear_namespace(&self, name: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{name}");
        self.cluster.api().delete(&path).await?;
        let gone = async || {
            ensure!(self.cluster.api().find(&path).await?.is_none(), "it is there");
            Ok(())
        };
        until(&format!("the namespace {name} is gone"), PATIENCE, gone).await
    }

    /// Waits until a pod runs, and says why it does not.
    pub(crate) async fn pod_runs(&self, namespace: &str, name: &str) -> Result<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let running = async || {
            let pod = self.cluster.api().get(&path).await?;
            let state = &pod["status"]["containerStatuses"][0]["state"];
            ensure!(pod["status"]["phase"] == "Running" && state["running"].is_object(), "it is {state}");
            Ok(pod)
        };
        until(&format!("the pod {name} runs"), PATIENCE, running).await
    }

    /// The pods of a namespace that have these labels.
    pub(crate) async fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Value>> {
        self.cluster.api().list(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector={labels}")).await
    }

    /// Takes the operator away, and leaves everything else of its chart.
    pub(crate) async fn stop_operator(&self) -> Result<()> {
        let path = format!("/apis/apps/v1/namespaces/{OPERATOR}/deployments/{OPERATOR}");
        self.cluster.api().merge(&path, &json!({"spec": {"replicas": 0}})).await?;
        let gone = async || {
            let pods = self.pods(OPERATOR, "app.kubernetes.io/component=operator").await?;
            ensure!(pods.is_empty(), "there is still one");
            Ok(())
        };
        until("no operator runs", PATIENCE, gone).await
    }
}

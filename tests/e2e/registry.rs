use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roadstead_cluster::{Bucket, until};
use serde_json::{Value, json};

use crate::client::Client;
use crate::world::{PATIENCE, World};

/// A Registry under test, in a namespace of its own.
pub(crate) struct Registry<'a> {
    world: &'a World,
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
}

/// What the operator said of a Registry at one moment.
pub(crate) struct Status(pub(crate) Value);

impl<'a> Registry<'a> {
    pub(crate) fn new(world: &'a World, namespace: &'static str, name: &'static str) -> Self {
        Self { world, namespace, name }
    }

    /// The least that can be said of a registry.
    pub(crate) fn eight_lines(&self) -> Value {
        json!({
            "apiVersion": "roadstead.dev/v1alpha1",
            "kind": "Registry",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {"storage": {"s3": {
                "bucket": Bucket::NAME,
                "prefix": self.prefix(),
                "endpoint": Bucket::ENDPOINT,
                "region": Bucket::REGION,
                "credentialsSecretRef": {"name": "bucket"},
            }}},
        })
    }

    /// A prefix that no earlier run has used, as long as the process runs.
    fn prefix(&self) -> String {
        format!("{}-{}-{}", self.namespace, self.name, std::process::id())
    }

    pub(crate) fn path(&self) -> String {
        format!("/apis/roadstead.dev/v1alpha1/namespaces/{}/registries/{}", self.namespace, self.name)
    }

    /// Makes its namespace and itself, and waits until it is ready, and all of its replicas vote and serve.
    pub(crate) async fn create(&self) -> Result<()> {
        self.world.namespace(self.namespace, "restricted").await?;
        self.apply(&self.eight_lines()).await?;
        self.until("has three voters that serve", |status| {
            status.is_ready() && status.voters() == "3/3" && status.0["status"]["readyReplicas"] == 3
        })
        .await
        .map(drop)
    }

    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        self.world.cluster.api().apply(&self.path(), object).await.map(drop)
    }

    /// Changes its spec.
    pub(crate) async fn change(&self, spec: Value) -> Result<()> {
        self.world.cluster.api().merge(&self.path(), &json!({"spec": spec})).await.map(drop)
    }

    pub(crate) async fn status(&self) -> Result<Status> {
        Ok(Status(self.world.cluster.api().get(&self.path()).await?))
    }

    /// Waits for a status.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Result<Status> {
        until(&format!("{}/{} {what}", self.namespace, self.name), PATIENCE, async || {
            let status = self.status().await?;
            ensure!(is_so(&status), "its status is {}", status.0["status"]);
            Ok(status)
        })
        .await
    }

    pub(crate) async fn is_ready(&self) -> Result<Status> {
        self.until("is ready", Status::is_ready).await
    }

    /// Waits until it is ready, and so many vote and are all heard.
    pub(crate) async fn has_voters(&self, count: usize) -> Result<Status> {
        let voters = format!("{count}/{count}");
        self.until(&format!("has {count} voters"), |status| status.is_ready() && status.voters() == voters).await
    }

    /// Its pods of replicas, by their names.
    pub(crate) async fn pods(&self) -> Result<Vec<Value>> {
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let mut pods = self.world.cluster.api().list(&path).await?;
        pods.retain(|pod| {
            let owners = pod["metadata"]["ownerReferences"].as_array();
            owners.into_iter().flatten().any(|owner| owner["kind"] == "StatefulSet" && owner["name"] == self.name)
        });
        pods.sort_by_key(|pod| pod["metadata"]["name"].to_string());
        Ok(pods)
    }

    /// Takes its replicas away: it is paused, so that nobody brings them back.
    pub(crate) async fn take_away(&self) -> Result<()> {
        self.change(json!({"paused": true})).await?;
        self.until("is seen paused", |status| status.condition("Paused").is_some_and(|is| is["status"] == "True"))
            .await?;
        let path = format!("/apis/apps/v1/namespaces/{}/statefulsets/{}", self.namespace, self.name);
        self.world.cluster.api().merge(&path, &json!({"spec": {"replicas": 0}})).await?;
        let gone = async || {
            ensure!(self.pods().await?.is_empty(), "there are pods");
            Ok(())
        };
        until(&format!("no replica of {} is left", self.name), PATIENCE, gone).await
    }

    /// Waits for an Event of this reason about it, and gives what it says.
    pub(crate) async fn event(&self, reason: &str) -> Result<String> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace);
        until(&format!("{}/{} has an Event {reason}", self.namespace, self.name), PATIENCE, async || {
            let events = self.world.cluster.api().list(&path).await?;
            let is_it = |event: &&Value| event["reason"] == reason && event["regarding"]["name"] == self.name;
            let told: BTreeSet<String> = events.iter().map(|event| event["reason"].to_string()).collect();
            let found = events.iter().rev().find(is_it).with_context(|| format!("there are {told:?}"))?;
            Ok(found["note"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// Waits for an Event of this reason about it that says this.
    pub(crate) async fn event_saying(&self, reason: &str, said: &str) -> Result<()> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace);
        until(&format!("{}/{} has an Event {reason}: {said}", self.namespace, self.name), PATIENCE, async || {
            let events = self.world.cluster.api().list(&path).await?;
            let of_it =
                events.iter().filter(|event| event["reason"] == reason && event["regarding"]["name"] == self.name);
            let told: Vec<&str> = of_it.filter_map(|event| event["note"].as_str()).collect();
            ensure!(told.iter().any(|note| note.contains(said)), "there are {told:?}");
            Ok(())
        })
        .await
    }

    /// The address that pods and nodes reach it by.
    pub(crate) async fn address(&self) -> Result<String> {
        let path = format!("/api/v1/namespaces/{}/services/{}", self.namespace, self.name);
        let service = self.world.cluster.api().get(&path).await?;
        let address = service["spec"]["clusterIP"].as_str().context("an address")?;
        Ok(format!("{address}:5000"))
    }

    /// The CA, in PEM, that its status names.
    pub(crate) async fn authority(&self) -> Result<String> {
        let status = self.status().await?;
        let name = status.0["status"]["caConfigMapRef"]["name"].as_str().context("the status names the CA")?.to_owned();
        let path = format!("/api/v1/namespaces/{}/configmaps/{name}", self.namespace);
        let map = self.world.cluster.api().get(&path).await?;
        Ok(map["data"]["ca.crt"].as_str().context("the CA is under ca.crt")?.to_owned())
    }

    /// The user and password that its status names.
    pub(crate) async fn credential(&self) -> Result<(String, String)> {
        let status = self.status().await?;
        let name = status.0["status"]["pushSecretRef"]["name"].as_str().context("the status names the credential")?;
        let path = format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace);
        let secret = self.world.cluster.api().get(&path).await?;
        let part = |name: &str| -> Result<String> {
            let encoded = secret["data"][name].as_str().with_context(|| format!("the credential has a {name}"))?;
            Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
        };
        Ok((part("username")?, part("password")?))
    }

    /// A client with the credential and the CA that its status names.
    pub(crate) async fn client(&self) -> Result<Client> {
        let (user, password) = self.credential().await?;
        Client::new(&self.address().await?, &self.authority().await?, &user, &password)
    }
}

impl Status {
    pub(crate) fn condition(&self, kind: &str) -> Option<&Value> {
        self.0["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
    }

    /// Whether `Ready` is said of the spec as it is now.
    pub(crate) fn is_ready(&self) -> bool {
        let generation = &self.0["metadata"]["generation"];
        let is_true =
            |condition: &Value| condition["status"] == "True" && condition["observedGeneration"] == *generation;
        self.condition("Ready").is_some_and(is_true)
    }

    pub(crate) fn voters(&self) -> &str {
        self.0["status"]["consensus"]["voters"].as_str().unwrap_or_default()
    }

    pub(crate) fn leader(&self) -> &str {
        self.0["status"]["consensus"]["leader"].as_str().unwrap_or_default()
    }

    pub(crate) fn cluster_id(&self) -> &str {
        self.0["status"]["consensus"]["clusterID"].as_str().unwrap_or_default()
    }

    /// (node id, pod) of everybody who takes part.
    pub(crate) fn members(&self) -> BTreeSet<(String, String)> {
        let members = self.0["status"]["consensus"]["members"].as_array();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        members.into_iter().flatten().map(|member| (text(&member["nodeID"]), text(&member["name"]))).collect()
    }
}

//! Sees what changes, and has the Registry concerned looked at.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use roadstead_crds::Registry;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::reconcile::{fail, reconcile};
use crate::build::HOME;

/// Registries that are looked at at once: each waits for its replicas most of the time.
const CONCURRENCY: u16 = 16;

/// What changes within so long is one change.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Keeps the Registries of these namespaces, of all if there are none, until `stop`.
pub(crate) async fn run(context: Arc<Context>, namespaces: &[String], stop: CancellationToken) {
    let all: Vec<Option<&str>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(|name| Some(name.as_str())).collect() };
    join_all(all.into_iter().map(|namespace| keep(Arc::clone(&context), namespace, stop.clone()))).await;
}

async fn keep(context: Arc<Context>, namespace: Option<&str>, stop: CancellationToken) {
    let ours = watcher::Config::default().labels("app.kubernetes.io/managed-by=roadstead-operator");
    let client = &context.client;
    let watching = context.cache.watch(client, namespace, &ours);
    let keeping = Controller::new(api::<Registry>(client, namespace), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .owns(api::<StatefulSet>(client, namespace), ours.clone())
        .owns(api::<Service>(client, namespace), ours.clone())
        .watches(api::<Pod>(client, namespace), ours, registry_of)
        .watches(api::<Registry>(client, namespace), watcher::Config::default().labels(HOME), home_of)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, fail, Arc::clone(&context))
        .for_each(async |result| {
            if let Err(error) = result {
                tracing::debug!(reason = %error, "{error}");
            }
        });
    tokio::select! {
        () = keeping => {}
        () = watching => {}
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Whose replica a pod is.
#[expect(clippy::needless_pass_by_value, reason = "as the controller calls it")]
fn registry_of(pod: Pod) -> Option<ObjectRef<Registry>> {
    let name = pod.metadata.labels.as_ref()?.get("app.kubernetes.io/instance")?;
    Some(ObjectRef::new(name).within(pod.metadata.namespace.as_deref()?))
}

/// Whose mirror a Registry is, of those that are kept in one cluster.
#[expect(clippy::needless_pass_by_value, reason = "as the controller calls it")]
fn home_of(mirror: Registry) -> Option<ObjectRef<Registry>> {
    let name = mirror.metadata.labels.as_ref()?.get(HOME)?;
    Some(ObjectRef::new(name).within(mirror.metadata.namespace.as_deref()?))
}

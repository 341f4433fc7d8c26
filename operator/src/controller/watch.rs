//! Sees what changes, and has the Registry concerned looked at.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, future};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use roadstead_crds::Registry;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::reconcile::{fail, reconcile};

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
    let changes = context.cache.watch(client, namespace, &ours);
    let disturbed = Arc::clone(&context);
    Controller::new(api::<Registry>(client, namespace), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .owns(api::<StatefulSet>(client, namespace), ours.clone())
        .watches(api::<Pod>(client, namespace), ours, move |pod| {
            let registry = registry_of(&pod.metadata)?;
            disturbed.disturb(&registry);
            Some(registry)
        })
        .reconcile_on(changes.filter_map(|object| future::ready(registry_of(&object.metadata))))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, fail, context)
        .for_each(async |result| {
            if let Err(error) = result {
                tracing::debug!(reason = %error, "{error}");
            }
        })
        .await;
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

/// Of which Registry something is: a replica, what it is made of, or a mirror that is kept in one cluster with its home.
fn registry_of(metadata: &ObjectMeta) -> Option<ObjectRef<Registry>> {
    let name = metadata.labels.as_ref()?.get("app.kubernetes.io/instance")?;
    Some(ObjectRef::new(name).within(metadata.namespace.as_deref()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::json;
    use tower::service_fn;

    use super::*;
    use crate::apply::Writes;
    use crate::metrics::Metrics;

    /// What the operator watches: a kind twice only if not the same of it.
    const WATCHES: usize = 8;

    type Watches = Arc<Mutex<BTreeMap<String, usize>>>;

    /// An API server that has nothing, and of which watches tell nothing; notes what is watched.
    fn server(watches: &Watches) -> Client {
        let watches = Arc::clone(watches);
        let answer = move |request: Request<Body>| {
            let watches = Arc::clone(&watches);
            async move {
                let query = request.uri().query().unwrap_or_default();
                let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
                if pairs().any(|pair| pair == ("watch", "true")) {
                    let labels = pairs().find(|(key, _)| *key == "labelSelector").map_or("", |(_, value)| value);
                    *watches.lock().entry(format!("{} {labels}", request.uri().path())).or_default() += 1;
                    std::future::pending::<()>().await;
                }
                let list =
                    json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [] });
                Ok::<_, Infallible>(Response::new(Body::from(list.to_string().into_bytes())))
            }
        };
        Client::new(service_fn(answer), "images")
    }

    /// Otherwise a look may be woken by the one and see what the other has told.
    #[tokio::test]
    async fn nothing_is_watched_twice() {
        let watches = Watches::default();
        let metrics = Arc::new(Metrics::new().unwrap());
        let context =
            Context::new(server(&watches), "image".to_owned(), metrics, Writes::default(), "operator-0".to_owned());
        let stop = CancellationToken::new();
        let keeping = keep(Arc::new(context), None, stop.clone());
        let all = async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            while watches.lock().values().sum::<usize>() < WATCHES {
                tick.tick().await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(30), async {
            tokio::select! { () = all => true, () = keeping => false }
        });
        let seen = seen.await;
        assert!(seen.is_ok_and(|is_so| is_so), "{:?}", watches.lock());
        let twice: Vec<String> =
            watches.lock().iter().filter(|(_, count)| **count > 1).map(|(what, _)| what.clone()).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
}

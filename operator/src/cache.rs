//! What the API server has of the kinds that hardly ever change, as watches tell it: they are looked at each time, and asking for
//! each of them each time is most of what an operator would ask.
//!
//! What is here may be a moment old. So it is for what may be written once too often or a moment late, and not for what decides:
//! the StatefulSet, pods, volumes, the disruption budget, Secrets and the note of the beginning are asked for. Pods and volumes of
//! a registry for which there was nothing to do may be a moment old, too, until there is.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use kube::api::DynamicObject;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use serde_json::Value;

use crate::build::Kind;

/// The kinds that are watched. Registries are those that the operator makes for mirrors.
const WATCHED: [Kind; 5] = [Kind::ConfigMap, Kind::NetworkPolicy, Kind::Registry, Kind::Service, Kind::ServiceAccount];

/// See the module.
#[derive(Default)]
pub(crate) struct Cache(RwLock<Vec<(Kind, Store<DynamicObject>)>>);

impl Cache {
    /// Watches what is the operator's in a namespace, or in all; does not end by itself.
    pub(crate) fn watch(
        &self,
        client: &Client,
        namespace: Option<&str>,
        ours: &watcher::Config,
    ) -> BoxFuture<'static, ()> {
        let watches: Vec<_> = WATCHED
            .into_iter()
            .map(|kind| {
                let resource = kind.resource();
                let api: Api<DynamicObject> = match namespace {
                    Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                    None => Api::all_with(client.clone(), &resource),
                };
                let writer = Writer::new(resource);
                self.0.write().push((kind, writer.as_reader()));
                // What fails is tried again: until then it is asked for.
                watcher(api, ours.clone())
                    .default_backoff()
                    .modify(|object| object.metadata.managed_fields = None)
                    .reflect(writer)
                    .for_each(async |_| {})
            })
            .collect();
        futures_util::future::join_all(watches).map(drop).boxed()
    }

    /// An object, if it was told of.
    pub(crate) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        if !WATCHED.contains(&kind) {
            return None;
        }
        let resource = kind.resource();
        let named = ObjectRef::new_with(name, resource.clone()).within(namespace);
        let stores = self.0.read();
        let found = stores.iter().filter(|(of, _)| *of == kind).find_map(|(_, store)| store.get(&named));
        drop(stores);
        let mut found = serde_json::to_value(&*found?).ok()?;
        // Objects of a list do not say it themselves.
        found["apiVersion"] = resource.api_version.into();
        found["kind"] = resource.kind.into();
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tokio::time::timeout;
    use tower::service_fn;

    use super::*;

    /// An API server that has one ConfigMap, and of which watches tell nothing.
    async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            std::future::pending::<()>().await;
        }
        let is_it = request.uri().path().ends_with("/configmaps");
        let map = json!({
            "metadata": { "name": "home-ca", "namespace": "images", "managedFields": [{ "manager": "somebody" }] },
            "data": { "ca.crt": "PEM" },
        });
        let items = if is_it { vec![map] } else { Vec::new() };
        let list =
            json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": items });
        Ok(Response::new(list.to_string().into_bytes().into()))
    }

    #[tokio::test]
    async fn what_was_told_is_found_as_if_it_had_been_asked_for() {
        let (cache, client) = (Cache::default(), Client::new(service_fn(answer), "default"));
        let watching = cache.watch(&client, None, &watcher::Config::default());
        let found = async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tick.tick().await;
                if let Some(found) = cache.find(Kind::ConfigMap, "images", "home-ca") {
                    return found;
                }
            }
        };
        let found = timeout(Duration::from_secs(30), async {
            tokio::select! { found = found => Some(found), () = watching => None }
        });
        let found = found.await.unwrap().unwrap();
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "home-ca", "namespace": "images" }, "data": { "ca.crt": "PEM" },
        });
        assert_eq!(found, expected);
        assert_eq!(cache.find(Kind::ConfigMap, "images", "another"), None);
        assert_eq!(cache.find(Kind::ConfigMap, "elsewhere", "home-ca"), None);
        assert_eq!(cache.find(Kind::Secret, "images", "home-ca"), None, "Secrets are asked for");
    }
}

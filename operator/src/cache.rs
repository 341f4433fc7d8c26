//! What the API server has of the kinds that hardly ever change, as watches tell it: they are looked at each time, and asking for
//! each of them each time is most of what an operator would ask.
//!
//! What is here may be a moment old. So it is for what may be written once too often or a moment late, and not for what decides:
//! the StatefulSet, pods, volumes, the disruption budget, Secrets and the note of the beginning are asked for. Pods and volumes of
//! a registry for which there was nothing to do may be a moment old, too, until there is.
//!
//! Whoever is woken by a change finds it here: the watch that fills this is the one that wakes. Of two watches of one kind, the
//! one that wakes may be ahead, and the look that it causes would find nothing to do.

use futures_util::stream::{BoxStream, select_all};
use futures_util::{StreamExt as _, future, stream};
use kube::api::DynamicObject;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
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
    /// Watches what is the operator's in a namespace, or in all, as long as the changes are taken: each of them is given once
    /// [`find`](Self::find) knows it.
    pub(crate) fn watch(
        &self,
        client: &Client,
        namespace: Option<&str>,
        ours: &watcher::Config,
    ) -> BoxStream<'static, DynamicObject> {
        let watches = WATCHED.into_iter().map(|kind| {
            let resource = kind.resource();
            let api: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            let writer = Writer::new(resource);
            let store = writer.as_reader();
            self.0.write().push((kind, store.clone()));
            // What fails is tried again: until then it is asked for.
            watcher(api, ours.clone())
                .default_backoff()
                .modify(|object| object.metadata.managed_fields = None)
                .reflect(writer)
                .filter_map(|event| future::ready(event.ok()))
                .flat_map(move |event| stream::iter(changed(event, &store)))
                .boxed()
        });
        select_all(watches).boxed()
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

/// What is known since an event, and was not before.
fn changed(event: Event<DynamicObject>, store: &Store<DynamicObject>) -> Vec<DynamicObject> {
    match event {
        Event::Apply(object) | Event::Delete(object) => vec![object],
        // Nothing of a list is known before its end.
        Event::Init | Event::InitApply(_) => Vec::new(),
        Event::InitDone => store.state().iter().map(|object| DynamicObject::clone(object)).collect(),
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
    async fn what_was_told_is_found_as_if_it_had_been_asked_for_and_before_anybody_is_woken() {
        let (cache, client) = (Cache::default(), Client::new(service_fn(answer), "default"));
        let mut changes = cache.watch(&client, None, &watcher::Config::default());
        assert_eq!(cache.find(Kind::ConfigMap, "images", "home-ca"), None, "nobody was told of it yet");
        let told = timeout(Duration::from_secs(30), changes.next()).await.unwrap().unwrap();
        assert_eq!(told.metadata.name.as_deref(), Some("home-ca"));
        let found = cache.find(Kind::ConfigMap, "images", "home-ca").unwrap();
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

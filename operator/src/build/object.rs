//! An object as it is to be.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, GroupVersionKind};
use roadstead_crds::Registry;
use serde_json::{Value, json};

use super::{Wish, short_hash};

/// Says with which inputs an object was made: so it is seen when something is to be taken away from it.
const MADE_OF: &str = "roadstead.dev/made-of";

/// On pods: what they must be restarted for.
pub(crate) const INPUTS: &str = "roadstead.dev/inputs";

/// The kinds that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BackendTlsPolicy,
    Certificate,
    ConfigMap,
    HttpRoute,
    Ingress,
    NetworkPolicy,
    PersistentVolumeClaim,
    Pod,
    PodDisruptionBudget,
    Registry,
    Secret,
    Service,
    ServiceAccount,
    StatefulSet,
    TlsRoute,
}

impl Kind {
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::BackendTlsPolicy => of("gateway.networking.k8s.io", "v1", "BackendTLSPolicy", "backendtlspolicies"),
            Self::Certificate => of("cert-manager.io", "v1", "Certificate", "certificates"),
            Self::HttpRoute => of("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
            Self::Ingress => ApiResource::erase::<Ingress>(&()),
            Self::TlsRoute => of("gateway.networking.k8s.io", "v1", "TLSRoute", "tlsroutes"),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::PersistentVolumeClaim => ApiResource::erase::<PersistentVolumeClaim>(&()),
            Self::Pod => ApiResource::erase::<Pod>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::Registry => ApiResource::erase::<Registry>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        }
    }
}

/// A kind that not every cluster has.
fn of(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// An object as it is to be: only what the operator decides is in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub kind: Kind,
    pub name: String,
    pub value: Value,
}

impl Object {
    /// One that goes with the Registry.
    pub(crate) fn owned(kind: Kind, wish: &Wish, name: &str, content: Value) -> Self {
        Self::new(kind, wish, name, &wish.owner(), content)
    }

    /// One that outlives it under `Retain`.
    pub(crate) fn retained(kind: Kind, wish: &Wish, name: &str, content: Value) -> Self {
        Self::new(kind, wish, name, &wish.owner_if_deleted(), content)
    }

    /// One that outlives it in any case.
    pub(crate) fn unowned(kind: Kind, wish: &Wish, name: &str, content: Value) -> Self {
        Self::new(kind, wish, name, &json!([]), content)
    }

    fn new(kind: Kind, wish: &Wish, name: &str, owners: &Value, content: Value) -> Self {
        let resource = kind.resource();
        let mut value = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "namespace": wish.namespace,
                "labels": labels(wish),
                "ownerReferences": owners,
            },
        });
        merge(&mut value, content);
        let made_of = short_hash(&value);
        merge(&mut value, json!({ "metadata": { "annotations": { MADE_OF: made_of } } }));
        Self { kind, name: name.to_owned(), value }
    }
}

/// Whose an object is.
pub(super) fn labels(wish: &Wish) -> Value {
    json!({
        "app.kubernetes.io/name": "roadstead",
        "app.kubernetes.io/instance": wish.name,
        "app.kubernetes.io/managed-by": "roadstead-operator",
    })
}

/// Which pods are the registry's, with a vote or without.
pub(crate) fn everybody(name: &str) -> Value {
    json!({ "app.kubernetes.io/name": "roadstead", "app.kubernetes.io/instance": name })
}

/// Puts the fields of `from` into `into`, and those of objects into theirs.
pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

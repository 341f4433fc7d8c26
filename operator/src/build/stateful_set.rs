//! The replicas with a vote.

use roadstead_crds::DeletionPolicy;
use serde_json::json;

use super::object::{Kind, Object, merge, selector};
use super::pod::template;
use super::{Wish, pod_name};

/// The claim of each replica's volume, in its template.
const VOLUME: &str = "data";

/// The name of the claim of a replica's volume.
pub(crate) fn volume_name(registry: &str, ordinal: u32) -> String {
    format!("{VOLUME}-{}", pod_name(registry, ordinal))
}

/// The StatefulSet. It makes and keeps pods and volumes and decides nothing: not when a pod is restarted, nor when a volume
/// goes.
pub(crate) fn stateful_set(wish: &Wish, replicas: u32) -> Object {
    let when_deleted = match wish.spec.deletion_policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    };
    let volume = &wish.spec.metadata_volume;
    let mut claim = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": volume.size } },
    });
    if let Some(class) = &volume.storage_class_name {
        merge(&mut claim, json!({ "storageClassName": class }));
    }
    let content = json!({
        "spec": {
            "replicas": replicas,
            "serviceName": wish.named("peers"),
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "OnDelete" },
            "revisionHistoryLimit": 2,
            "persistentVolumeClaimRetentionPolicy": { "whenDeleted": when_deleted, "whenScaled": "Retain" },
            "selector": { "matchLabels": selector(&wish.name) },
            "template": template(wish),
            "volumeClaimTemplates": [{
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": { "name": VOLUME, "labels": selector(&wish.name) },
                "spec": claim,
            }],
        },
    });
    Object::owned(Kind::StatefulSet, wish, &wish.name, content)
}

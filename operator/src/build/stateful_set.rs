//! The replicas with a vote.

use roadstead_crds::DeletionPolicy;
use serde_json::{Value, json};

use super::object::{Kind, Object, merge};
use super::pod::template;
use super::{Part, Wish, pod_name};

/// The claim of each replica's volume, in its template.
const VOLUME: &str = "data";

/// The name of the claim of a replica's volume.
pub(crate) fn volume_name(registry: &str, ordinal: u32) -> String {
    format!("{VOLUME}-{}", pod_name(registry, ordinal))
}

/// What a replica's volume is to be.
pub(super) fn claim(wish: &Wish) -> Value {
    let volume = &wish.spec.metadata_volume;
    let mut claim = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": volume.size } },
    });
    if let Some(class) = &volume.storage_class_name {
        merge(&mut claim, json!({ "storageClassName": class }));
    }
    claim
}

/// The StatefulSet. It makes and keeps pods and volumes and decides nothing: not when a pod is restarted, nor when a volume
/// goes.
pub(crate) fn stateful_set(wish: &Wish, replicas: u32) -> Object {
    let when_deleted = match wish.spec.deletion_policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    };
    let content = json!({
        "spec": {
            "replicas": replicas,
            "serviceName": Part::Voter.peers(&wish.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "OnDelete" },
            "revisionHistoryLimit": 2,
            "persistentVolumeClaimRetentionPolicy": { "whenDeleted": when_deleted, "whenScaled": "Retain" },
            "selector": { "matchLabels": Part::Voter.selector(&wish.name) },
            "template": template(wish, Part::Voter),
            "volumeClaimTemplates": [{
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": { "name": VOLUME, "labels": Part::Voter.selector(&wish.name) },
                "spec": claim(wish),
            }],
        },
    });
    Object::owned(Kind::StatefulSet, wish, &wish.name, content)
}

//! A pod that does one thing with the volume of one replica while that replica does not run, and ends. What fails is tried
//! again by the kubelet, after pauses that grow to five minutes: both commands may be run again and again.

use serde_json::json;

use super::object::{Kind, Object, merge};
use super::pod::template;
use super::stateful_set::{claim, volume_name};
use super::{Part, Wish};

/// What these pods are called instead of replicas, so that no Service leads to them.
pub(crate) const ERRAND: &str = "roadstead-errand";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// The volume of the first replica gets the facts that are in the bucket.
    Restore { options: Vec<String> },
    /// A replica becomes the only voter of its cluster.
    Recover { ordinal: u32, cluster: String },
}

impl Errand {
    /// In names and conditions.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Restore { .. } => "restore",
            Self::Recover { .. } => "recover",
        }
    }

    const fn ordinal(&self) -> u32 {
        match self {
            Self::Restore { .. } => 0,
            Self::Recover { ordinal, .. } => *ordinal,
        }
    }

    fn command(&self) -> Vec<String> {
        let mut command = vec!["/roadstead".to_owned(), self.name().to_owned()];
        match self {
            Self::Restore { options } => {
                command.push("--if-empty".to_owned());
                command.extend(options.iter().cloned());
            }
            Self::Recover { cluster, .. } => command.extend(["--yes-i-lose".to_owned(), cluster.clone()]),
        }
        command
    }
}

/// The pod: a replica's, with its settings, but for what it runs, and that it runs until that has been done.
pub(crate) fn errand(wish: &Wish, errand: &Errand) -> Object {
    let mut template = template(wish, Part::Voter);
    let container = &mut template["spec"]["containers"][0];
    for field in ["startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "ports"] {
        if let Some(container) = container.as_object_mut() {
            container.remove(field);
        }
    }
    container["command"] = json!(errand.command());
    let mut spec = template["spec"].take();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("topologySpreadConstraints");
    }
    spec["restartPolicy"] = json!("OnFailure");
    let volume = json!({
        "name": "data",
        "persistentVolumeClaim": { "claimName": volume_name(&wish.name, errand.ordinal()) },
    });
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(volume);
    }
    let labels = json!({ "app.kubernetes.io/name": ERRAND, "app.kubernetes.io/component": errand.name() });
    let mut content = json!({ "metadata": { "labels": labels }, "spec": spec });
    if let Some(overlay) = &wish.spec.pod {
        let more = json!({ "labels": overlay.labels, "annotations": overlay.annotations });
        merge(&mut content, json!({ "metadata": more }));
    }
    Object::owned(Kind::Pod, wish, &wish.named(errand.name()), content)
}

/// The claim of the first replica's volume, as the StatefulSet would make it: it takes this one up.
pub(crate) fn first_volume(wish: &Wish) -> Object {
    let content = json!({ "metadata": { "labels": Part::Voter.selector(&wish.name) }, "spec": claim(wish) });
    let mut object = Object::retained(Kind::PersistentVolumeClaim, wish, &volume_name(&wish.name, 0), content);
    // Nobody changes it afterwards, and the StatefulSet says who owns it.
    if let Some(metadata) = object.value["metadata"].as_object_mut() {
        metadata.remove("ownerReferences");
        metadata.remove("annotations");
    }
    object
}

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::api::Api;
use crate::command::say;
use crate::site::Site;

/// The `StorageClass` that is the cluster's default.
const CLASS: &str = "local";
const PROVISIONER: &str = "roadstead.test/local";

/// How often claims and volumes are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Makes the `StorageClass` of the volumes that [`provision`] makes.
pub(crate) async fn make_class(api: &Api) -> Result<()> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    });
    api.apply(&format!("/apis/storage.k8s.io/v1/storageclasses/{CLASS}"), &class).await.map(drop)
}

/// Makes the volumes that are claimed, each a folder on the node that the scheduler chose; lets them grow; deletes those
/// that nobody claims any more. Runs until it is killed.
pub async fn provision(site: &Site) -> Result<()> {
    let api = Api::of(site)?;
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = look(site, &api).await {
            // What fails now is tried again at the next look.
            say(&format!("{error:#}"));
        }
    }
}

async fn look(site: &Site, api: &Api) -> Result<()> {
    for claim in api.list("/api/v1/persistentvolumeclaims").await? {
        if claim["spec"]["storageClassName"] != CLASS {
            continue;
        }
        if claim["status"]["phase"] == "Bound" {
            grow(api, &claim).await?;
        } else if let Some(node) = claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"].as_str() {
            make(site, api, &claim, node).await?;
        }
    }
    for volume in api.list("/api/v1/persistentvolumes").await? {
        let ours = volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == PROVISIONER;
        let deleted = volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete";
        if ours && deleted && volume["status"]["phase"] == "Released" {
            release(api, &volume).await?;
        }
    }
    Ok(())
}

async fn make(site: &Site, api: &Api, claim: &Value, node: &str) -> Result<()> {
    let metadata = &claim["metadata"];
    // The same claim gives the same volume, however often it is looked at.
    let name = format!("pvc-{}", metadata["uid"].as_str().context("a claim has an id")?);
    let path = format!("/api/v1/persistentvolumes/{name}");
    if api.find(&path).await?.is_some() {
        return Ok(());
    }
    let folder = site.file("volumes").join(&name);
    fs::create_dir_all(&folder)?;
    // As a fresh file system's root is: root's. Its group is changed by the kubelet for whom a pod names.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "local": {"path": folder},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{
                "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}],
            }]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
        },
    });
    api.apply(&path, &volume).await.map(drop)
}

/// Gives a claim the size that it asks for. A folder has as much room as the machine, so that only the books change.
async fn grow(api: &Api, claim: &Value) -> Result<()> {
    let wanted = &claim["spec"]["resources"]["requests"]["storage"];
    if *wanted == claim["status"]["capacity"]["storage"] {
        return Ok(());
    }
    let capacity = json!({"capacity": {"storage": wanted}});
    let volume = claim["spec"]["volumeName"].as_str().context("a bound claim has a volume")?;
    api.merge(&format!("/api/v1/persistentvolumes/{volume}"), &json!({"spec": capacity})).await?;
    let (namespace, name) = (claim["metadata"]["namespace"].as_str(), claim["metadata"]["name"].as_str());
    let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
    let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}/status");
    api.merge(&path, &json!({"status": capacity})).await.map(drop)
}

async fn release(api: &Api, volume: &Value) -> Result<()> {
    if let Some(folder) = volume["spec"]["local"]["path"].as_str() {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let name = volume["metadata"]["name"].as_str().unwrap_or_default();
    api.delete(&format!("/api/v1/persistentvolumes/{name}")).await
}

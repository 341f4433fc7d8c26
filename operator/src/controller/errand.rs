//! What is done with one volume while its replica does not run: a restore from the bucket before anything begins, and a
//! recovery of a lost quorum when people ask for it. Each is a pod that runs until it has done it: the kubelet starts it again
//! where it fails, after pauses that grow, and the operator makes it anew where its node gives it up.
//!
//! ```text
//!  restore:  no note, no StatefulSet --> claim of the first volume --> pod `NAME-restore` ends well --> the plan goes on: the
//!            first replica is a member by then, and the others join it
//!  recover:  quorum lost, and the annotation names a replica that is left and the cluster that is given up
//!            --> StatefulSet to 0 --> no pods --> pod `NAME-recover` ends well --> the note of the former cluster is deleted
//!            --> the plan goes on: replicas are made again, and blank ones join the one that was recovered
//! ```
//!
//! Where it is follows from what is there, so that an operator that is killed in between goes on.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use roadstead_crds::Registry;

use super::loss::RECOVER;
use super::observe::Sight;
use super::trouble::{Trouble, age_of, last_failure};
use crate::ambient;
use crate::apply::Objects;
use crate::build::{Errand, Kind, Wish, errand, first_volume, pod_name, stateful_set};
use crate::plan::MAX_VOTERS;

/// A pod that was given up, such as by a node that is short of memory, is made anew when it is older.
const ANEW: Duration = Duration::from_secs(10);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub reason: &'static str,
    pub message: String,
    /// Whether somebody may have to look.
    pub needs_help: bool,
}

/// Takes one step of what is to be done; `None` if there is nothing, and the plan goes on.
pub(super) async fn run(
    objects: &Objects<'_>,
    wish: &Wish,
    registry: &Registry,
    sight: &Sight,
) -> Result<Option<Told>, kube::Error> {
    match due(wish, registry, sight) {
        Some(due @ Errand::Restore { .. }) => restore(objects, wish, sight, &due).await,
        Some(due @ Errand::Recover { .. }) => recover(objects, wish, sight, &due).await,
        None => {
            if let Some(done) = &sight.errand {
                objects.delete(Kind::Pod, done.metadata.name.as_deref().unwrap_or_default()).await?;
            }
            Ok(None)
        }
    }
}

fn due(wish: &Wish, registry: &Registry, sight: &Sight) -> Option<Errand> {
    let restore = wish.spec.bootstrap.as_ref().and_then(|bootstrap| bootstrap.restore.as_ref());
    match (restore, sight.observed.begun, sight.observed.set) {
        (Some(restore), None, None) => {
            let sequence = restore.sequence.map(|sequence| sequence.to_string());
            let given =
                [("--history", restore.history.clone()), ("--sequence", sequence), ("--time", restore.time.clone())];
            let options = given.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten();
            Some(Errand::Restore { options: options.collect() })
        }
        (_, Some(begun), Some(set)) => {
            let asked = registry.metadata.annotations.as_ref()?.get(RECOVER)?;
            let (pod, cluster) = asked.split_once('/')?;
            let ordinal = (0..MAX_VOTERS).find(|ordinal| pod_name(&wish.name, *ordinal) == pod)?;
            // Afterwards it is another cluster, and the annotation says nothing any more.
            if cluster != begun.cluster.to_string() {
                return None;
            }
            let loss = sight.loss.as_ref();
            let is_lost = loss.is_some_and(|loss| loss.left.iter().any(|survivor| survivor.pod == pod));
            let is_under_way = set == 0;
            (is_lost || is_under_way).then(|| Errand::Recover { ordinal, cluster: cluster.to_owned() })
        }
        _ => None,
    }
}

async fn restore(objects: &Objects<'_>, wish: &Wish, sight: &Sight, due: &Errand) -> Result<Option<Told>, kube::Error> {
    const REASON: &str = "Restoring";
    const WHAT: &str = "the first replica's volume is made out of what is in the bucket";
    match sight.errand.as_ref().map(|pod| (pod, phase(pod))) {
        Some((_, "Succeeded")) => Ok(None),
        Some((pod, "Failed")) => Ok(Some(make_anew(objects, pod, "RestoreFailed", WHAT).await?)),
        Some((pod, _)) => Ok(Some(pending(pod, sight.errand_trouble.as_ref(), REASON, "RestoreFailed", WHAT))),
        None => {
            objects.create(&first_volume(wish)).await?;
            objects.create(&errand(wish, due)).await?;
            let message = "starts to restore what is in the bucket".to_owned();
            Ok(Some(Told { reason: REASON, message, needs_help: false }))
        }
    }
}

async fn recover(objects: &Objects<'_>, wish: &Wish, sight: &Sight, due: &Errand) -> Result<Option<Told>, kube::Error> {
    const REASON: &str = "Recovering";
    let goes_on = |message: String| Ok(Some(Told { reason: REASON, message, needs_help: false }));
    let Errand::Recover { ordinal, cluster } = due else { return Ok(None) };
    let survivor = pod_name(&wish.name, *ordinal);
    if sight.observed.set != Some(0) {
        objects.apply(&stateful_set(wish, 0)).await?;
        return goes_on(format!("as asked, {survivor} is to go on without those that are lost: stops the replicas"));
    }
    if !sight.observed.pods.is_empty() {
        return goes_on("waits for the replicas to end".to_owned());
    }
    let what = format!("{survivor} becomes the only voter");
    match sight.errand.as_ref().map(|pod| (pod, phase(pod))) {
        Some((_, "Succeeded")) => {
            objects.delete(Kind::ConfigMap, &wish.named("beginning")).await?;
            goes_on(format!("{survivor} is the only voter now; the cluster {cluster} is no more"))
        }
        Some((pod, "Failed")) => Ok(Some(make_anew(objects, pod, "RecoveryFailed", &what).await?)),
        Some((pod, _)) => Ok(Some(pending(pod, sight.errand_trouble.as_ref(), REASON, "RecoveryFailed", &what))),
        None => {
            objects.create(&errand(wish, due)).await?;
            goes_on(format!("lets {survivor} become the only voter"))
        }
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// What is waited for, and what keeps it: that it failed is said until it is done, also while it is tried again.
fn pending(pod: &Pod, trouble: Option<&Trouble>, reason: &'static str, failed: &'static str, what: &str) -> Told {
    match (last_failure(pod), trouble) {
        (Some(failure), _) => {
            let message = format!("{what}, and is tried again by itself: {}", failure.message);
            Told { reason: failed, message, needs_help: true }
        }
        (None, Some(trouble)) => {
            Told { reason: trouble.reason, message: format!("{what}: {}", trouble.message), needs_help: true }
        }
        (None, None) => Told { reason, message: what.to_owned(), needs_help: false },
    }
}

/// Takes a pod away that its node has given up, after a while; another one follows.
async fn make_anew(objects: &Objects<'_>, pod: &Pod, failed: &'static str, what: &str) -> Result<Told, kube::Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if age_of(pod, ambient::now()) >= ANEW {
        objects.delete(Kind::Pod, name).await?;
    }
    let status = pod.status.as_ref();
    let said = status.and_then(|status| status.message.clone().or_else(|| status.reason.clone()));
    let why =
        last_failure(pod).map(|failure| failure.message).or(said).unwrap_or_else(|| format!("{name} was given up"));
    Ok(Told { reason: failed, message: format!("{what}, and is tried again by itself: {why}"), needs_help: true })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(state: &Value, last: &Value) -> Pod {
        let container = json!({
            "name": "roadstead", "image": "x", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last,
        });
        let pod = json!({ "metadata": { "name": "home-restore" }, "status": { "containerStatuses": [container] } });
        serde_json::from_value(pod).unwrap()
    }

    fn told(state: &Value, last: &Value, trouble: Option<&Trouble>) -> (&'static str, String, bool) {
        let Told { reason, message, needs_help } =
            pending(&pod(state, last), trouble, "Restoring", "RestoreFailed", "it is restored");
        (reason, message, needs_help)
    }

    #[test]
    fn that_it_failed_is_said_alike_while_it_waits_and_while_it_is_tried_again() {
        let running = json!({ "running": {} });
        assert_eq!(told(&running, &json!({}), None), ("Restoring", "it is restored".to_owned(), false));
        let ended = |code: i32| {
            let message = "roadstead: nothing was restored\n  because: the store is away\n";
            json!({ "terminated": { "exitCode": code, "reason": "Error", "message": message } })
        };
        let failed = told(&ended(1), &json!({}), None);
        assert_eq!(failed.0, "RestoreFailed");
        assert_eq!(
            failed.1,
            "it is restored, and is tried again by itself: home-restore ends with 1: roadstead: nothing was restored; because: \
             the store is away"
        );
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 20s" } });
        assert_eq!(told(&waiting, &ended(1), None), failed);
        assert_eq!(told(&running, &ended(1), None), failed);
        let trouble = Trouble { reason: "Unschedulable", message: "no node".to_owned() };
        assert_eq!(told(&json!({}), &json!({}), Some(&trouble)).0, "Unschedulable");
        assert_eq!(told(&running, &ended(0), None).0, "Restoring");
    }
}

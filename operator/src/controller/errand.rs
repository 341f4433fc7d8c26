//! What is done with one volume while its replica does not run: a restore from the bucket before anything begins, and a
//! recovery of a lost quorum when people ask for it. Each is a pod that runs once.
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

use k8s_openapi::api::core::v1::Pod;
use roadstead_crds::Registry;

use super::loss::RECOVER;
use super::observe::Sight;
use crate::apply::Objects;
use crate::build::{Errand, Kind, Wish, errand, first_volume, pod_name, stateful_set};
use crate::plan::MAX_VOTERS;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub reason: &'static str,
    pub message: String,
    /// Whether it goes on by itself.
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
    let goes_on = |message: &str| Ok(Some(Told { reason: REASON, message: message.to_owned(), needs_help: false }));
    match sight.errand.as_ref().map(phase) {
        Some("Succeeded") => Ok(None),
        Some("Failed") => Ok(Some(failed("RestoreFailed", wish, due, sight))),
        Some(_) => Ok(Some(pending(REASON, "the first replica's volume is made out of what is in the bucket", sight))),
        None => {
            objects.create(&first_volume(wish)).await?;
            objects.create(&errand(wish, due)).await?;
            goes_on("starts to restore what is in the bucket")
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
    match sight.errand.as_ref().map(phase) {
        Some("Succeeded") => {
            objects.delete(Kind::ConfigMap, &wish.named("beginning")).await?;
            goes_on(format!("{survivor} is the only voter now; the cluster {cluster} is no more"))
        }
        Some("Failed") => Ok(Some(failed("RecoveryFailed", wish, due, sight))),
        Some(_) => Ok(Some(pending(REASON, &format!("{survivor} becomes the only voter"), sight))),
        None => {
            objects.create(&errand(wish, due)).await?;
            goes_on(format!("lets {survivor} become the only voter"))
        }
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// What is waited for, and what keeps it.
fn pending(reason: &'static str, what: &str, sight: &Sight) -> Told {
    match &sight.errand_trouble {
        Some(trouble) => {
            Told { reason: trouble.reason, message: format!("{what}: {}", trouble.message), needs_help: true }
        }
        None => Told { reason, message: what.to_owned(), needs_help: false },
    }
}

/// What to do about a pod that failed: its own words, and how to try again.
fn failed(reason: &'static str, wish: &Wish, due: &Errand, sight: &Sight) -> Told {
    let pod = wish.named(due.name());
    let why = sight.errand_trouble.as_ref().map_or_else(|| format!("{pod} failed"), |trouble| trouble.message.clone());
    let also = match due {
        Errand::Restore { .. } => {
            format!(" and `kubectl delete pvc data-{}-0`, whose content is incomplete", wish.name)
        }
        Errand::Recover { .. } => String::new(),
    };
    let message = format!("{why}. To try again: `kubectl delete pod {pod} -n {}`{also}", wish.namespace);
    Told { reason, message, needs_help: true }
}

//! Why a pod does not serve, as Kubernetes has it: a reason and one sentence, so that whoever describes the Registry need
//! not look anywhere else.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observe::EXIT_REMOVED;

/// With what a replica ends whose bucket belongs to another registry.
const EXIT_STORE_TAKEN: i32 = 5;

/// What takes a moment in any case is no trouble before.
const USUAL: Duration = Duration::from_secs(15);

/// How long pulling an image and mounting volumes may take before that is told.
const SLOW: Duration = Duration::from_mins(1);

/// For how long a process that was started again is still held to be one that fails.
const PROBATION: Duration = Duration::from_mins(1);

/// The longest that is taken over of what others say.
const MAX_TOLD: usize = 500;

/// Of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub reason: &'static str,
    pub message: String,
}

impl Trouble {
    /// Whether replicas refuse to serve since the bucket is another registry's: whatever else is so, people must choose.
    pub(super) fn is_taken_store(&self) -> bool {
        self.reason == STORAGE_TAKEN
    }
}

const STORAGE_TAKEN: &str = "StorageTaken";

/// What keeps a pod from serving, if Kubernetes knows; with the claim of its volume.
pub(super) fn trouble(pod: &Pod, claim: Option<&PersistentVolumeClaim>, now: SystemTime) -> Option<Trouble> {
    let name = pod.metadata.name.as_deref().unwrap_or("a pod");
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let age = age(pod.metadata.creation_timestamp.as_ref(), now);
    let has_place = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !has_place {
        let refused =
            conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        let why = refused.and_then(|condition| condition.message.as_deref());
        return (age > USUAL).then(|| without_place(name, why, claim)).flatten();
    }
    let container = status.and_then(|status| status.container_statuses.as_deref()).and_then(<[_]>::first)?;
    let is_ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    of_container(name, container, is_ready, age, now)
}

fn without_place(name: &str, why: Option<&str>, claim: Option<&PersistentVolumeClaim>) -> Option<Trouble> {
    let pending = claim.filter(|claim| {
        claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending") == "Pending"
    });
    let why = why.map(short);
    let is_about_volumes = why.as_ref().is_none_or(|why| {
        let why = why.to_lowercase();
        why.contains("volume") || why.contains("storageclass")
    });
    match pending.filter(|_| is_about_volumes) {
        Some(claim) => {
            let claimed = claim.metadata.name.as_deref().unwrap_or_default();
            let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
            let class = class
                .map_or_else(|| "the default storage class".to_owned(), |class| format!("the storage class `{class}`"));
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let message = format!(
                "{name} waits for its volume: the claim {claimed} of {class} is pending{why}; `kubectl describe pvc {claimed}` \
                 shows what its provisioner says"
            );
            Some(Trouble { reason: "VolumePending", message })
        }
        None => Some(Trouble { reason: "Unschedulable", message: format!("{name} finds no node: {}", why?) }),
    }
}

fn of_container(
    name: &str,
    container: &ContainerStatus,
    is_ready: bool,
    age: Duration,
    now: SystemTime,
) -> Option<Trouble> {
    let empty = ContainerState::default();
    let state = container.state.as_ref().unwrap_or(&empty);
    let ended = |state: &ContainerState| state.terminated.clone().filter(|ended| ended.exit_code != 0);
    let last = container.last_state.as_ref().and_then(ended);
    if let Some(running) = &state.running {
        let is_on_probation = self::age(running.started_at.as_ref(), now) < PROBATION;
        let is_taken = last.as_ref().is_some_and(|last| last.exit_code == EXIT_STORE_TAKEN);
        return last.filter(|_| is_on_probation && (!is_ready || is_taken)).and_then(|last| after_end(name, &last));
    }
    if let Some(ended) = ended(state) {
        return after_end(name, &ended);
    }
    let waiting = state.waiting.as_ref()?;
    let said = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref().unwrap_or_default() {
        "CrashLoopBackOff" => last.and_then(|last| after_end(name, &last)),
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError" => {
            Some(Trouble {
                reason: "ImagePull",
                message: format!("{name} does not get its image {}{}", container.image, colon(pulled(said))),
            })
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(Trouble { reason: "ContainerRefused", message: format!("{name} cannot be started{}", colon(said)) })
        }
        reason if age > SLOW => Some(Trouble {
            reason: "StartingSlowly",
            message: format!(
                "{name} has been starting for a while ({reason}); `kubectl describe pod {name}` shows what its node waits for"
            ),
        }),
        _ => None,
    }
}

/// The cause of a failed pull, which is the same whether the kubelet tries or waits before it tries again.
fn pulled(said: &str) -> &str {
    let said = said.split_once("ErrImagePull: ").map_or(said, |(_, cause)| cause);
    if said.starts_with("Back-off pulling image") { "" } else { said }
}

fn after_end(name: &str, ended: &ContainerStateTerminated) -> Option<Trouble> {
    let said = last_words(ended.message.as_deref().unwrap_or_default());
    match ended.exit_code {
        EXIT_REMOVED => None,
        EXIT_STORE_TAKEN => Some(Trouble {
            reason: STORAGE_TAKEN,
            message: format!("{name} ends, since the bucket and prefix belong to another registry{}", colon(&said)),
        }),
        _ if ended.reason.as_deref() == Some("OOMKilled") => Some(Trouble {
            reason: "OutOfMemory",
            message: format!("{name} was ended for using more memory than `resources.limits.memory`"),
        }),
        code => Some(Trouble { reason: "ReplicaFails", message: format!("{name} ends with {code}{}", colon(&said)) }),
    }
}

/// What a process said at its end: from the line on that begins with its name.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let start = lines.iter().rposition(|line| line.starts_with("roadstead: ")).unwrap_or(lines.len().saturating_sub(1));
    short(&lines.get(start..).unwrap_or_default().join("; "))
}

/// How the process of a pod that does one thing failed last, if it did: it may run again by now.
pub(super) fn last_failure(pod: &Pod) -> Option<Trouble> {
    let name = pod.metadata.name.as_deref().unwrap_or("a pod");
    let container = pod.status.as_ref()?.container_statuses.as_deref()?.first()?;
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref());
    ended.filter(|ended| ended.exit_code != 0).and_then(|ended| after_end(name, ended))
}

/// For how long a pod has been there.
pub(super) fn age_of(pod: &Pod, now: SystemTime) -> Duration {
    age(pod.metadata.creation_timestamp.as_ref(), now)
}

fn colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {}", short(said)) }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_TOLD) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

fn age(since: Option<&Time>, now: SystemTime) -> Duration {
    let since = since.map(|since| SystemTime::from(since.0));
    since.and_then(|since| now.duration_since(since).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn found(spec: &Value, status: &Value, claim: Option<Value>) -> Option<(&'static str, String)> {
        let pod = json!({
            "metadata": { "name": "home-1", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": spec, "status": status,
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let claim: Option<PersistentVolumeClaim> = claim.map(|claim| serde_json::from_value(claim).unwrap());
        trouble(&pod, claim.as_ref(), now()).map(|trouble| (trouble.reason, trouble.message))
    }

    fn unscheduled(why: &str) -> Value {
        json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why }] })
    }

    fn contained(state: &Value, last: &Value) -> Value {
        json!({ "containerStatuses": [{
            "name": "roadstead", "image": "lab.local/roadstead:9", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": last,
        }] })
    }

    const PLACED: &str = r#"{"containers": [], "nodeName": "node-1"}"#;
    const UNPLACED: &str = r#"{"containers": []}"#;

    fn spec(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_pod_without_a_node_says_why() {
        let no_cpu = unscheduled("0/3 nodes are available: 3 Insufficient cpu.");
        let (reason, message) = found(&spec(UNPLACED), &no_cpu, None).unwrap();
        assert_eq!(
            (reason, &*message),
            ("Unschedulable", "home-1 finds no node: 0/3 nodes are available: 3 Insufficient cpu.")
        );
        let claim = json!({ "metadata": { "name": "data-home-1" }, "spec": { "storageClassName": "nope" }, "status": { "phase": "Pending" } });
        assert_eq!(found(&spec(UNPLACED), &no_cpu, Some(claim.clone())).unwrap().0, "Unschedulable");
        let unbound = unscheduled("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
        let (reason, message) = found(&spec(UNPLACED), &unbound, Some(claim)).unwrap();
        assert_eq!(reason, "VolumePending");
        assert!(message.contains("data-home-1 of the storage class `nope` is pending"), "{message}");
    }

    #[test]
    fn an_image_that_cannot_be_had_is_told_alike_while_it_is_tried_and_in_between() {
        let waiting = |reason: &str, message: &str| {
            let state = json!({ "waiting": { "reason": reason, "message": message } });
            found(&spec(PLACED), &contained(&state, &json!({})), None).unwrap()
        };
        let tried = waiting("ErrImagePull", "no such image");
        assert_eq!(
            tried,
            ("ImagePull", "home-1 does not get its image lab.local/roadstead:9: no such image".to_owned())
        );
        assert_eq!(tried, waiting("ImagePullBackOff", "Back-off pulling image \"x\": ErrImagePull: no such image"));
    }

    #[test]
    fn a_process_that_ends_is_told_by_its_last_words() {
        let ended = |code: i32, reason: &str| {
            let message =
                "{\"level\":\"INFO\"}\nroadstead: cannot use the blob store\n  because: it is locked\n  next: look\n";
            json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } })
        };
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } });
        let crash = |code, reason: &str| found(&spec(PLACED), &contained(&waiting, &ended(code, reason)), None);
        let (reason, message) = crash(1, "Error").unwrap();
        assert_eq!(reason, "ReplicaFails");
        assert_eq!(
            message,
            "home-1 ends with 1: roadstead: cannot use the blob store; because: it is locked; next: look"
        );
        assert_eq!(crash(5, "Error").unwrap().0, "StorageTaken");
        assert_eq!(crash(137, "OOMKilled").unwrap().0, "OutOfMemory");
        assert_eq!(crash(4, "Error"), None);
        // It runs again, and has not shown yet that it stays.
        let running = |at: &str| json!({ "running": { "startedAt": at } });
        let again = |at, code| found(&spec(PLACED), &contained(&running(at), &ended(code, "Error")), None);
        assert_eq!(again("2027-01-15T07:59:30Z", 5).unwrap().0, "StorageTaken");
        assert_eq!(again("2027-01-15T07:00:00Z", 5), None);
    }

    #[test]
    fn a_pod_that_serves_is_in_no_trouble() {
        let running = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
        assert_eq!(found(&spec(PLACED), &contained(&running, &json!({})), None), None);
        assert_eq!(short(&"é".repeat(501)), "é".repeat(500) + " ...");
    }
}

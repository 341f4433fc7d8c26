//! What the operator says of a registry.

use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use roadstead_crds::{
    Consensus, FrontendsStatus, Member, ObjectRef, Registry, RegistryStatus, Role, ServiceType, TlsProvider,
};
use serde_json::Value;

use super::dereference::Invalid;
use super::errand;
use super::observe::Sight;
use super::trouble::Trouble;
use crate::ambient;
use crate::build::{self, Part, Wish, pod_name};
use crate::plan::{Group, Plan, Wait};

/// What became of a look.
pub(super) struct Said<'a> {
    pub plan: Plan,
    pub refused: Option<String>,
    pub invalid: Option<&'a Invalid>,
    /// What is done instead of the plan.
    pub errand: Option<errand::Told>,
    /// Whether something was done for the replicas without a vote, and more may be to do.
    pub tends: bool,
    /// A drain that waits, or something that the cluster does not have.
    pub hindrance: Option<Trouble>,
}

/// What a condition comes to.
pub(super) struct Finding {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

/// The addresses by which nodes and pods reach the Service: they are in the certificate.
pub(super) fn addresses(service: &Value) -> Vec<String> {
    let list = |pointer: &str| service.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut addresses: Vec<String> =
        list("/spec/clusterIPs").iter().filter_map(|address| address.as_str().map(str::to_owned)).collect();
    for ingress in list("/status/loadBalancer/ingress") {
        addresses.extend(["ip", "hostname"].iter().filter_map(|key| ingress[*key].as_str().map(str::to_owned)));
    }
    addresses.retain(|address| address != "None" && !address.is_empty());
    addresses
}

/// What the names of its images begin with.
pub(super) fn endpoint(wish: &Wish, service: &Value) -> Option<String> {
    if let Some(host) = build::host(wish) {
        return Some(host.to_owned());
    }
    let first = service.pointer("/status/loadBalancer/ingress/0");
    let balanced = first.and_then(|ingress| ingress["hostname"].as_str().or_else(|| ingress["ip"].as_str()));
    match balanced {
        Some(host) if wish.spec.expose.service.type_ == ServiceType::LoadBalancer => {
            Some(format!("{host}:{}", build::PORT))
        }
        _ => build::endpoint(service),
    }
}

/// Everything that there is to say. What is not known now stays as it was said before.
pub(super) fn of(
    registry: &Registry,
    wish: Option<&Wish>,
    sight: Option<&Sight>,
    said: &Said<'_>,
    endpoint: Option<String>,
) -> RegistryStatus {
    let before = registry.status.clone().unwrap_or_default();
    let generation = registry.metadata.generation;
    let was_ready = before.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let findings = [
        ("Ready", ready(wish, sight, said, was_ready)),
        ("Progressing", progressing(wish, sight, said)),
        ("QuorumHealthy", quorum(wish, sight)),
        ("Paused", paused(registry)),
    ];
    let conditions =
        findings.into_iter().map(|(kind, finding)| condition(&before, kind, finding, generation)).collect();
    let mut status = RegistryStatus { observed_generation: generation, conditions, ..before };
    if let Some(wish) = wish {
        status.image = Some(wish.pinned.clone());
        status.endpoint = endpoint.or(status.endpoint);
        status.push_secret_ref = (!wish.has_accounts_of_home()).then(|| ObjectRef { name: wish.named("push") });
        let is_own = wish.spec.tls.provider == TlsProvider::SelfSigned;
        status.ca_config_map_ref = is_own.then(|| ObjectRef { name: wish.named("ca") });
    }
    if let (Some(wish), Some(sight)) = (wish, sight) {
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        status.replicas = count(sight.observed.pods.len());
        status.ready_replicas = count(sight.observed.pods.values().filter(|pod| pod.is_ready).count());
        let frontends = &sight.frontends.pods;
        status.frontends = Some(FrontendsStatus {
            replicas: count(frontends.len()),
            ready_replicas: count(frontends.values().filter(|pod| pod.is_ready).count()),
            selector: labels(&Part::Frontend.selector(&wish.name)),
        });
        status.version = sight.version.clone().or(status.version);
        status.consensus = match &sight.observed.group {
            Some(group) => Some(consensus(wish, group)),
            None => status.consensus.map(|known| Consensus { leader: None, ..known }),
        };
    }
    status
}

/// As autoscalers and lists read them.
pub(super) fn labels(selector: &Value) -> String {
    let labels = selector.as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect::<Vec<_>>().join(",")
}

fn consensus(wish: &Wish, group: &Group) -> Consensus {
    let name = |node: u64| {
        let at = group.members.get(&node).and_then(|member| member.ordinal);
        at.map_or_else(|| format!("node {node}"), |at| pod_name(&wish.name, at))
    };
    let is_behind = group.voters().any(|(_, member)| member.is_in_contact && !member.is_caught_up);
    let member = |(node, member): (&u64, &crate::plan::Member)| Member {
        node_id: node.to_string(),
        name: name(*node),
        role: if member.is_voter { Role::Voter } else { Role::Learner },
    };
    Consensus {
        cluster_id: group.cluster.to_string(),
        leader: Some(name(group.leader)),
        voters: Some(format!("{}/{}", group.in_contact(), group.voters().count())),
        lag: Some(if is_behind { "1000+" } else { "0" }.to_owned()),
        // Frontends come and go: how many there are is told apart.
        members: group.members.iter().filter(|(_, of)| of.is_voter || of.ordinal.is_some()).map(member).collect(),
    }
}

/// Whether clients are served: all that a registry can do takes a quorum, and its bucket. At first, it takes one of what is wished.
fn ready(wish: Option<&Wish>, sight: Option<&Sight>, said: &Said<'_>, was_ready: bool) -> Finding {
    let no = |reason, message: String| Finding { status: "False", reason, message };
    if let Some(invalid) = said.invalid {
        return no(invalid.reason(), invalid.to_string());
    }
    let Some(sight) = sight else { return Finding { status: "Unknown", reason: "NotSeen", message: String::new() } };
    if let Some(told) = &said.errand {
        return no(told.reason, told.message.clone());
    }
    if let Some(taken) = sight.troubles.values().find(|trouble| trouble.is_taken_store()) {
        return no(taken.reason, taken.message.clone());
    }
    if let (Some(wish), Some(loss)) = (wish, &sight.loss) {
        return no(QUORUM_LOST, loss.explain(wish));
    }
    let serving = sight.observed.pods.values().filter(|pod| pod.is_ready).count();
    let enough = sight.observed.wanted as usize / 2;
    match &sight.observed.group {
        Some(group) if group.has_quorum() && serving > 0 && sight.store_is_away => {
            no(STORAGE_UNREACHABLE, AWAY.to_owned())
        }
        Some(group) if group.has_quorum() && serving > 0 && (was_ready || group.in_contact() > enough) => {
            Finding { status: "True", reason: "Serving", message: "clients are served".to_owned() }
        }
        Some(group) if group.has_quorum() && serving == 0 => no("NoReplicaReady", "no replica is ready".to_owned()),
        Some(group) if !group.has_quorum() => {
            let (voters, answer) = (group.voters().count(), group.in_contact());
            let (_, why) = match said.plan {
                Plan::Wait(wait) => waiting(sight, wait),
                Plan::Do(_) | Plan::Done => ("", "pulls go on, pushes get 503".to_owned()),
            };
            no(
                "NoQuorum",
                format!("{answer} of {voters} voters answer their leader, and {} must: {why}", voters / 2 + 1),
            )
        }
        _ => match said.plan {
            Plan::Do(step) => no(step.reason(), step.to_string()),
            Plan::Wait(wait) => {
                let (reason, message) = waiting(sight, wait);
                no(reason, message)
            }
            Plan::Done => no("NoQuorum", "too few voters answer their leader".to_owned()),
        },
    }
}

/// What is waited for, and what keeps it, if that is known.
fn waiting(sight: &Sight, wait: Wait) -> (&'static str, String) {
    let trouble = match wait {
        Wait::Pod(ordinal) => sight.troubles.get(&ordinal).or_else(|| sight.troubles.values().next()),
        _ => sight.troubles.values().next(),
    };
    match trouble {
        Some(trouble) => (trouble.reason, format!("{wait}: {}", trouble.message)),
        None => (wait.reason(), wait.to_string()),
    }
}

/// What people should see at once, as an Event: each is told once.
pub(super) fn warning(wish: &Wish, sight: &Sight, said: &Said<'_>) -> Option<(&'static str, String)> {
    if let Some(told) = &said.errand {
        return told.needs_help.then(|| (told.reason, told.message.clone()));
    }
    if let Some(loss) = &sight.loss {
        return Some((QUORUM_LOST, loss.explain(wish)));
    }
    let taken = sight.troubles.values().find(|trouble| trouble.is_taken_store());
    if let Some(trouble) = taken.or(said.hindrance.as_ref()).or_else(|| sight.troubles.values().next()) {
        return Some((trouble.reason, trouble.message.clone()));
    }
    if let Some(trouble) = &sight.frontend_trouble {
        return Some((trouble.reason, trouble.message.clone()));
    }
    if sight.store_is_away {
        return Some((STORAGE_UNREACHABLE, AWAY.to_owned()));
    }
    match said.plan {
        Plan::Wait(wait) if wait.needs_help() => Some((wait.reason(), wait.to_string())),
        _ => None,
    }
}

const QUORUM_LOST: &str = "QuorumLost";

const STORAGE_UNREACHABLE: &str = "StorageUnreachable";

const AWAY: &str = "the bucket does not answer: what is cached is served, pushes wait or get 503; see to the S3 server, the rest \
                    mends itself";

fn progressing(wish: Option<&Wish>, sight: Option<&Sight>, said: &Said<'_>) -> Finding {
    let yes = |reason, message| Finding { status: "True", reason, message };
    let stuck = |reason, message| Finding { status: "False", reason, message };
    if let Some(told) = &said.errand {
        let finding = if told.needs_help { stuck } else { yes };
        return finding(told.reason, told.message.clone());
    }
    if let (Some(wish), Some(loss)) = (wish, sight.and_then(|sight| sight.loss.as_ref())) {
        return stuck(QUORUM_LOST, loss.explain(wish));
    }
    if let Some(Trouble { reason, message }) = &said.hindrance {
        return yes(*reason, message.clone());
    }
    match (said.plan, &said.refused) {
        _ if said.invalid.is_some() => Finding { status: "False", reason: "Invalid", message: String::new() },
        (Plan::Do(step), Some(refused)) => yes(step.reason(), format!("{step}: not now: {refused}")),
        (Plan::Do(step), None) => yes(step.reason(), step.to_string()),
        (Plan::Wait(wait), _) if wait.needs_help() => {
            Finding { status: "False", reason: wait.reason(), message: wait.to_string() }
        }
        (Plan::Wait(wait), _) => {
            let (reason, message) =
                sight.map_or_else(|| (wait.reason(), wait.to_string()), |sight| waiting(sight, wait));
            yes(reason, message)
        }
        (Plan::Done, _) => Finding { status: "False", reason: "Settled", message: "all is as it is wished".to_owned() },
    }
}

fn quorum(wish: Option<&Wish>, sight: Option<&Sight>) -> Finding {
    let unknown = || Finding { status: "Unknown", reason: "NotBegun", message: "there is no cluster yet".to_owned() };
    let Some(sight) = sight else {
        let message = "the replicas are not looked at while the spec cannot be carried out".to_owned();
        return Finding { status: "Unknown", reason: "NotSeen", message };
    };
    if let (Some(wish), Some(loss)) = (wish, &sight.loss) {
        return Finding { status: "False", reason: QUORUM_LOST, message: loss.explain(wish) };
    }
    match &sight.observed.group {
        Some(group) if group.has_quorum() => {
            let message = "as many voters as are needed answer their leader".to_owned();
            Finding { status: "True", reason: "Agreeing", message }
        }
        None if sight.observed.begun.is_none() => unknown(),
        _ => {
            let message = "no leader answers, or too few voters answer it".to_owned();
            Finding { status: "False", reason: "NoQuorum", message }
        }
    }
}

fn paused(registry: &Registry) -> Finding {
    if registry.spec.paused {
        Finding { status: "True", reason: "Asked", message: "`spec.paused` is true: nothing is changed".to_owned() }
    } else {
        Finding { status: "False", reason: "NotAsked", message: String::new() }
    }
}

/// The condition, with the time of its last change.
pub(super) fn condition(before: &RegistryStatus, kind: &str, finding: Finding, generation: Option<i64>) -> Condition {
    let former = before.conditions.iter().find(|condition| condition.type_ == kind);
    let unchanged = former.filter(|former| former.status == finding.status);
    Condition {
        type_: kind.to_owned(),
        status: finding.status.to_owned(),
        reason: finding.reason.to_owned(),
        message: finding.message,
        observed_generation: generation,
        last_transition_time: unchanged
            .map_or_else(|| time(ambient::now()), |former| former.last_transition_time.clone()),
    }
}

/// In whole seconds, as the API server keeps it.
pub(super) fn time(now: SystemTime) -> Time {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Time(Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default())
}

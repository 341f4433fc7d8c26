//! Looks at everything that there is of one registry: the plan's material.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod as KubernetesPod};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;
use uuid::Uuid;

use crate::admin::{Credentials, Following, Members, Target};
use crate::build::{INPUTS, Wish, peer_name, pod_name, selector, volume_name};
use crate::plan::{Begun, Group, Member, Observed, Pod, Voice};

/// With what a process ends whose node was taken out of its cluster: its volume is of no use any more.
const EXIT_REMOVED: i32 = 4;

/// A voter of which the leader has heard nothing for longer is not counted on: as the replicas themselves judge it.
const CONTACT_MS: u64 = 2_000;

/// Entries that a member may be behind: as the replicas themselves judge it.
const CAUGHT_UP: u64 = 1_000;

/// On claims: the machine for which the volume was made.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub observed: Observed,
    pub pods: BTreeMap<u32, SeenPod>,
    pub claims: Vec<PersistentVolumeClaim>,
    pub members: Option<Members>,
    pub version: Option<String>,
    /// Whether the bucket did not answer the leader when it was asked last.
    pub store_is_away: bool,
    /// What the leader of a mirror says of its home.
    pub following: Option<Following>,
}

/// What is needed to do something with a pod.
#[derive(Clone, Debug)]
pub(super) struct SeenPod {
    pub name: String,
    pub uid: String,
    pub target: Option<Target>,
}

impl Sight {
    /// Where a node runs, or any other member, which passes on what is asked of it.
    pub(super) fn member_target(&self, preferred: Option<u64>) -> Option<&Target> {
        let at = |wanted: Option<u64>| {
            self.observed.pods.iter().find_map(|(ordinal, pod)| match pod.voice {
                Voice::Member { node, .. } if wanted.is_none_or(|wanted| wanted == node) => {
                    self.pods.get(ordinal)?.target.as_ref()
                }
                _ => None,
            })
        };
        preferred.and_then(|node| at(Some(node))).or_else(|| at(None))
    }
}

/// Looks. What does not answer is seen as silent.
pub(super) async fn look(
    client: &Client,
    wish: &Wish,
    stateful_set: Option<&Value>,
    begun: Option<Begun>,
    credentials: &Credentials,
) -> Result<Sight, kube::Error> {
    let labels: Vec<String> = selector(&wish.name)
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let listed = ListParams::default().labels(&labels.join(","));
    let pods: Api<KubernetesPod> = Api::namespaced(client.clone(), &wish.namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &wish.namespace);
    let (pods, claims) = (pods.list(&listed).await?.items, claims.list(&listed).await?.items);

    let looked = pods.iter().filter_map(|pod| Some((ordinal(wish, pod.metadata.name.as_deref()?)?, pod)));
    let looked: Vec<(u32, &KubernetesPod)> = looked.collect();
    let voices = join_all(looked.iter().map(async |(_, pod)| voice(wish, pod, credentials).await)).await;
    let mut sight = Sight { claims, ..Sight::default() };
    for ((ordinal, pod), voice) in looked.into_iter().zip(voices) {
        let claim =
            sight.claims.iter().find(|claim| claim.metadata.name.as_deref() == Some(&volume_name(&wish.name, ordinal)));
        let mut seen = see(wish, pod, voice);
        seen.is_stranded = is_removed(pod, seen.is_down) || is_left_behind(client, pod, claim).await?;
        sight.observed.pods.insert(ordinal, seen);
        let (name, uid) = (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.uid.clone().unwrap_or_default());
        sight.pods.insert(ordinal, SeenPod { name, uid, target: target(wish, pod) });
    }
    let set = stateful_set.and_then(|set| set.pointer("/spec/replicas")?.as_u64()).and_then(|set| set.try_into().ok());
    sight.observed.wanted = wish.voters();
    sight.observed.set = set;
    sight.observed.begun = begun;
    let named = |claim: &PersistentVolumeClaim| {
        let name = claim.metadata.name.as_deref()?;
        (0..64).find(|ordinal| volume_name(&wish.name, *ordinal) == name)
    };
    let stays = |claim: &&PersistentVolumeClaim| claim.metadata.deletion_timestamp.is_none();
    sight.observed.volumes = sight.claims.iter().filter(stays).filter_map(named).collect::<BTreeSet<u32>>();
    sight.members = ask_members(&sight, credentials).await;
    sight.observed.group = sight.members.as_ref().and_then(|members| group(wish, members));
    if let Some(target) = sight.member_target(sight.observed.group.as_ref().map(|group| group.leader))
        && let Ok(status) = credentials.status(target).await
    {
        sight.store_is_away = status.blob_store.is_some_and(|store| !store.is_there);
        sight.version = Some(status.version);
        sight.following = status.mirror;
    }
    Ok(sight)
}

/// The ordinal of a pod of the StatefulSet.
fn ordinal(wish: &Wish, pod: &str) -> Option<u32> {
    pod.strip_prefix(&wish.name)?.strip_prefix('-')?.parse().ok()
}

fn target(wish: &Wish, pod: &KubernetesPod) -> Option<Target> {
    let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(Target { address, host: peer_name(wish, pod.metadata.name.as_deref()?) })
}

async fn voice(wish: &Wish, pod: &KubernetesPod, credentials: &Credentials) -> Voice {
    let Some(target) = target(wish, pod).filter(|_| !is_down(pod)) else { return Voice::Silent };
    match credentials.volume(&target).await {
        Ok(answer) => match (answer.cluster, answer.node) {
            (Some(cluster), Some(node)) => Voice::Member { cluster, node },
            _ => Voice::Blank { volume: answer.volume },
        },
        Err(error) => {
            tracing::debug!(pod = pod.metadata.name, reason = %error, "a replica does not answer: {error}");
            Voice::Silent
        }
    }
}

fn see(wish: &Wish, pod: &KubernetesPod, voice: Voice) -> Pod {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let inputs = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(INPUTS));
    Pod {
        voice,
        is_ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        is_down: is_down(pod),
        is_terminating: pod.metadata.deletion_timestamp.is_some(),
        is_outdated: inputs != Some(&wish.inputs()),
        is_stranded: false,
    }
}

/// Whether the kubelet, or the scheduler for want of one, says that no process runs.
fn is_down(pod: &KubernetesPod) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    !containers.iter().any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// Whether its process ended since its node was taken out.
fn is_removed(pod: &KubernetesPod, is_down: bool) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    is_down
        && containers.iter().any(|container| {
            let ends = [container.state.as_ref(), container.last_state.as_ref()];
            let ended = ends.into_iter().flatten().find_map(|state| state.terminated.as_ref());
            ended.is_some_and(|ended| ended.exit_code == EXIT_REMOVED)
        })
}

/// Whether a pod finds no place since its volume is tied to a machine that the cluster has no more.
async fn is_left_behind(
    client: &Client,
    pod: &KubernetesPod,
    claim: Option<&PersistentVolumeClaim>,
) -> Result<bool, kube::Error> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_unschedulable = conditions
        .iter()
        .any(|condition| condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable"));
    let Some(claim) = claim.filter(|_| is_unschedulable) else { return Ok(false) };
    let machine = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SELECTED_NODE));
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref());
    let (Some(machine), Some(volume)) = (machine, volume) else { return Ok(false) };
    let nodes: Api<Node> = Api::all(client.clone());
    if allowed(nodes.get_opt(machine).await)?.is_none_or(|found| found.is_some()) {
        return Ok(false);
    }
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = allowed(volumes.get_opt(volume).await)?.flatten();
    let affinity = volume.and_then(|volume| volume.spec?.node_affinity);
    let tied = affinity.and_then(|affinity| serde_json::to_string(&affinity).ok());
    Ok(tied.is_some_and(|tied| tied.contains(&format!("\"{machine}\""))))
}

/// `None` where the operator may not look, since it was installed for a namespace alone.
fn allowed<T>(found: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(error) => Err(error),
    }
}

/// The members, by whoever knows their leader first.
async fn ask_members(sight: &Sight, credentials: &Credentials) -> Option<Members> {
    let is_member =
        |ordinal: &u32| matches!(sight.observed.pods.get(ordinal).map(|pod| pod.voice), Some(Voice::Member { .. }));
    let targets =
        sight.pods.iter().filter(|(ordinal, _)| is_member(ordinal)).filter_map(|(_, pod)| pod.target.as_ref());
    let mut asked: FuturesUnordered<_> = targets.map(|target| credentials.members(target)).collect();
    let mut leaderless = None;
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(members) if members.leader.is_some() => return Some(members),
            Ok(members) => leaderless = Some(members),
            Err(error) => tracing::debug!(reason = %error, "a member does not tell the others: {error}"),
        }
    }
    leaderless
}

/// The members as the plan needs them.
fn group(wish: &Wish, members: &Members) -> Option<Group> {
    let leader = members.leader?;
    let member = |member: &crate::admin::Member| {
        let host = member.address.rsplit_once(':').map_or(member.address.as_str(), |(host, _)| host);
        let at = (0..64).find(|at| peer_name(wish, &pod_name(&wish.name, *at)) == host);
        let seen = Member {
            ordinal: at,
            is_voter: member.role == "voter",
            is_in_contact: member.last_contact_ms.is_some_and(|ago| ago <= CONTACT_MS),
            is_caught_up: member.lag_entries.is_some_and(|lag| lag <= CAUGHT_UP),
        };
        (member.node, seen)
    };
    Some(Group { cluster: members.cluster, leader, members: members.members.iter().map(member).collect() })
}

/// What is noted of the beginning.
pub(super) fn begun(noted: &Value) -> Option<Begun> {
    let field = |name: &str| noted["data"][name].as_str()?.parse::<Uuid>().ok();
    Some(Begun { cluster: field("cluster")?, volume: field("volume")? })
}

//! Looks at everything that there is of one registry: the plan's material.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::future::{join_all, join3, try_join, try_join_all};
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod as KubernetesPod};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;
use uuid::Uuid;

use super::loss::{Loss, loss};
use super::status::labels;
use super::trouble::{Trouble, trouble};
use crate::admin::{Backup, Connection, Credentials, Following, Members, Region, Status, Target};
use crate::ambient;
use crate::build::{ERRAND, INPUTS, Part, Wish, peer_name, pod_name, volume_name};
use crate::plan::{Begun, Frontend, Frontends, Group, Member, Observed, Pod, Voice};

/// With what a process ends whose node was taken out of its cluster: its volume is of no use any more.
pub(super) const EXIT_REMOVED: i32 = 4;

/// A voter of which the leader has heard nothing for longer is not counted on: as the replicas themselves judge it.
const CONTACT_MS: u64 = 1_600;

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
    /// What keeps pods from serving, by their ordinals.
    pub troubles: BTreeMap<u32, Trouble>,
    /// That the cluster can agree on nothing any more, if that is so for good.
    pub loss: Option<Loss>,
    /// The replicas without a vote.
    pub frontends: Frontends,
    pub frontend_pods: BTreeMap<u32, SeenPod>,
    pub frontend_trouble: Option<Trouble>,
    /// The pod of an errand, if there is one.
    pub errand: Option<KubernetesPod>,
    /// What keeps it, or why it failed.
    pub errand_trouble: Option<Trouble>,
    pub version: Option<String>,
    /// Whether the bucket did not answer the leader when it was asked last.
    pub store_is_away: bool,
    /// What the leader says of the backup.
    pub backup: Option<Backup>,
    /// What the leader of a mirror says of its home.
    pub following: Option<Following>,
    /// What it says of which region is home.
    pub region: Option<Region>,
    /// Changes that are kept aside.
    pub kept_aside: Option<u64>,
}

/// What is needed to do something with a pod.
#[derive(Clone, Debug)]
pub(super) struct SeenPod {
    pub name: String,
    pub uid: String,
    pub node: Option<String>,
    /// The address of its node.
    pub node_address: Option<IpAddr>,
    pub target: Option<Target>,
}

impl Sight {
    /// Where a node runs, or any other member, which passes on what is asked of it.
    pub(super) fn member_target(&self, preferred: Option<u64>) -> Option<&Target> {
        self.pods.get(&self.member(preferred)?)?.target.as_ref()
    }

    /// The ordinal of a node, or of any other member.
    fn member(&self, preferred: Option<u64>) -> Option<u32> {
        let at = |wanted: Option<u64>| {
            self.observed.pods.iter().find_map(|(ordinal, pod)| match pod.voice {
                Voice::Member { node, .. } if wanted.is_none_or(|wanted| wanted == node) => Some(*ordinal),
                _ => None,
            })
        };
        preferred.and_then(|node| at(Some(node))).or_else(|| at(None))
    }
}

impl Sight {
    /// What a replica says of itself and of its home.
    fn add_status(&mut self, status: Status) {
        self.store_is_away = status.blob_store.is_some_and(|store| !store.is_there);
        (self.region, self.kept_aside) = (Some(status.region()), status.kept_aside);
        self.version = Some(status.version);
        self.backup = status.backup;
        self.following = status.mirror;
    }

    fn add_frontend(&mut self, wish: &Wish, ordinal: u32, pod: &KubernetesPod, voice: Voice, now: SystemTime) {
        let Pod { is_ready, is_down, is_terminating, is_outdated, .. } = see(wish, pod, voice);
        let is_stranded = is_removed(pod, is_down);
        self.frontends.pods.insert(ordinal, Frontend { voice, is_ready, is_terminating, is_outdated, is_stranded });
        self.frontend_trouble = self.frontend_trouble.take().or_else(|| trouble(pod, None, now));
        self.frontend_pods.insert(ordinal, seen_pod(wish, Part::Frontend, pod));
    }

    /// Asks those who answered for what they know of each other, and the one who leads for what it says of itself.
    async fn hear(&mut self, wish: &Wish, connections: &BTreeMap<u32, Connection>) {
        let answers = ask_members(connections).await;
        self.members = answers.iter().find(|members| members.leader.is_some()).or(answers.first()).cloned();
        self.observed.group = self.members.as_ref().and_then(|members| group(wish, members));
        self.frontends.learners = self.members.iter().flat_map(|members| frontend_learners(wish, members)).collect();
        if !self.observed.group.as_ref().is_some_and(Group::has_quorum) {
            self.loss = loss(wish, &self.observed, &answers);
        }
        let leader = self.member(self.observed.group.as_ref().map(|group| group.leader));
        if let Some(connection) = leader.and_then(|ordinal| connections.get(&ordinal))
            && let Ok(status) = connection.status().await
        {
            self.add_status(status);
        }
    }
}

/// The pods and volumes of a registry, as the API server lists them.
pub(super) struct Listed {
    pods: Vec<KubernetesPod>,
    claims: Vec<PersistentVolumeClaim>,
}

/// How new what is listed has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// As it is. The API server has to hear from its store first, for which it takes up to a tenth of a second.
    Now,
    /// As the API server has it at hand: that is as old as a watch, or older.
    AtHand,
}

/// Lists them.
pub(super) async fn list(
    client: &Client,
    namespace: &str,
    registry: &str,
    freshness: Freshness,
) -> Result<Listed, kube::Error> {
    let listed = match freshness {
        Freshness::Now => ListParams::default(),
        Freshness::AtHand => ListParams::default().match_any(),
    };
    let replicas = listed.clone().labels(&labels(&Part::Voter.selector(registry)));
    let all = listed
        .labels(&format!("app.kubernetes.io/instance={registry},app.kubernetes.io/managed-by=roadstead-operator"));
    let pods: Api<KubernetesPod> = Api::namespaced(client.clone(), namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let (pods, claims) = try_join(pods.list(&all), claims.list(&replicas)).await?;
    Ok(Listed { pods: pods.items, claims: claims.items })
}

/// Looks. What does not answer is seen as silent.
pub(super) async fn look(
    client: &Client,
    wish: &Wish,
    listed: Listed,
    stateful_set: Option<&Value>,
    begun: Option<Begun>,
    credentials: &Credentials,
) -> Result<Sight, kube::Error> {
    let (mut errands, pods): (Vec<_>, Vec<_>) = listed.pods.into_iter().partition(is_errand);
    let claims = listed.claims;
    let of = |part| pods.iter().filter_map(move |pod| Some((ordinal(wish, part, pod)?, pod))).collect::<Vec<_>>();
    let (looked, frontends) = (of(Part::Voter), of(Part::Frontend));
    let claim_of = |ordinal| {
        let name = volume_name(&wish.name, ordinal);
        claims.iter().find(|claim| claim.metadata.name.as_ref() == Some(&name))
    };
    let voices = join_all(looked.iter().map(async |(_, pod)| voice(wish, Part::Voter, pod, credentials).await));
    let others = join_all(frontends.iter().map(async |(_, pod)| voice(wish, Part::Frontend, pod, credentials).await));
    let left = looked.iter().map(async |(ordinal, pod)| is_left_behind(client, pod, claim_of(*ordinal)).await);
    let (voices, others, left) = join3(voices, others, try_join_all(left)).await;
    let mut sight = Sight { errand: errands.pop(), ..Sight::default() };
    let mut connections = BTreeMap::new();
    let now = ambient::now();
    sight.errand_trouble = sight.errand.as_ref().and_then(|pod| trouble(pod, None, now));
    for (((ordinal, pod), (voice, connection)), is_left_behind) in looked.iter().copied().zip(voices).zip(left?) {
        let mut seen = see(wish, pod, voice);
        seen.is_stranded = is_removed(pod, seen.is_down) || is_left_behind;
        sight.troubles.extend(trouble(pod, claim_of(ordinal), now).map(|trouble| (ordinal, trouble)));
        sight.observed.pods.insert(ordinal, seen);
        sight.pods.insert(ordinal, seen_pod(wish, Part::Voter, pod));
        connections.extend(connection.map(|connection| (ordinal, connection)));
    }
    for ((ordinal, pod), (voice, _)) in frontends.into_iter().zip(others) {
        sight.add_frontend(wish, ordinal, pod, voice, now);
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
    sight.observed.volumes = claims.iter().filter(stays).filter_map(named).collect::<BTreeSet<u32>>();
    sight.claims = claims;
    sight.hear(wish, &connections).await;
    Ok(sight)
}

fn seen_pod(wish: &Wish, part: Part, pod: &KubernetesPod) -> SeenPod {
    SeenPod {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        node_address: node_address(pod),
        target: target(wish, part, pod),
    }
}

/// The ordinal of a pod of the StatefulSet, if it is one.
fn ordinal(wish: &Wish, part: Part, pod: &KubernetesPod) -> Option<u32> {
    let component = pod.metadata.labels.as_ref()?.get("app.kubernetes.io/component")?;
    let name = pod.metadata.name.as_deref().filter(|_| component == part.component())?;
    name.strip_prefix(&part.workload(&wish.name))?.strip_prefix('-')?.parse().ok()
}

fn node_address(pod: &KubernetesPod) -> Option<IpAddr> {
    pod.status.as_ref()?.host_ip.as_ref()?.parse().ok()
}

fn target(wish: &Wish, part: Part, pod: &KubernetesPod) -> Option<Target> {
    let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(Target { address, host: peer_name(wish, part, pod.metadata.name.as_deref()?) })
}

/// What a replica says that it is, and the connection to it, which has more to carry.
async fn voice(wish: &Wish, part: Part, pod: &KubernetesPod, credentials: &Credentials) -> (Voice, Option<Connection>) {
    let Some(target) = target(wish, part, pod).filter(|_| !is_down(pod)) else { return (Voice::Silent, None) };
    match credentials.greet(&target).await {
        Ok((answer, connection)) => match (answer.cluster, answer.node) {
            (Some(cluster), Some(node)) => (Voice::Member { cluster, node }, Some(connection)),
            _ => (Voice::Blank { volume: answer.volume }, None),
        },
        Err(error) => {
            tracing::debug!(pod = pod.metadata.name, reason = %error, "a replica does not answer: {error}");
            (Voice::Silent, None)
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
pub(super) fn allowed<T>(found: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a pod is one that does one thing and ends, and no replica.
fn is_errand(pod: &KubernetesPod) -> bool {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("app.kubernetes.io/name"))
        .is_some_and(|name| name == ERRAND)
}

/// The members, by whoever knows their leader first; by everybody who answers, if nobody does.
async fn ask_members(connections: &BTreeMap<u32, Connection>) -> Vec<Members> {
    let mut asked: FuturesUnordered<_> = connections.values().map(Connection::members).collect();
    let mut leaderless = Vec::new();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(members) if members.leader.is_some() => return vec![members],
            Ok(members) => leaderless.push(members),
            Err(error) => tracing::debug!(reason = %error, "a member does not tell the others: {error}"),
        }
    }
    leaderless
}

/// Which replica is reached at an address.
pub(super) fn ordinal_at(wish: &Wish, address: &str) -> Option<u32> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    (0..64).find(|at| peer_name(wish, Part::Voter, &pod_name(&wish.name, *at)) == host)
}

/// Learners that are reached where frontends are.
fn frontend_learners(wish: &Wish, members: &Members) -> impl Iterator<Item = (u64, u32)> {
    let workload = Part::Frontend.workload(&wish.name);
    let end = format!(".{}.{}.svc", Part::Frontend.peers(&wish.name), wish.namespace);
    members.members.iter().filter(|member| member.role != "voter").filter_map(move |member| {
        let host = member.address.rsplit_once(':').map_or(member.address.as_str(), |(host, _)| host);
        let pod = host.strip_suffix(&end)?;
        Some((member.node, pod.strip_prefix(&workload)?.strip_prefix('-')?.parse().ok()?))
    })
}

/// The members as the plan needs them.
fn group(wish: &Wish, members: &Members) -> Option<Group> {
    let leader = members.leader?;
    let member = |member: &crate::admin::Member| {
        let seen = Member {
            ordinal: ordinal_at(wish, &member.address),
            is_voter: member.role == "voter",
            is_in_contact: member.last_contact_ms.is_some_and(|ago| ago <= CONTACT_MS),
            is_caught_up: member.lag_entries.is_some_and(|lag| lag <= CAUGHT_UP),
        };
        (member.node, seen)
    };
    Some(Group { cluster: members.cluster, leader, members: members.members.iter().map(member).collect() })
}

/// What is noted of the beginning.
pub(super) fn noted(note: &Value) -> Option<Begun> {
    let field = |name: &str| note["data"][name].as_str()?.parse::<Uuid>().ok();
    Some(Begun { cluster: field("cluster")?, volume: field("volume")? })
}

//! What to do next for the replicas of one registry: a pure function of what is seen.
//!
//! ```text
//!  Observed --plan--> Do(one Step) --carried out--> observed anew --plan--> ... --> Done
//!                     Wait(for what)                                                  |
//!                                                                    one voter a pod, none outdated
//! ```
//!
//! * Nothing is remembered between two calls, so that an operator that is killed in between goes on where the world is.
//! * Each step is safe by itself: what is asked of the replicas is judged once more by their leader, and pods of a cluster
//!   with several voters are evicted, which their disruption budget may refuse.
//! * Node ids are given by the cluster, to volumes; an ordinal says only where a replica runs.

mod frontends;
mod roll;
mod step;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

pub(crate) use frontends::{Frontend, Frontends, Tending, tend};
pub(crate) use step::{Plan, Step, Wait};

/// The most replicas with a vote.
pub(crate) const MAX_VOTERS: u32 = 7;

/// What is seen of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Voters that are wanted.
    pub wanted: u32,
    /// Replicas of the StatefulSet, if there is one.
    pub set: Option<u32>,
    /// What is noted of the cluster's beginning: created once, never changed.
    pub begun: Option<Begun>,
    /// By their ordinals.
    pub pods: BTreeMap<u32, Pod>,
    /// Ordinals that have a volume.
    pub volumes: BTreeSet<u32>,
    /// The members as their leader sees them, if one answers.
    pub group: Option<Group>,
}

/// How the cluster begins: on which volume, under which id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    pub cluster: Uuid,
    /// Nil where the cluster was there before it was noted.
    pub volume: Uuid,
}

/// A pod of the StatefulSet.
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own, and any of them go together")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub voice: Voice,
    /// It serves.
    pub is_ready: bool,
    /// The kubelet says that its process does not run: so it has no part in a quorum.
    pub is_down: bool,
    pub is_terminating: bool,
    /// It runs with other inputs than those of now.
    pub is_outdated: bool,
    /// Its volume is of no use any more: its node is gone for good, or the cluster has taken its replica out.
    pub is_stranded: bool,
}

/// What a replica says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Nothing.
    Silent,
    /// It waits to be taken in, or to be told to begin.
    Blank { volume: Uuid },
    /// It is in a cluster.
    Member { cluster: Uuid, node: u64 },
}

/// The members of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub cluster: Uuid,
    pub leader: u64,
    pub members: BTreeMap<u64, Member>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Where it runs, by its address; `None` if that is none of our pods.
    pub ordinal: Option<u32>,
    pub is_voter: bool,
    /// The leader has heard of it a moment ago.
    pub is_in_contact: bool,
    /// It lacks so little that it could have a vote.
    pub is_caught_up: bool,
}

impl Group {
    pub(crate) fn voters(&self) -> impl Iterator<Item = (u64, &Member)> {
        self.members.iter().filter(|(_, member)| member.is_voter).map(|(node, member)| (*node, member))
    }

    /// Voters that the leader hears, itself among them.
    pub(crate) fn in_contact(&self) -> usize {
        self.voters().filter(|(_, member)| member.is_in_contact).count()
    }

    /// Whether those are enough to agree.
    pub(crate) fn has_quorum(&self) -> bool {
        self.in_contact() > self.voters().count() / 2
    }

    /// Whether the voters without `node` could go on alone.
    fn agrees_without(&self, node: u64) -> bool {
        let left = || self.voters().filter(|(other, _)| *other != node);
        let in_contact = left().filter(|(_, member)| member.is_in_contact).count();
        in_contact > left().count() / 2
    }

    /// A voter that is not in contact.
    fn silent_voter(&self) -> Option<u64> {
        self.voters().find(|(_, member)| !member.is_in_contact).map(|(node, _)| node)
    }

    /// Who is at an ordinal: several, if its volume was lost.
    fn at(&self, ordinal: u32) -> impl Iterator<Item = (u64, &Member)> {
        self.members
            .iter()
            .filter(move |(_, member)| member.ordinal == Some(ordinal))
            .map(|(node, member)| (*node, member))
    }
}

impl Observed {
    /// The pod and its node, if it is in the cluster.
    fn nodes<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = (u32, u64)> + 'a {
        self.pods.iter().filter_map(|(ordinal, pod)| match pod.voice {
            Voice::Member { cluster, node } if cluster == group.cluster => Some((*ordinal, node)),
            _ => None,
        })
    }

    /// A pod of the first `set` that is not there or says nothing.
    fn silent_pod(&self, set: u32) -> Option<u32> {
        (0..set).find(|ordinal| self.pods.get(ordinal).is_none_or(|pod| pod.voice == Voice::Silent))
    }
}

/// The next step.
pub(crate) fn plan(observed: &Observed) -> Plan {
    // Volumes that were left take part again: of five voters, three alone might be no quorum.
    let left = observed.volumes.last().map_or(0, |last| last + 1);
    let all = observed.wanted.max(left).min(MAX_VOTERS);
    let Some(set) = observed.set else { return Plan::Do(Step::Create { replicas: all }) };
    // Somebody has scaled the StatefulSet by hand, and so stopped those whom the others need.
    if observed.group.is_none() && set < all {
        return Plan::Do(Step::Resize { replicas: all });
    }
    if let Some(step) = roll::restart_what_is_down(observed) {
        return Plan::Do(step);
    }
    let Some(begun) = observed.begun else { return note(observed, set) };
    let Some(group) = &observed.group else { return begin(observed, set, begun) };
    let (wanted, steps) = (observed.wanted, [mend, shrink, grow, tidy]);
    let next = steps.iter().find_map(|step| step(observed, group, set));
    next.or_else(|| roll::roll(observed, group, set)).unwrap_or(if set == wanted {
        Plan::Done
    } else {
        Plan::Wait(Wait::Voters)
    })
}

/// Notes where the cluster is to begin, before anything begins it.
fn note(observed: &Observed, set: u32) -> Plan {
    let clusters: BTreeSet<Uuid> = observed
        .pods
        .values()
        .filter_map(|pod| if let Voice::Member { cluster, .. } = pod.voice { Some(cluster) } else { None })
        .collect();
    match (clusters.first(), clusters.len()) {
        (Some(_), 2..) => Plan::Wait(Wait::SeveralClusters),
        // Somebody has deleted the note.
        (Some(cluster), _) => Plan::Do(Step::Note { volume: Uuid::nil(), cluster: Some(*cluster) }),
        // A pod that says nothing may have the volume of a cluster that has begun long ago.
        (None, _) => match (observed.silent_pod(set), observed.pods.get(&0).map(|pod| pod.voice)) {
            (None, Some(Voice::Blank { volume })) => Plan::Do(Step::Note { volume, cluster: None }),
            // Whatever was on it is gone.
            (Some(silent), _) if observed.pods.get(&silent).is_some_and(|pod| pod.is_stranded) => {
                Plan::Do(Step::Reset { ordinal: silent })
            }
            (silent, _) => Plan::Wait(Wait::Pod(silent.unwrap_or(0))),
        },
    }
}

/// Begins the cluster where that is noted, unless it has begun.
fn begin(observed: &Observed, set: u32, begun: Begun) -> Plan {
    let is_member = |pod: &Pod| matches!(pod.voice, Voice::Member { .. });
    if observed.pods.values().any(is_member) {
        return Plan::Wait(Wait::Leader);
    }
    let has_it = |pod: &Pod| pod.voice == Voice::Blank { volume: begun.volume };
    match observed.pods.iter().find(|(_, pod)| has_it(pod)) {
        Some((ordinal, _)) => Plan::Do(Step::Begin { ordinal: *ordinal, begun }),
        None => {
            observed.silent_pod(set).map_or(Plan::Wait(Wait::BeginningLost), |silent| Plan::Wait(Wait::Pod(silent)))
        }
    }
}

/// Replaces voters whose volumes were lost, and takes out what nobody runs any more.
fn mend(observed: &Observed, group: &Group, set: u32) -> Option<Plan> {
    for (ordinal, node) in observed.nodes(group) {
        let Some(own) = group.members.get(&node) else { continue };
        let Some((lost, former)) = group.at(ordinal).find(|(other, _)| *other != node) else { continue };
        return Some(match (former.is_voter, own.is_voter) {
            (false, _) => Plan::Do(Step::Remove { node: lost }),
            (true, _) if group.leader == lost => Plan::Wait(Wait::Leader),
            (true, true) if group.agrees_without(lost) => Plan::Do(Step::Remove { node: lost }),
            (true, true) => Plan::Wait(Wait::Contact { node: lost }),
            (true, false) if own.is_caught_up && own.is_in_contact => Plan::Do(Step::Replace { lost, by: node }),
            (true, false) => Plan::Wait(Wait::CatchUp { node }),
        });
    }
    // Those that are to go, go with their volumes.
    let stays = set.min(observed.wanted);
    let is_stranded = |(ordinal, pod): &(&u32, &Pod)| **ordinal < stays && pod.is_stranded && !pod.is_terminating;
    if let Some((ordinal, _)) = observed.pods.iter().find(is_stranded) {
        let lost = group.at(*ordinal).find(|(_, member)| member.is_voter);
        return Some(match lost {
            Some((node, member)) if member.is_in_contact || !group.agrees_without(node) => {
                Plan::Wait(Wait::Contact { node: group.silent_voter().unwrap_or(node) })
            }
            _ => Plan::Do(Step::Reset { ordinal: *ordinal }),
        });
    }
    let beyond = group.members.iter().filter(|(_, member)| member.ordinal.is_some_and(|ordinal| ordinal >= set));
    // Somebody has scaled the StatefulSet by hand: voters are taken out one after the other, or not at all.
    let voters = beyond.clone().filter(|(_, member)| member.is_voter).filter_map(|(_, member)| member.ordinal);
    if let Some(last) = voters.max() {
        return Some(Plan::Do(Step::Resize { replicas: last + 1 }));
    }
    beyond.map(|(node, _)| Plan::Do(Step::Remove { node: *node })).next()
}

/// Takes the last replica out of the cluster, then its pod.
fn shrink(observed: &Observed, group: &Group, set: u32) -> Option<Plan> {
    let last = set.checked_sub(1).filter(|last| *last >= observed.wanted)?;
    // A voter that is lost for good goes first: it may be missed when others go.
    let is_lost = |member: &Member| {
        let pod = member.ordinal.filter(|at| *at >= observed.wanted).and_then(|at| observed.pods.get(&at));
        !member.is_in_contact && pod.is_some_and(|pod| pod.is_stranded)
    };
    if let Some((node, _)) = group.voters().find(|(node, member)| is_lost(member) && group.agrees_without(*node)) {
        return Some(Plan::Do(Step::Remove { node }));
    }
    let Some((node, member)) = group.at(last).next() else {
        return Some(Plan::Do(Step::Resize { replicas: last }));
    };
    Some(match member.is_voter {
        false => Plan::Do(Step::Remove { node }),
        true if group.leader == node => hand_over(observed, group, node),
        true if group.agrees_without(node) => Plan::Do(Step::Remove { node }),
        true => Plan::Wait(Wait::Contact { node: group.silent_voter().unwrap_or(node) }),
    })
}

/// Gives votes to those who have caught up, and adds the next replica when all have one.
fn grow(observed: &Observed, group: &Group, set: u32) -> Option<Plan> {
    let is_wanted = |member: &Member| member.ordinal.is_some_and(|ordinal| ordinal < observed.wanted);
    let nodes: BTreeSet<u64> = observed.nodes(group).map(|(_, node)| node).collect();
    let mut learners =
        group.members.iter().filter(|(node, member)| !member.is_voter && is_wanted(member) && nodes.contains(node));
    let silent = group.silent_voter().map(|node| Plan::Wait(Wait::Contact { node }));
    if let Some((node, learner)) = learners.next() {
        let promote = Plan::Do(Step::Promote { node: *node });
        return Some(if learner.is_caught_up && learner.is_in_contact {
            silent.unwrap_or(promote)
        } else {
            Plan::Wait(Wait::CatchUp { node: *node })
        });
    }
    if set >= observed.wanted {
        return None;
    }
    let has_vote = |ordinal: u32| group.at(ordinal).any(|(_, member)| member.is_voter);
    Some(match (0..set).find(|ordinal| !has_vote(*ordinal)) {
        Some(missing) => Plan::Wait(Wait::Pod(missing)),
        None => silent.unwrap_or(Plan::Do(Step::Resize { replicas: set + 1 })),
    })
}

/// Deletes volumes that were a replica's that is no more.
fn tidy(observed: &Observed, group: &Group, set: u32) -> Option<Plan> {
    let is_left = |ordinal: &&u32| {
        **ordinal >= set && !observed.pods.contains_key(*ordinal) && group.at(**ordinal).next().is_none()
    };
    observed.volumes.iter().find(is_left).map(|ordinal| Plan::Do(Step::DeleteVolume { ordinal: *ordinal }))
}

/// Lets another voter lead: one that stays, and needs no restart itself if there is one.
fn hand_over(observed: &Observed, group: &Group, from: u64) -> Plan {
    let is_outdated = |member: &Member| {
        let pod = member.ordinal.and_then(|ordinal| observed.pods.get(&ordinal));
        pod.is_none_or(|pod| pod.is_outdated || pod.is_terminating)
    };
    let is_fit = |node: u64, member: &Member| {
        let stays = member.ordinal.is_none_or(|ordinal| ordinal < observed.wanted);
        node != from && stays && member.is_in_contact && member.is_caught_up
    };
    let fit = group.voters().filter(|(node, member)| is_fit(*node, member));
    match fit.min_by_key(|(_, member)| (is_outdated(member), member.ordinal)) {
        Some((to, _)) => Plan::Do(Step::HandOver { from, to }),
        None => Plan::Wait(Wait::Successor),
    }
}

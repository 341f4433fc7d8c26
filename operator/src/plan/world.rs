//! A simulated StatefulSet with its pods and volumes, and a simulated Raft group: what the planner is tried against.
//!
//! The group judges what it is asked as the real one does (`registry/metadata/src/raft/plan.rs`), and evictions are held
//! against a disruption budget. Everything else happens in any order: pods start, catch up, die and lose their volumes,
//! leaders change, people scale and change their minds, and the operator acts on what it saw a while ago.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::{Begun, Group, Member, Observed, Plan, Pod, Step, Voice, plan};

const CLUSTER: Uuid = Uuid::from_u128(7);

/// Far more than the longest way: each of seven replicas is added, rolled, taken out, in a few steps each.
const MAX_STEPS: usize = 400;

#[derive(Clone, Debug, Default)]
struct World {
    wanted: u32,
    inputs: u32,
    set: Option<u32>,
    begun: Option<Begun>,
    pods: BTreeMap<u32, SimulatedPod>,
    volumes: BTreeMap<u32, Volume>,
    group: BTreeMap<u64, Node>,
    leader: Option<u64>,
    volumes_made: u128,
    last_node: u64,
    clusters_begun: u32,
    /// Nodes that were ever taken in, with their volumes.
    allocated: BTreeMap<u128, u64>,
    /// Nodes whose pods the operator has stopped or taken out since all were last in contact.
    violations: Vec<String>,
}

#[derive(Clone, Debug)]
struct SimulatedPod {
    inputs: u32,
    runs: bool,
}

#[derive(Clone, Copy, Debug)]
struct Volume {
    id: u128,
    node: Option<u64>,
    /// Its machine is, for good; or its replica was taken out.
    is_gone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    ordinal: u32,
    is_voter: bool,
    is_caught_up: bool,
}

/// What happens without the operator.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A pod is made, starts, joins, or catches up.
    Progress(u32),
    Crash(u32),
    LoseVolume(u32),
    LoseMachine(u32),
    Elect(u32),
    Want(u32),
    ChangeInputs,
    ScaleByHand(u32),
    DeleteNote,
    /// The operator looks, so much else happens, and then it acts.
    Act(Delay),
}

#[derive(Clone, Copy, Debug)]
enum Delay {
    None,
    Crash(u32),
    LoseVolume(u32),
    Elect(u32),
}

impl World {
    fn runs(&self, node: u64) -> bool {
        let Some(at) = self.group.get(&node).map(|node| node.ordinal) else { return false };
        self.pods.get(&at).is_some_and(|pod| pod.runs)
            && self.volumes.get(&at).is_some_and(|volume| volume.node == Some(node))
    }

    fn voters(&self) -> Vec<u64> {
        self.group.iter().filter(|(_, node)| node.is_voter).map(|(node, _)| *node).collect()
    }

    fn in_contact(&self, but: Option<u64>) -> usize {
        self.voters().into_iter().filter(|node| Some(*node) != but && self.runs(*node)).count()
    }

    fn has_quorum(&self) -> bool {
        let voters = self.voters().len();
        voters > 0 && self.in_contact(None) > voters / 2
    }

    /// Whether the volume at an ordinal, or its machine, can be lost with the promises still to be kept.
    fn can_lose(&self, ordinal: u32) -> bool {
        let holds = |node: &u64| {
            let at = self.group[node].ordinal;
            at != ordinal && self.volumes.get(&at).is_some_and(|volume| volume.node == Some(*node) && !volume.is_gone)
        };
        let voters = self.voters();
        let begins = self.begun.is_some() && voters.is_empty();
        !begins && (voters.is_empty() || voters.iter().filter(|node| holds(node)).count() > voters.len() / 2)
    }

    fn settle_leader(&mut self) {
        if self.leader.is_some_and(|leader| !self.runs(leader) || !self.group[&leader].is_voter) || !self.has_quorum() {
            self.leader = None;
        }
        if self.leader.is_none() && self.has_quorum() {
            self.leader = self.voters().into_iter().find(|node| self.runs(*node) && self.group[node].is_caught_up);
        }
    }

    /// One thing that goes on by itself at an ordinal; says whether there was one.
    fn progress(&mut self, ordinal: u32) -> bool {
        self.settle_leader();
        let set = self.set.unwrap_or(0);
        if ordinal >= set {
            return self.pods.remove(&ordinal).is_some();
        }
        let Some(pod) = self.pods.get_mut(&ordinal) else {
            if !self.volumes.contains_key(&ordinal) {
                self.volumes_made += 1;
                self.volumes.insert(ordinal, Volume { id: self.volumes_made, node: None, is_gone: false });
            }
            self.pods.insert(ordinal, SimulatedPod { inputs: self.inputs, runs: false });
            return true;
        };
        let Some(volume) = self.volumes.get_mut(&ordinal) else { return false };
        // Whoever was taken out ends by itself, and does not come back.
        let is_removed = volume.node.is_some_and(|node| self.leader.is_some() && !self.group.contains_key(&node));
        if is_removed {
            let was = !volume.is_gone;
            (pod.runs, volume.is_gone) = (false, true);
            return was;
        }
        if volume.is_gone {
            return false;
        }
        if !pod.runs {
            pod.runs = true;
            return true;
        }
        match volume.node {
            None if self.leader.is_some() => {
                self.last_node += 1;
                let node = *self.allocated.entry(volume.id).or_insert(self.last_node);
                volume.node = Some(node);
                self.group.insert(node, Node { ordinal, is_voter: false, is_caught_up: false });
                true
            }
            Some(node) if self.leader.is_some() && !self.group[&node].is_caught_up => {
                self.group.get_mut(&node).unwrap().is_caught_up = true;
                true
            }
            _ => false,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Progress(ordinal) => drop(self.progress(ordinal)),
            Happening::Crash(ordinal) => {
                if let Some(pod) = self.pods.get_mut(&ordinal) {
                    pod.runs = false;
                }
            }
            Happening::LoseVolume(ordinal) if self.can_lose(ordinal) => {
                self.pods.remove(&ordinal);
                self.volumes.remove(&ordinal);
            }
            Happening::LoseMachine(ordinal) if self.can_lose(ordinal) && self.pods.contains_key(&ordinal) => {
                self.pods.get_mut(&ordinal).unwrap().runs = false;
                self.volumes.get_mut(&ordinal).unwrap().is_gone = true;
            }
            Happening::Elect(ordinal) => {
                let fit =
                    self.voters().into_iter().find(|node| self.group[node].ordinal == ordinal && self.runs(*node));
                if let Some(node) = fit.filter(|node| self.has_quorum() && self.group[node].is_caught_up) {
                    self.leader = Some(node);
                }
            }
            Happening::Want(wanted) => self.wanted = wanted,
            Happening::ChangeInputs => self.inputs += 1,
            Happening::ScaleByHand(set) => self.set = self.set.map(|_| set),
            // Before anybody has begun, it is all that says who may.
            Happening::DeleteNote if self.has_quorum() => self.begun = None,
            Happening::LoseVolume(_) | Happening::LoseMachine(_) | Happening::DeleteNote => {}
            Happening::Act(delay) => {
                let plan = plan(&self.observe());
                match delay {
                    Delay::None => {}
                    Delay::Crash(ordinal) => self.happen(Happening::Crash(ordinal)),
                    // The volume that is just being noted is a case for people: it may have been all that there is.
                    Delay::LoseVolume(_) if self.group.is_empty() => {}
                    Delay::LoseVolume(ordinal) => self.happen(Happening::LoseVolume(ordinal)),
                    Delay::Elect(ordinal) => self.happen(Happening::Elect(ordinal)),
                }
                if let Plan::Do(step) = plan {
                    self.act(step);
                }
            }
        }
        self.settle_leader();
    }

    fn observe(&mut self) -> Observed {
        self.settle_leader();
        let pod = |(ordinal, pod): (&u32, &SimulatedPod)| {
            let volume = self.volumes.get(ordinal);
            let voice = match volume {
                Some(Volume { node: Some(node), .. }) if pod.runs => Voice::Member { cluster: CLUSTER, node: *node },
                Some(Volume { id, node: None, .. }) if pod.runs => Voice::Blank { volume: Uuid::from_u128(*id) },
                _ => Voice::Silent,
            };
            let is_ready = matches!(voice, Voice::Member { node, .. } if self.group.get(&node).is_some_and(|node| node.is_caught_up));
            let (is_down, is_outdated) = (!pod.runs, pod.inputs != self.inputs);
            let is_stranded = volume.is_some_and(|volume| volume.is_gone);
            let is_terminating = *ordinal >= self.set.unwrap_or(0);
            (*ordinal, Pod { voice, is_ready, is_down, is_terminating, is_outdated, is_stranded })
        };
        let member = |(node, member): (&u64, &Node)| {
            let member = Member {
                ordinal: Some(member.ordinal),
                is_voter: member.is_voter,
                is_in_contact: self.runs(*node),
                is_caught_up: member.is_caught_up,
            };
            (*node, member)
        };
        Observed {
            wanted: self.wanted,
            set: self.set,
            begun: self.begun,
            pods: self.pods.iter().map(pod).collect(),
            volumes: self.volumes.keys().copied().collect(),
            group: self.leader.map(|leader| Group {
                cluster: CLUSTER,
                leader,
                members: self.group.iter().map(member).collect(),
            }),
        }
    }

    /// Does a step as the API server and the leader would, who refuse some.
    fn act(&mut self, step: Step) {
        let had_quorum = self.has_quorum();
        self.settle_leader();
        let leads = self.leader.is_some();
        match step {
            Step::Create { replicas } => self.set = self.set.or(Some(replicas)),
            Step::Resize { replicas } => {
                if let Some(node) = self.voters().into_iter().find(|node| self.group[node].ordinal >= replicas) {
                    self.violations.push(format!("resize to {replicas} stops the voter {node}"));
                }
                self.set = Some(replicas);
            }
            Step::Note { volume, cluster: _ } => self.begun = self.begun.or(Some(Begun { cluster: CLUSTER, volume })),
            Step::Begin { ordinal, begun } => {
                let volume = self.volumes.get_mut(&ordinal).filter(|volume| Uuid::from_u128(volume.id) == begun.volume);
                if let Some(volume) = volume.filter(|volume| volume.node.is_none()) {
                    if !self.group.is_empty() {
                        self.violations.push("a second cluster is begun".to_owned());
                    }
                    self.clusters_begun += 1;
                    self.last_node = 1;
                    volume.node = Some(1);
                    self.allocated.insert(volume.id, 1);
                    self.group.insert(1, Node { ordinal, is_voter: true, is_caught_up: true });
                }
            }
            Step::Promote { node } if leads && self.runs(node) => {
                if let Some(node) = self.group.get_mut(&node).filter(|node| node.is_caught_up) {
                    node.is_voter = true;
                }
            }
            Step::Replace { lost, by } if leads && self.leader != Some(lost) && self.runs(by) => self.replace(lost, by),
            Step::Remove { node } if leads && self.leader != Some(node) => {
                let Some(member) = self.group.get(&node) else { return };
                let left = self.voters().len() - usize::from(member.is_voter);
                if !member.is_voter || (left > 0 && self.in_contact(Some(node)) > left / 2) {
                    self.group.remove(&node);
                }
            }
            Step::HandOver { from, to } if self.leader == Some(from) => {
                if self.runs(to) && self.group[&to].is_voter && self.group[&to].is_caught_up {
                    self.leader = Some(to);
                }
            }
            Step::Evict { ordinal } => self.evict(ordinal),
            Step::Delete { ordinal } => {
                // By its uid and only if it still does not run.
                if self.pods.get(&ordinal).is_some_and(|pod| !pod.runs) {
                    self.pods.remove(&ordinal);
                }
            }
            Step::Reset { ordinal } => {
                if self.volumes.get(&ordinal).is_some_and(|volume| volume.is_gone) {
                    self.pods.remove(&ordinal);
                    self.volumes.remove(&ordinal);
                }
            }
            Step::DeleteVolume { ordinal } => {
                if self.group.values().any(|node| node.ordinal == ordinal) {
                    self.violations.push(format!("the volume of a member at {ordinal} is deleted"));
                }
                self.volumes.remove(&ordinal);
            }
            Step::Promote { .. } | Step::Replace { .. } | Step::Remove { .. } | Step::HandOver { .. } => {}
        }
        if had_quorum && !self.has_quorum() && self.voters().len() > 1 {
            self.violations.push(format!("{step:?} costs the quorum"));
        }
    }

    fn replace(&mut self, lost: u64, by: u64) {
        if self.group.get(&by).is_some_and(|node| node.is_caught_up && !node.is_voter)
            && self.group.get(&lost).is_some_and(|node| node.is_voter)
        {
            self.group.get_mut(&by).unwrap().is_voter = true;
            self.group.remove(&lost);
        }
    }

    /// As the disruption budget allows: as many voters may be away as are not needed.
    fn evict(&mut self, ordinal: u32) {
        let voters = self.voters().len();
        let others =
            self.voters().into_iter().filter(|node| self.group[node].ordinal != ordinal && self.runs(*node)).count();
        if voters <= 1 || others > voters / 2 {
            self.pods.remove(&ordinal);
        }
    }

    /// Lets everything go on by itself for as long as it does.
    fn rest(&mut self) {
        let mut rounds = 0;
        while (0..12).filter(|ordinal| self.progress(*ordinal)).count() > 0 {
            rounds += 1;
            assert!(rounds < 100, "the world comes to rest: {self:?}");
        }
        self.settle_leader();
    }

    fn check(&self) {
        assert!(self.violations.is_empty(), "{:?}\n{self:#?}", self.violations);
        assert!(self.clusters_begun <= 1, "one cluster: {self:#?}");
        let nodes: BTreeSet<u64> = self.allocated.values().copied().collect();
        assert_eq!(nodes.len(), self.allocated.len(), "no node id twice: {self:#?}");
    }
}

fn ordinal() -> impl Strategy<Value = u32> {
    0..7_u32
}

fn happening() -> impl Strategy<Value = Happening> {
    let wanted = prop::sample::select(vec![1, 3, 5, 7]);
    let delay = prop_oneof![
        8 => Just(Delay::None),
        1 => ordinal().prop_map(Delay::Crash),
        1 => ordinal().prop_map(Delay::LoseVolume),
        1 => ordinal().prop_map(Delay::Elect),
    ];
    prop_oneof![
        30 => delay.prop_map(Happening::Act),
        40 => ordinal().prop_map(Happening::Progress),
        3 => ordinal().prop_map(Happening::Crash),
        2 => ordinal().prop_map(Happening::LoseVolume),
        2 => ordinal().prop_map(Happening::LoseMachine),
        2 => ordinal().prop_map(Happening::Elect),
        2 => wanted.prop_map(Happening::Want),
        2 => Just(Happening::ChangeInputs),
        1 => ordinal().prop_map(|ordinal| Happening::ScaleByHand(ordinal + 1)),
        1 => Just(Happening::DeleteNote),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever has happened, and wherever the operator was killed: once nothing else happens, it comes to an end, with
    /// what was wanted; and on the way it never cost the quorum, began a second cluster or gave a node id again.
    #[test]
    fn from_every_state_it_converges(first in prop::sample::select(vec![1, 3, 5, 7]), happenings in prop::collection::vec(happening(), 0..250)) {
        let mut world = World { wanted: first, ..World::default() };
        for happening in happenings {
            world.happen(happening);
            world.check();
        }
        let mut steps = 0;
        loop {
            world.rest();
            match plan(&world.observe()) {
                Plan::Do(step) => {
                    world.act(step);
                    world.check();
                }
                Plan::Wait(wait) => panic!("it waits for {wait:?} though everything has come to rest: {world:#?}"),
                Plan::Done => break,
            }
            steps += 1;
            prop_assert!(steps < MAX_STEPS, "it does not end: {world:#?}");
        }
        let ordinals: BTreeSet<u32> = (0..world.wanted).collect();
        let voters: BTreeSet<u32> = world.voters().iter().map(|node| world.group[node].ordinal).collect();
        prop_assert_eq!(voters, ordinals.clone());
        prop_assert_eq!(world.group.len(), ordinals.len());
        prop_assert_eq!(world.volumes.keys().copied().collect::<BTreeSet<_>>(), ordinals.clone());
        prop_assert!(world.pods.values().all(|pod| pod.inputs == world.inputs && pod.runs));
    }
}

/// Steps from nothing to a registry of three, then to five, then a roll, then back: in this order and no other.
#[test]
fn the_usual_way() {
    let mut world = World { wanted: 3, ..World::default() };
    let mut told = Vec::new();
    let mut follow = |world: &mut World| {
        told.clear();
        loop {
            world.rest();
            match plan(&world.observe()) {
                Plan::Do(step) => {
                    told.push(step.to_string());
                    world.act(step);
                }
                Plan::Wait(wait) => panic!("{wait}"),
                Plan::Done => return told.join("\n"),
            }
        }
    };
    insta::assert_snapshot!("begin", follow(&mut world));
    world.wanted = 5;
    insta::assert_snapshot!("grow", follow(&mut world));
    world.inputs += 1;
    insta::assert_snapshot!("roll", follow(&mut world));
    world.leader = Some(5);
    world.wanted = 3;
    insta::assert_snapshot!("shrink", follow(&mut world));
    world.happen(Happening::LoseVolume(1));
    insta::assert_snapshot!("replace", follow(&mut world));
    world.check();
}

//! Restarting pods that run with former inputs: one after the other, the leader last.

use super::{Group, Observed, Plan, Pod, Step, Wait, hand_over};

/// A pod that does not run has no part in a quorum: with new inputs, it is started at once. So a mistake in them that let
/// a replica fail can be corrected, whatever the others do.
pub(super) fn restart_what_is_down(observed: &Observed) -> Option<Step> {
    let is_stuck = |pod: &Pod| pod.is_down && pod.is_outdated && !pod.is_terminating;
    observed.pods.iter().find(|(_, pod)| is_stuck(pod)).map(|(ordinal, _)| Step::Delete { ordinal: *ordinal })
}

/// The next pod to restart; or what is not in order, if none is outdated.
pub(super) fn roll(observed: &Observed, group: &Group, set: u32) -> Option<Plan> {
    let unsettled = |but: Option<u32>| {
        (0..set).filter(move |ordinal| Some(*ordinal) != but).find(|ordinal| !is_settled(observed, group, *ordinal))
    };
    let leads = |ordinal: u32| group.at(ordinal).any(|(node, _)| node == group.leader);
    let outdated = || observed.pods.iter().filter(|(ordinal, pod)| pod.is_outdated && **ordinal < set);
    // Those that do not serve first; then the last one, so that the first ones, which lead a fresh cluster, come late.
    let next = outdated().min_by_key(|(ordinal, pod)| (pod.is_ready, leads(**ordinal), std::cmp::Reverse(**ordinal)));
    let Some((ordinal, pod)) = next.map(|(ordinal, pod)| (*ordinal, pod)) else {
        return unsettled(None).map(|ordinal| Plan::Wait(Wait::Pod(ordinal)));
    };
    if pod.is_terminating {
        return Some(Plan::Wait(Wait::Pod(ordinal)));
    }
    if let Some(other) = unsettled(Some(ordinal)) {
        return Some(Plan::Wait(Wait::Pod(other)));
    }
    let is_alone = group.voters().count() == 1;
    Some(if leads(ordinal) && !is_alone {
        hand_over(observed, group, group.leader)
    } else {
        Plan::Do(Step::Evict { ordinal })
    })
}

/// Whether the replica at an ordinal serves and has a vote that counts.
fn is_settled(observed: &Observed, group: &Group, ordinal: u32) -> bool {
    let serves = observed.pods.get(&ordinal).is_some_and(|pod| pod.is_ready && !pod.is_terminating);
    serves && group.at(ordinal).any(|(_, member)| member.is_voter && member.is_in_contact && member.is_caught_up)
}

//! What to do next for the replicas without a vote. None of it can cost the quorum: they are learners of the group, which come
//! and go as people or autoscalers like.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Voice;

/// What is seen of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frontends {
    /// By their ordinals.
    pub pods: BTreeMap<u32, Frontend>,
    /// Learners that are reached where a frontend is, with its ordinal.
    pub learners: BTreeMap<u64, u32>,
}

/// One pod.
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own, and any of them go together")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frontend {
    pub voice: Voice,
    /// It serves.
    pub is_ready: bool,
    pub is_terminating: bool,
    /// It runs with other inputs than those of now.
    pub is_outdated: bool,
    /// Its process ended since the cluster has taken its node out.
    pub is_stranded: bool,
}

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tending {
    /// The cluster forgets a learner whose pod is no more: it would go on calling it.
    Forget { node: u64 },
    /// A pod starts anew: it belongs to no cluster that there is, or its node was taken out.
    Renew { ordinal: u32 },
    /// A pod is evicted, so that it starts with the inputs of now.
    Restart { ordinal: u32 },
}

/// The next thing, if there is one; `cluster` is the one that has a leader.
pub(crate) fn tend(frontends: &Frontends, cluster: Uuid) -> Option<Tending> {
    let is_of_another = |pod: &Frontend| matches!(pod.voice, Voice::Member { cluster: of, .. } if of != cluster);
    let lost = frontends.pods.iter().filter(|(_, pod)| !pod.is_terminating);
    if let Some((ordinal, _)) = lost.clone().find(|(_, pod)| pod.is_stranded || is_of_another(pod)) {
        return Some(Tending::Renew { ordinal: *ordinal });
    }
    // A pod that says nothing may be the learner, and one that is blank will be another.
    let is_forgotten = |node: u64, ordinal: u32| match frontends.pods.get(&ordinal).map(|pod| pod.voice) {
        None => true,
        Some(Voice::Member { cluster: of, node: now }) => of == cluster && now != node,
        Some(Voice::Silent | Voice::Blank { .. }) => false,
    };
    if let Some((node, _)) = frontends.learners.iter().find(|(node, ordinal)| is_forgotten(**node, **ordinal)) {
        return Some(Tending::Forget { node: *node });
    }
    let all_serve = frontends.pods.values().all(|pod| pod.is_terminating || pod.is_ready || pod.is_outdated);
    let outdated = lost.filter(|(_, pod)| pod.is_outdated && all_serve).min_by_key(|(_, pod)| pod.is_ready);
    outdated.map(|(ordinal, _)| Tending::Restart { ordinal: *ordinal })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: Uuid = Uuid::from_u128(7);

    fn member(node: u64) -> Voice {
        Voice::Member { cluster: CLUSTER, node }
    }

    fn ready(voice: Voice) -> Frontend {
        Frontend { voice, is_ready: true, is_terminating: false, is_outdated: false, is_stranded: false }
    }

    fn told(pods: &[(u32, Frontend)], learners: &[(u64, u32)]) -> Option<Tending> {
        let frontends =
            Frontends { pods: pods.iter().copied().collect(), learners: learners.iter().copied().collect() };
        tend(&frontends, CLUSTER)
    }

    #[test]
    fn learners_whose_pods_are_no_more_are_forgotten_and_no_others() {
        assert_eq!(told(&[(0, ready(member(4)))], &[(4, 0)]), None);
        assert_eq!(told(&[(0, ready(member(4)))], &[(4, 0), (5, 1)]), Some(Tending::Forget { node: 5 }));
        assert_eq!(told(&[(0, ready(member(6)))], &[(4, 0), (6, 0)]), Some(Tending::Forget { node: 4 }));
        for voice in [Voice::Silent, Voice::Blank { volume: Uuid::nil() }] {
            let pod = Frontend { is_ready: false, ..ready(voice) };
            assert_eq!(told(&[(0, pod)], &[(4, 0)]), None, "{voice:?}");
        }
    }

    #[test]
    fn a_pod_of_another_cluster_or_that_was_taken_out_starts_anew() {
        let other = ready(Voice::Member { cluster: Uuid::nil(), node: 4 });
        assert_eq!(told(&[(2, other)], &[]), Some(Tending::Renew { ordinal: 2 }));
        let stranded = Frontend { is_stranded: true, is_ready: false, ..ready(Voice::Silent) };
        assert_eq!(told(&[(1, stranded)], &[]), Some(Tending::Renew { ordinal: 1 }));
        assert_eq!(told(&[(1, Frontend { is_terminating: true, ..stranded })], &[]), None);
    }

    #[test]
    fn they_are_restarted_one_after_the_other() {
        let outdated = |node| Frontend { is_outdated: true, ..ready(member(node)) };
        let learners = [(4, 0), (5, 1)];
        let both = [(0, outdated(4)), (1, outdated(5))];
        assert_eq!(told(&both, &learners), Some(Tending::Restart { ordinal: 0 }));
        let starting = Frontend { is_ready: false, ..ready(Voice::Silent) };
        assert_eq!(told(&[(0, starting), (1, outdated(5))], &learners), None);
        let failing = Frontend { is_ready: false, ..outdated(5) };
        assert_eq!(told(&[(0, outdated(4)), (1, failing)], &learners), Some(Tending::Restart { ordinal: 1 }));
    }
}

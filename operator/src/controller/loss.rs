//! A quorum that is lost for good: found here, told in a condition, and mended by nobody unless people ask for it.

use uuid::Uuid;

use super::observe::ordinal_at;
use crate::admin::Members;
use crate::build::{Wish, pod_name};
use crate::plan::{Observed, Voice};

/// On a Registry: which replica goes on alone, and which cluster is given up by that, as `POD/CLUSTER`.
pub(super) const RECOVER: &str = "roadstead.dev/recover";

/// So many voters are gone with their volumes that those left will never agree again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub cluster: Uuid,
    /// Those that are gone for good: their nodes and pods.
    pub gone: Vec<(u64, String)>,
    pub voters: usize,
    /// Voters that are left, with the newest entry of each; the one with the most first.
    pub left: Vec<Survivor>,
}

/// A voter that is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Survivor {
    pub pod: String,
    pub last_log_index: u64,
}

/// What `answers` of members without a leader, or of a leader that too few answer, come to.
pub(super) fn loss(wish: &Wish, observed: &Observed, answers: &[Members]) -> Option<Loss> {
    let first = answers.first()?;
    let voters: Vec<(u64, Option<u32>)> = first
        .members
        .iter()
        .filter(|member| member.role == "voter")
        .map(|member| (member.node, ordinal_at(wish, &member.address)))
        .collect();
    let named = |at: Option<u32>| at.map_or_else(|| "no pod".to_owned(), |at| pod_name(&wish.name, at));
    let gone = voters.iter().filter(|(node, at)| is_gone(observed, *node, *at));
    let gone: Vec<(u64, String)> = gone.map(|(node, at)| (*node, named(*at))).collect();
    if voters.len() - gone.len() > voters.len() / 2 {
        return None;
    }
    let mut left: Vec<Survivor> = answers
        .iter()
        .filter_map(|answer| {
            let (_, at) = voters.iter().find(|(node, _)| *node == answer.this.node)?;
            Some(Survivor { pod: named(*at), last_log_index: answer.last_log_index })
        })
        .collect();
    left.sort_by(|a, b| b.last_log_index.cmp(&a.last_log_index).then_with(|| a.pod.cmp(&b.pod)));
    Some(Loss { cluster: first.cluster, gone, voters: voters.len(), left })
}

/// Whether what a voter had is not there any more: its pod has a blank volume, another voter's, or one that is tied to a
/// machine that is no more. A pod that says nothing may come back.
fn is_gone(observed: &Observed, node: u64, at: Option<u32>) -> bool {
    let Some(pod) = at.and_then(|at| observed.pods.get(&at)) else { return false };
    pod.is_stranded
        || match pod.voice {
            Voice::Silent => false,
            Voice::Blank { .. } => true,
            Voice::Member { node: other, .. } => other != node,
        }
}

impl Loss {
    /// The one command that goes on with what is left.
    pub(super) fn command(&self, wish: &Wish) -> Option<String> {
        let survivor = self.left.first()?;
        Some(format!(
            "kubectl annotate registry {} -n {} --overwrite {RECOVER}={}/{}",
            wish.name, wish.namespace, survivor.pod, self.cluster
        ))
    }

    /// What is so, what it costs to go on, and how.
    pub(super) fn explain(&self, wish: &Wish) -> String {
        let gone = self.gone.iter().map(|(node, pod)| format!("node {node} ({pod})")).collect::<Vec<_>>().join(" and ");
        let needed = self.voters / 2 + 1;
        let what = format!(
            "{gone} of {} voters are lost for good with their volumes, and {needed} must agree: pulls go on, pushes get 503, and \
             nothing is changed by itself",
            self.voters
        );
        match (self.left.first(), self.command(wish)) {
            (Some(survivor), Some(command)) => format!(
                "{what}. To go on with what {} has, every entry up to {}, and to lose what the others acknowledged without it: {command}",
                survivor.pod, survivor.last_log_index
            ),
            _ => format!("{what}. No voter that is left answers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::admin::{Member, This};
    use crate::build::golden::wish;
    use crate::plan::Pod;

    const CLUSTER: Uuid = Uuid::from_u128(7);

    fn answer(node: u64, last_log_index: u64) -> Members {
        let member = |node: u64| Member {
            node,
            address: format!("home-{}.home-peers.images.svc:5001", node - 1),
            role: "voter".to_owned(),
            lag_entries: None,
            last_contact_ms: None,
        };
        let members = (1..=3).map(member).collect();
        Members { cluster: CLUSTER, leader: None, members, this: This { node }, last_log_index }
    }

    fn observed(voices: [Voice; 3]) -> Observed {
        let pod = |voice| Pod {
            voice,
            is_ready: false,
            is_down: false,
            is_terminating: false,
            is_outdated: false,
            is_stranded: false,
        };
        let pods: BTreeMap<u32, Pod> = (0..).zip(voices.map(pod)).collect();
        Observed { wanted: 3, set: Some(3), pods, ..Observed::default() }
    }

    fn member(node: u64) -> Voice {
        Voice::Member { cluster: CLUSTER, node }
    }

    const BLANK: Voice = Voice::Blank { volume: Uuid::from_u128(9) };

    #[test]
    fn two_of_three_that_are_blank_are_a_loss_and_those_that_say_nothing_are_none() {
        let found = |voices| loss(&wish(), &observed(voices), &[answer(1, 120)]);
        assert_eq!(found([member(1), BLANK, Voice::Silent]), None);
        assert_eq!(found([member(1), Voice::Silent, Voice::Silent]), None);
        let lost = found([member(1), BLANK, BLANK]).unwrap();
        assert_eq!(lost.gone, [(2, "home-1".to_owned()), (3, "home-2".to_owned())]);
        insta::assert_snapshot!(lost.explain(&wish()), @"node 2 (home-1) and node 3 (home-2) of 3 voters are lost for good with their volumes, and 2 must agree: pulls go on, pushes get 503, and nothing is changed by itself. To go on with what home-0 has, every entry up to 120, and to lose what the others acknowledged without it: kubectl annotate registry home -n images --overwrite roadstead.dev/recover=home-0/00000000-0000-0000-0000-000000000007");
        assert_eq!(loss(&wish(), &observed([BLANK; 3]), &[]), None);
    }

    #[test]
    fn the_one_with_the_newest_facts_is_named() {
        let voices = [member(1), member(2), BLANK];
        assert_eq!(loss(&wish(), &observed(voices), &[answer(1, 120), answer(2, 130)]), None);
        // As many as agreed once, in a cluster of five.
        let five = |node, last| {
            let mut answer = answer(node, last);
            answer.members.extend([4, 5].map(|node| Member {
                node,
                address: format!("home-{}.home-peers.images.svc:5001", node - 1),
                ..answer.members[0].clone()
            }));
            answer
        };
        let mut seen = observed([member(1), member(2), BLANK]);
        for at in [3, 4] {
            seen.pods.insert(at, seen.pods[&2].clone());
        }
        let lost = loss(&wish(), &seen, &[five(1, 120), five(2, 130)]).unwrap();
        assert_eq!(lost.left[0], Survivor { pod: "home-1".to_owned(), last_log_index: 130 });
    }
}

//! Judging a change of the members before the group is asked to agree on it: so that no quorum is lost by it.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::impls::BasicNode;

use super::config::ELECTION_MAX_MS;
use super::members::Member;
use super::messages::{ChangeRefusal, MemberChange};

/// Entries that a learner may be behind when it gets a vote: what a follower catches up with in a heartbeat or two.
const CAUGHT_UP: u64 = 1_000;

/// A voter that has not answered the leader for so long is not counted on when members change: after the lease and the
/// longest election timeout, whoever hears nothing stands for election itself if it can.
const CONTACT: Duration = Duration::from_millis(2 * ELECTION_MAX_MS);

/// What a change comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is so already.
    Nothing,
    /// First an earlier change has to be ended; then this one is to be judged anew.
    EndFormer,
    Change(ChangeMembers<u64, BasicNode>),
    Transfer(u64),
}

/// Judges a change by what the leader `me` knows. A change takes two steps, between which both the former voters and the
/// new ones have to agree (joint consensus, section 4.3 of Ongaro's dissertation); a leader that was lost between them, or
/// whose asker gave up there, has left the former change `half_done`.
pub(super) fn plan(
    change: MemberChange,
    members: &[Member],
    half_done: bool,
    me: u64,
    last_index: u64,
) -> Result<Plan, ChangeRefusal> {
    let moves_leadership = matches!(change, MemberChange::TransferLeadership { .. } | MemberChange::HandOver { .. });
    if half_done && !moves_leadership {
        return Ok(Plan::EndFormer);
    }
    let find = |node| members.iter().find(|member| member.node == node).ok_or(ChangeRefusal::UnknownNode(node));
    let unfit = |node, what: &str| Err(ChangeRefusal::Unfit { node, what: what.to_owned() });
    let only = |node| BTreeSet::from([node]);
    let behind = |member: &Member| {
        let lag = member.matched_index.map(|index| last_index.saturating_sub(index));
        lag.is_none_or(|lag| lag > CAUGHT_UP).then_some(ChangeRefusal::Behind { node: member.node, lag })
    };
    match change {
        MemberChange::Promote { node } => match find(node)? {
            member if member.is_voter => Ok(Plan::Nothing),
            // With a vote, one that was lost a moment ago would be missed.
            member if !is_in_contact(member) => Err(ChangeRefusal::Silent(node)),
            member => behind(member).map_or(Ok(Plan::Change(ChangeMembers::AddVoterIds(only(node)))), Err),
        },
        MemberChange::Remove { node } => match find(node) {
            Err(_) => Ok(Plan::Nothing),
            Ok(member) if !member.is_voter => Ok(Plan::Change(ChangeMembers::RemoveNodes(only(node)))),
            Ok(_) => {
                check_quorum_without(node, members, me)?;
                Ok(Plan::Change(ChangeMembers::RemoveVoters(only(node))))
            }
        },
        MemberChange::Replace { lost, by } => match (find(lost), find(by)?) {
            (Err(_), member) if member.is_voter => Ok(Plan::Nothing),
            (Err(refusal), _) => Err(refusal),
            (Ok(_), _) if lost == me => unfit(lost, "the leader"),
            // A node that joined meanwhile has ended the change, and kept whom it was to take out.
            (Ok(lost), member) if !lost.is_voter && member.is_voter => {
                Ok(Plan::Change(ChangeMembers::RemoveNodes(only(lost.node))))
            }
            (Ok(lost), _) if !lost.is_voter => unfit(lost.node, "not a voter"),
            (Ok(_), member) if member.is_voter => unfit(by, "a voter already"),
            (Ok(_), member) if !is_in_contact(member) => Err(ChangeRefusal::Silent(by)),
            (Ok(_), member) => {
                let stay = members.iter().filter(|member| member.is_voter && member.node != lost);
                let voters = stay.map(|member| member.node).chain([by]).collect();
                behind(member).map_or(Ok(Plan::Change(ChangeMembers::ReplaceAllVoters(voters))), Err)
            }
        },
        MemberChange::TransferLeadership { to } => match find(to)? {
            _ if to == me => Ok(Plan::Nothing),
            member if !member.is_voter => Err(ChangeRefusal::NoVote(to)),
            member if !is_in_contact(member) => Err(ChangeRefusal::Silent(to)),
            member => behind(member).map_or(Ok(Plan::Transfer(to)), Err),
        },
        MemberChange::HandOver { from } if from != me => Ok(Plan::Nothing),
        MemberChange::HandOver { .. } => {
            let fit = |member: &&Member| {
                member.node != me && member.is_voter && is_in_contact(member) && behind(member).is_none()
            };
            let nearest = members.iter().filter(fit).max_by_key(|member| member.matched_index);
            nearest.map(|member| Plan::Transfer(member.node)).ok_or(ChangeRefusal::NoSuccessor)
        }
    }
}

pub(super) fn is_in_contact(member: &Member) -> bool {
    member.last_contact.is_some_and(|ago| ago <= CONTACT)
}

/// Refuses to take a voter out where the others could not go on alone.
fn check_quorum_without(node: u64, members: &[Member], me: u64) -> Result<(), ChangeRefusal> {
    let left = || members.iter().filter(|member| member.is_voter && member.node != node);
    let voters = left().count() as u64;
    let needed = voters / 2 + 1;
    let in_contact = left().filter(|member| member.node == me || is_in_contact(member)).count() as u64;
    match voters {
        0 => Err(ChangeRefusal::LastVoter(node)),
        _ if node == me => Err(ChangeRefusal::Leads(node)),
        _ if in_contact < needed => Err(ChangeRefusal::Quorum { node, voters, in_contact, needed }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    const LAST: u64 = 10_000;

    fn member(node: u64, is_voter: bool, lag: u64, contact_ms: Option<u64>) -> Member {
        Member {
            node,
            volume: None,
            address: String::new(),
            is_voter,
            matched_index: Some(LAST - lag),
            last_contact: contact_ms.map(Duration::from_millis),
            reads: Level::FIRST,
        }
    }

    /// Node 1 leads; 2 and 3 vote, and were heard of so long ago.
    fn voters(second: Option<u64>, third: Option<u64>) -> Vec<Member> {
        vec![member(1, true, 0, Some(0)), member(2, true, 5, second), member(3, true, 1, third)]
    }

    fn judge(change: MemberChange, members: &[Member]) -> Result<Plan, ChangeRefusal> {
        plan(change, members, false, 1, LAST)
    }

    #[test]
    fn what_a_lost_leader_has_left_half_done_is_ended_first() {
        // Node 4 was to replace node 3 and has a vote already, as has node 3 still.
        let members = [voters(Some(50), None), vec![member(4, true, 0, Some(50))]].concat();
        let replace = MemberChange::Replace { lost: 3, by: 4 };
        for change in [replace, MemberChange::Promote { node: 4 }, MemberChange::Remove { node: 3 }] {
            assert_eq!(plan(change, &members, true, 1, LAST), Ok(Plan::EndFormer));
        }
        let hand_over = MemberChange::HandOver { from: 1 };
        assert_eq!(plan(hand_over, &members, true, 1, LAST), Ok(Plan::Transfer(4)), "a replica that ends cannot wait");
        // It was ended by whoever joined then, which takes nobody out.
        let ended = vec![members[0].clone(), members[1].clone(), member(3, false, 1, None), members[3].clone()];
        let taken_out = Ok(Plan::Change(ChangeMembers::RemoveNodes(BTreeSet::from([3]))));
        assert_eq!(judge(replace, &ended), taken_out);
    }

    #[test]
    fn no_voter_goes_whom_the_others_need() {
        let remove = |node| MemberChange::Remove { node };
        let taken_out = |node| Ok(Plan::Change(ChangeMembers::RemoveVoters(BTreeSet::from([node]))));
        let sound = voters(Some(50), Some(50));
        assert_eq!(judge(remove(2), &sound), taken_out(2));
        assert_eq!(judge(remove(1), &sound), Err(ChangeRefusal::Leads(1)));
        assert_eq!(judge(remove(9), &sound), Ok(Plan::Nothing));
        for silent in [None, Some(60_000)] {
            let one_lost = voters(Some(50), silent);
            assert_eq!(judge(remove(3), &one_lost), taken_out(3), "the lost one may go");
            let refusal = ChangeRefusal::Quorum { node: 2, voters: 2, in_contact: 1, needed: 2 };
            assert_eq!(judge(remove(2), &one_lost), Err(refusal));
        }
        assert_eq!(judge(remove(1), &sound[..1]), Err(ChangeRefusal::LastVoter(1)));
        let with_learner = [voters(None, None), vec![member(4, false, 0, None)]].concat();
        let removed = Ok(Plan::Change(ChangeMembers::RemoveNodes(BTreeSet::from([4]))));
        assert_eq!(judge(remove(4), &with_learner), removed, "a learner has no part in a quorum");
    }

    #[test]
    fn leadership_goes_to_a_voter_that_can_take_it() {
        let transfer = |to| MemberChange::TransferLeadership { to };
        let hand_over = MemberChange::HandOver { from: 1 };
        let sound = [voters(Some(50), Some(50)), vec![member(4, false, 0, Some(50))]].concat();
        assert_eq!(judge(transfer(2), &sound), Ok(Plan::Transfer(2)));
        assert_eq!(judge(transfer(1), &sound), Ok(Plan::Nothing));
        assert_eq!(judge(transfer(4), &sound), Err(ChangeRefusal::NoVote(4)));
        assert_eq!(judge(transfer(9), &sound), Err(ChangeRefusal::UnknownNode(9)));
        assert_eq!(judge(hand_over, &sound), Ok(Plan::Transfer(3)), "the nearest voter");
        assert_eq!(judge(MemberChange::HandOver { from: 2 }, &sound), Ok(Plan::Nothing), "another leads already");
        let silent = voters(Some(50), Some(60_000));
        assert_eq!(judge(hand_over, &silent), Ok(Plan::Transfer(2)));
        assert_eq!(judge(transfer(3), &silent), Err(ChangeRefusal::Silent(3)));
        assert_eq!(judge(hand_over, &voters(None, None)), Err(ChangeRefusal::NoSuccessor));
        assert_eq!(judge(hand_over, &sound[..1]), Err(ChangeRefusal::NoSuccessor));
    }

    #[test]
    fn a_learner_gets_a_vote_when_it_has_caught_up() {
        let promote = MemberChange::Promote { node: 4 };
        let with = |lag| [voters(Some(50), Some(50)), vec![member(4, false, lag, Some(50))]].concat();
        let silent = [voters(Some(50), Some(50)), vec![member(4, false, 0, Some(60_000))]].concat();
        assert_eq!(judge(promote, &silent), Err(ChangeRefusal::Silent(4)), "its vote would be missed");
        let replace = MemberChange::Replace { lost: 3, by: 4 };
        assert_eq!(judge(replace, &silent), Err(ChangeRefusal::Silent(4)));
        let promoted = Ok(Plan::Change(ChangeMembers::AddVoterIds(BTreeSet::from([4]))));
        assert_eq!(judge(promote, &with(CAUGHT_UP)), promoted);
        let refusal = ChangeRefusal::Behind { node: 4, lag: Some(CAUGHT_UP + 1) };
        assert_eq!(judge(promote, &with(CAUGHT_UP + 1)), Err(refusal));
        assert_eq!(judge(MemberChange::Promote { node: 2 }, &with(0)), Ok(Plan::Nothing));
    }
}

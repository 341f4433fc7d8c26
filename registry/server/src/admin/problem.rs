//! What the admin API answers where it does not do what it is asked.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use roadstead_domain::Fault;
use roadstead_metadata::ChangeRefusal;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::api::json;

/// The body of every answer that is not 2xx; and, in others, why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    /// For programs.
    pub code: Code,
    /// For people: what is so, and what can be done.
    pub message: String,
}

/// Why something was not done. Codes are added, never changed; whoever does not know one goes by the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    /// The body cannot be read.
    BadRequest,
    /// This release has no such path or method.
    UnknownPath,
    /// The cluster has no such node.
    UnknownNode,
    /// The same is under way.
    Busy,
    /// Another change of the members is under way.
    ChangeInProgress,
    /// The node is behind.
    NotCaughtUp,
    /// The node leads.
    IsLeader,
    /// The node is the only voter.
    LastVoter,
    /// The voters that would be left could not agree.
    QuorumAtRisk,
    /// The node has no vote.
    NoVote,
    /// The node does not answer the leader.
    NotInContact,
    /// No other voter could lead.
    NoSuccessor,
    /// The node is not what it would have to be.
    Unfit,
    /// Another volume was meant.
    OtherVolume,
    /// It is in another cluster.
    HasCluster,
    /// It is in no cluster yet.
    NoCluster,
    /// No leader is known, and nothing was done.
    NoLeader,
    /// It cannot be done without a loss, to which nobody has agreed.
    NeedsForce,
    /// It may have been done, or be done yet.
    OutcomeUnknown,
    /// The facts or the blob store fail.
    Unavailable,
    /// A code of a later release.
    #[serde(other)]
    Other,
}

impl Code {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::UnknownPath | Self::UnknownNode => StatusCode::NOT_FOUND,
            Self::Busy
            | Self::ChangeInProgress
            | Self::NotCaughtUp
            | Self::IsLeader
            | Self::LastVoter
            | Self::QuorumAtRisk
            | Self::NoVote
            | Self::NotInContact
            | Self::NoSuccessor
            | Self::Unfit
            | Self::OtherVolume
            | Self::HasCluster
            | Self::NeedsForce => StatusCode::CONFLICT,
            Self::NoCluster | Self::NoLeader | Self::OutcomeUnknown | Self::Unavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Other => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What can be done.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::BadRequest => "look at the request",
            Self::UnknownPath => "use the `roadstead` that the registry was started with",
            Self::UnknownNode => "`roadstead members` lists the nodes",
            Self::Busy => "wait for it to end",
            Self::ChangeInProgress => "wait for it to end, then look at `roadstead members`",
            Self::NotCaughtUp => "wait until its lag in `roadstead members` is small, then try again",
            Self::IsLeader => "hand its leadership over with `roadstead leadership transfer`, then try again",
            Self::LastVoter => {
                "a registry that is not wanted any more is stopped and its folder deleted; to replace the replica, let \
                 another one join and get a vote first"
            }
            Self::QuorumAtRisk => {
                "bring those back that are not in contact, or remove them first; `roadstead members` shows which"
            }
            Self::NoVote => "`roadstead members promote` gives it one",
            Self::NotInContact => "choose one that answers: `roadstead members` shows which, by the last contact",
            Self::NoSuccessor => "start the other voters, or wait until they have caught up",
            Self::Unfit => "`roadstead members` shows what it is",
            Self::OtherVolume => "ask the replica that has that volume",
            Self::HasCluster => "a volume stays in its cluster: give the replica an empty one",
            Self::NoCluster => "wait until it has joined one, or let it begin one",
            Self::NoLeader => {
                "start the other voters; if most of them are lost for good, read `roadstead recover --help`"
            }
            Self::NeedsForce => "bring the other region back and try again; or accept the loss with `--force`",
            Self::OutcomeUnknown => "look at `roadstead members`, then try again: asking twice does no harm",
            Self::Unavailable | Self::Other => "look at the registry's log",
        }
    }
}

impl Problem {
    /// Says why, and what can be done.
    pub(super) fn new(code: Code, why: impl std::fmt::Display) -> Self {
        Self { code, message: format!("{why}; {}", code.advice()) }
    }

    /// The same without what can be done, where that is said by other means.
    pub(super) fn why(&self) -> &str {
        let advice = self.message.strip_suffix(self.code.advice());
        advice.and_then(|why| why.strip_suffix("; ")).unwrap_or(&self.message)
    }
}

impl From<ChangeRefusal> for Problem {
    fn from(refusal: ChangeRefusal) -> Self {
        let code = match &refusal {
            ChangeRefusal::UnknownNode(_) => Code::UnknownNode,
            ChangeRefusal::Unfit { .. } => Code::Unfit,
            ChangeRefusal::InProgress => Code::ChangeInProgress,
            ChangeRefusal::Unknown(_) => Code::OutcomeUnknown,
            ChangeRefusal::Behind { .. } => Code::NotCaughtUp,
            ChangeRefusal::LastVoter(_) => Code::LastVoter,
            ChangeRefusal::Leads(_) => Code::IsLeader,
            ChangeRefusal::Quorum { .. } => Code::QuorumAtRisk,
            ChangeRefusal::NoVote(_) => Code::NoVote,
            ChangeRefusal::Silent(_) => Code::NotInContact,
            ChangeRefusal::NoSuccessor => Code::NoSuccessor,
            ChangeRefusal::NoLeader(_) => Code::NoLeader,
        };
        Self::new(code, refusal)
    }
}

/// Unlike clients of the registry, whoever is here is told all of it.
impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        error!(reason = %fault, "the admin API could not answer: {fault}");
        Self::new(Code::Unavailable, fault)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        json(self.code.status(), &self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of each.
    pub(crate) const CODES: [Code; 20] = [
        Code::BadRequest,
        Code::UnknownPath,
        Code::UnknownNode,
        Code::Busy,
        Code::ChangeInProgress,
        Code::NotCaughtUp,
        Code::IsLeader,
        Code::LastVoter,
        Code::QuorumAtRisk,
        Code::NoVote,
        Code::NotInContact,
        Code::NoSuccessor,
        Code::Unfit,
        Code::OtherVolume,
        Code::HasCluster,
        Code::NoCluster,
        Code::NoLeader,
        Code::NeedsForce,
        Code::OutcomeUnknown,
        Code::Unavailable,
    ];

    #[test]
    fn why_and_what_to_do_are_told_apart_again() {
        for code in CODES {
            let problem = Problem::new(code, "it is so; and not otherwise");
            assert_eq!(problem.why(), "it is so; and not otherwise");
            assert!(problem.message.ends_with(code.advice()));
        }
        let later: Problem = serde_json::from_str(r#"{"code": "of_a_later_release", "message": "why"}"#).unwrap();
        assert_eq!((later.code, later.why()), (Code::Other, "why"));
    }
}

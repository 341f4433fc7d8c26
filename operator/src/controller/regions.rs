//! What the status says of regions: of its home if a registry is a mirror, of its mirrors if it has some.

use roadstead_crds::{Registry, RegistryStatus, UpstreamStatus};

use super::context::Weight;
use super::lag::{self, IN_SYNC, UNKNOWN};
use super::mirrors::Joined;
use super::observe::Sight;
use super::status::{Finding, condition};
use crate::admin::Following;
use crate::build::Wish;

/// Said of a mirror.
pub(super) const UPSTREAM_IN_SYNC: &str = "UpstreamInSync";

/// Said of a home that has mirrors.
const MIRRORS_JOINED: &str = "MirrorsJoined";

/// Adds to a status what it says of regions. What is not known now stays as it was said before.
pub(super) fn add(
    status: &mut RegistryStatus,
    registry: &Registry,
    wish: Option<&Wish>,
    sight: Option<&Sight>,
    joined: Option<Joined>,
) {
    let before = registry.status.clone().unwrap_or_default();
    let new = |kind: &str, finding: Finding| condition(&before, kind, finding, registry.metadata.generation);
    let former = |kind: &str| before.conditions.iter().find(|former| former.type_ == kind).cloned();
    let is_home = sight.and_then(|sight| sight.region.as_ref()).is_some_and(|region| region.standing == "home");
    if is_home && sight.is_some_and(|sight| sight.following.is_none()) {
        // It was promoted, and follows nobody, whatever it is given still.
        status.upstream = None;
    } else if registry.spec.upstream.is_some() {
        let following = sight.and_then(|sight| sight.following.as_ref());
        let known = before.upstream.as_ref();
        if let (Some(found), Some(following)) = (wish.and_then(|wish| wish.upstream.as_ref()), following) {
            let lag = lag::step(following.lag_seconds, known.map(|known| &*known.lag));
            let phase = phase(following, lag);
            status.conditions.push(new(UPSTREAM_IN_SYNC, in_sync(following, phase, lag)));
            status.upstream =
                Some(UpstreamStatus { endpoint: found.endpoint.clone(), lag: lag.to_owned(), phase: phase.to_owned() });
        } else {
            let unseen = || {
                let message = "no replica has said yet how far it is".to_owned();
                new(UPSTREAM_IN_SYNC, Finding { status: "Unknown", reason: "NotSeen", message })
            };
            status.conditions.push(former(UPSTREAM_IN_SYNC).unwrap_or_else(unseen));
        }
    }
    if registry.spec.mirrors.is_empty() {
        status.mirrors.clear();
    } else if let Some(joined) = joined {
        status.conditions.push(new(MIRRORS_JOINED, all_joined(&joined)));
        status.mirrors = joined.mirrors;
    } else {
        status.conditions.extend(former(MIRRORS_JOINED));
    }
}

fn phase(following: &Following, lag: &str) -> &'static str {
    match following {
        Following { problem: Some(_), .. } => "Blocked",
        Following { home_is_there: false, .. } => "HomeAway",
        Following { comparing: true, .. } => "Comparing",
        _ if lag == IN_SYNC => "InSync",
        _ => "CatchingUp",
    }
}

fn in_sync(following: &Following, phase: &'static str, lag: &str) -> Finding {
    let behind = || match lag {
        UNKNOWN => "it is not known how far what is shown is behind".to_owned(),
        lag => format!("what is shown is {lag} behind"),
    };
    let message = match (&following.problem, phase) {
        (Some(problem), _) => problem.clone(),
        (None, "InSync") => "what home has is shown".to_owned(),
        (None, "HomeAway") => format!("home does not answer: what is here is served; {}", behind()),
        (None, "Comparing") => format!("it is compared with home anew; {}", behind()),
        (None, _) => behind(),
    };
    Finding { status: if phase == "InSync" { "True" } else { "False" }, reason: phase, message }
}

fn all_joined(joined: &Joined) -> Finding {
    match &joined.waiting {
        Some(waiting) => Finding { status: "False", reason: waiting.reason(), message: waiting.to_string() },
        None => Finding { status: "True", reason: "Joined", message: "each mirror can follow".to_owned() },
    }
}

/// What people are told when a mirror comes to be in sync, or ceases to be.
pub(super) fn news(registry: &Registry, status: &RegistryStatus) -> Option<(Weight, String, String)> {
    let of = |status: &RegistryStatus| {
        let found = status.conditions.iter().find(|condition| condition.type_ == UPSTREAM_IN_SYNC)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    };
    let (now, reason, message) = of(status)?;
    let before = registry.status.as_ref().and_then(of);
    if now == "Unknown" || before.is_some_and(|(_, before, _)| before == reason) {
        return None;
    }
    // A mirror that has just been made, and is on its way, is as it should be.
    let is_fine = matches!(&*reason, "InSync" | "CatchingUp" | "Comparing");
    Some((if is_fine { Weight::Normal } else { Weight::Warning }, reason, message))
}

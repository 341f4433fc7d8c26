//! Which region is home, as `topology` declares it: the registry of the region that is to be home is promoted, and everybody
//! says what is waited for.
//!
//! ```text
//!  primary: eu, epoch: 2 --eu: a mirror in epoch 1--> promoted, by a handover, or by force if that was agreed to
//!                        --us: home in epoch 1------> waits; a mirror with a handover fences it, in epoch 2
//!                        --eu: a mirror in epoch 2--> promoted: the handover to it did not end, and is tried again
//!  the file of before: primary: us, epoch: 1 -------> nothing is done, and it is said why
//! ```

use roadstead_crds::{Registry, RegistryStatus, Topology, TopologyStatus};

use super::context::{Context, Weight};
use super::lag;
use super::observe::Sight;
use super::status::{Finding, condition};
use crate::admin::{AdminError, Credentials, Problem, Promotion, Region};

/// Said of every registry that declares a topology.
const AS_DECLARED: &str = "TopologyAsDeclared";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Course {
    /// Nothing, and what is said.
    Say(bool, &'static str, String),
    /// This region becomes home.
    Promote { epoch: u64, force: bool },
}

/// Has a promotion done that is declared and not done yet, and adds to a status what it says of all that. What is not known
/// now stays as it was said before.
pub(super) async fn keep(
    status: &mut RegistryStatus,
    context: &Context,
    registry: &Registry,
    sight: &Sight,
    credentials: &Credentials,
) {
    let before = registry.status.clone().unwrap_or_default();
    let Some(topology) = &registry.spec.topology else {
        status.topology = None;
        return;
    };
    let target = sight.member_target(sight.observed.group.as_ref().map(|group| group.leader));
    let (Some(region), Some(target)) = (&sight.region, target) else {
        status.conditions.extend(before.conditions.iter().find(|former| former.type_ == AS_DECLARED).cloned());
        return;
    };
    let own = registry.spec.region.as_deref().unwrap_or_default();
    let finding = match course(topology, own, region) {
        Course::Say(is_so, reason, message) => finding(is_so, reason, message),
        Course::Promote { .. } if registry.spec.paused => {
            finding(false, "Paused", "this region is to be home; nothing is done while `paused` is true".to_owned())
        }
        Course::Promote { epoch, force } => {
            let promoted = credentials.promote_region(target, epoch, force).await;
            let under_way = match &promoted {
                Err(error) if goes_on(error) => credentials.promotion(target).await.unwrap_or_default(),
                _ => Promotion::default(),
            };
            promotion(promoted, under_way, epoch, sight)
        }
    };
    if is_news(&before, &finding) {
        let weight =
            if finding.status == "True" || finding.reason == "Promoting" { Weight::Normal } else { Weight::Warning };
        context.tell(registry, weight, finding.reason, finding.message.clone()).await;
    }
    let kept_aside = sight.kept_aside.map(|kept| i64::try_from(kept).unwrap_or(i64::MAX));
    if let Some(kept) = kept_aside.filter(|_| before.topology.as_ref().is_none_or(|before| before.kept_aside.is_none()))
    {
        let note = format!(
            "{kept} changes that were acknowledged here are not at the new home and are kept aside: `roadstead aside` lists \
             them, pushes them again there, or forgets them"
        );
        context.tell(registry, Weight::Warning, "KeptAside", note).await;
    }
    status.conditions.push(condition(&before, AS_DECLARED, finding, registry.metadata.generation));
    status.topology = Some(TopologyStatus {
        standing: standing(region).to_owned(),
        epoch: i64::try_from(region.epoch).unwrap_or(i64::MAX),
        kept_aside,
    });
}

fn is_news(before: &RegistryStatus, finding: &Finding) -> bool {
    let known = before.conditions.iter().find(|former| former.type_ == AS_DECLARED);
    known.map_or(finding.status != "True", |known| known.reason != finding.reason)
}

fn finding(is_so: bool, reason: &'static str, message: String) -> Finding {
    Finding { status: if is_so { "True" } else { "False" }, reason, message }
}

fn standing(region: &Region) -> &'static str {
    match &*region.standing {
        "home" => "Home",
        "mirror" => "Mirror",
        _ => "Fenced",
    }
}

/// Decides by what is declared, what this region is called, and what it is.
fn course(topology: &Topology, own: &str, region: &Region) -> Course {
    let Topology { primary, force, .. } = topology;
    let epoch = u64::try_from(topology.epoch).unwrap_or_default();
    let Region { epoch: known, handing_over, .. } = region;
    let say = |reason, message| Course::Say(false, reason, message);
    match (primary == own, standing(region)) {
        (true, "Home") => Course::Say(true, "IsHome", format!("this region is home, in epoch {known}")),
        (false, "Fenced") if *handing_over => say(
            "HandingOver",
            format!(
                "this region takes no pushes while {primary} catches up and takes over, in epoch {known}; if that does not \
                 come, `roadstead demote --cancel` lets this one go on"
            ),
        ),
        (false, "Fenced") if epoch <= *known => {
            let message = format!("this region was home before epoch {known}, and takes no pushes: set `upstream` to have it follow");
            Course::Say(true, "IsFenced", message)
        }
        (false, "Mirror") if epoch <= *known => {
            Course::Say(true, "IsMirror", format!("this region is a mirror, and home is elsewhere in epoch {known}"))
        }
        // It may have been told of this very epoch, as its own, by a handover that did not end.
        (true, "Mirror") if epoch > *known || (epoch == *known && region.is_of_itself()) => {
            Course::Promote { epoch, force: *force == Some(topology.epoch) }
        }
        _ if epoch <= *known => say(
            "Stale",
            format!(
                "`topology` says that {primary} is home in epoch {epoch}, and home has moved without it: it is epoch {known}. \
                 Nothing is done: say where home is now, with `epoch: {known}`, or move it, with `epoch: {}`",
                known + 1
            ),
        ),
        (true, _) => say(
            "NotFollowing",
            "this region was home and is fenced: it has to follow the home since, by `upstream`, before it can be home again"
                .to_owned(),
        ),
        (false, "Home") => say(
            "WaitingForPrimary",
            format!("{primary} is to be home in epoch {epoch}: it takes over when it has caught up; until then pushes are taken here"),
        ),
        (false, _) => say("WaitingForPrimary", format!("{primary} is to be home in epoch {epoch}, which is not heard of yet")),
    }
}

/// Whether a promotion may go on of which this was answered.
fn goes_on(error: &AdminError) -> bool {
    !matches!(error, AdminError::Refused { code, .. } if code != "busy")
}

/// What is said of an attempt; `under_way` is what is known of one that goes on. Until one succeeds, it is said why one failed:
/// the next may wait for the same.
fn promotion(promoted: Result<Region, AdminError>, under_way: Promotion, epoch: u64, sight: &Sight) -> Finding {
    match promoted {
        Ok(region) => finding(true, "IsHome", format!("this region is home, in epoch {}", region.epoch)),
        Err(AdminError::Refused { code, message }) if code != "busy" => refused(&code, &message, epoch, sight),
        Err(_) => {
            if let Some(Problem { code, message }) = under_way.failure {
                return refused(&code, &format!("{message}. It is tried again by itself"), epoch, sight);
            }
            let awaits = under_way.awaits.unwrap_or_else(|| "home stands still while it catches up".to_owned());
            finding(false, "Promoting", format!("this region takes over, in epoch {epoch}: {awaits}"))
        }
    }
}

fn refused(code: &str, message: &str, epoch: u64, sight: &Sight) -> Finding {
    if code != "needs_force" {
        return finding(false, "NotPromoted", message.to_owned());
    }
    let seconds = sight.following.as_ref().and_then(|following| following.lag_seconds);
    let lost = match lag::step(seconds, None) {
        lag::UNKNOWN => "it is not known how much".to_owned(),
        lag => format!("the lag is {lag}"),
    };
    let message = format!(
        "{message}. To go on without that, set `topology.force: {epoch}`: what home has acknowledged and this region does not \
         have is missing here then ({lost}), and is kept aside there when it is back"
    );
    finding(false, "NeedsForce", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(primary: &str, epoch: i64, force: Option<i64>) -> Topology {
        Topology { primary: primary.to_owned(), epoch, force }
    }

    fn region(standing: &str, epoch: u64) -> Region {
        Region { standing: standing.to_owned(), epoch, home: None, cluster: None, handing_over: false }
    }

    /// A mirror that has heard that an epoch is that of a cluster.
    fn mirror(cluster: &str, epoch: u64, home: &str) -> Region {
        Region { home: Some(home.to_owned()), cluster: Some(cluster.to_owned()), ..region("mirror", epoch) }
    }

    /// Whether it is as declared, and the reason; of a promotion, its epoch and whether by force.
    fn said(topology: &Topology, own: &str, region: &Region) -> (bool, String) {
        match course(topology, own, region) {
            Course::Say(is_so, reason, _) => (is_so, reason.to_owned()),
            Course::Promote { epoch, force } => (false, format!("Promote {epoch} {force}")),
        }
    }

    #[test]
    fn the_declared_region_is_promoted_once_and_the_others_wait() {
        let move_to_eu = declared("eu", 2, None);
        for (own, seen, expected) in [
            ("eu", region("mirror", 1), (false, "Promote 2 false")),
            ("us", region("home", 1), (false, "WaitingForPrimary")),
            ("asia", region("mirror", 1), (false, "WaitingForPrimary")),
            ("us", Region { handing_over: true, ..region("fenced", 2) }, (false, "HandingOver")),
            ("eu", region("home", 2), (true, "IsHome")),
            ("us", region("fenced", 2), (true, "IsFenced")),
            ("us", region("mirror", 2), (true, "IsMirror")),
            ("asia", region("mirror", 2), (true, "IsMirror")),
        ] {
            let (is_so, reason) = said(&move_to_eu, own, &seen);
            assert_eq!((is_so, &*reason), expected, "{own} as {seen:?}");
        }
    }

    #[test]
    fn a_handover_that_did_not_end_is_gone_on_with() {
        let move_to_eu = declared("eu", 2, None);
        let forced = declared("eu", 2, Some(2));
        for (topology, own, seen, expected) in [
            (&move_to_eu, "eu", mirror("e", 2, "e"), (false, "Promote 2 false")),
            (&forced, "eu", mirror("e", 2, "e"), (false, "Promote 2 true")),
            (&declared("eu", 3, Some(2)), "eu", mirror("e", 2, "e"), (false, "Promote 3 false")),
            (&move_to_eu, "asia", mirror("a", 2, "e"), (true, "IsMirror")),
            // The epoch is that of another one, or home has taken it back, or it was moved by hand meanwhile.
            (&forced, "eu", mirror("e", 2, "a"), (false, "Stale")),
            (&forced, "eu", mirror("e", 3, "u"), (false, "Stale")),
            (&forced, "eu", mirror("e", 3, "e"), (false, "Stale")),
            (&declared("us", 2, Some(2)), "eu", mirror("e", 2, "e"), (true, "IsMirror")),
            // Of a home that was never moved no cluster is told.
            (&declared("eu", 1, Some(1)), "eu", region("mirror", 1), (false, "Stale")),
        ] {
            let (is_so, reason) = said(topology, own, &seen);
            assert_eq!((is_so, &*reason), expected, "{own} as {seen:?}");
        }
    }

    #[test]
    fn the_file_of_before_moves_nothing() {
        let of_before = declared("us", 1, None);
        for (own, seen) in [("us", region("mirror", 2)), ("us", region("fenced", 2)), ("eu", region("home", 2))] {
            let Course::Say(false, "Stale", message) = course(&of_before, own, &seen) else {
                panic!("{own} as {seen:?}")
            };
            assert!(message.contains("epoch: 2") && message.contains("epoch: 3"), "{message}");
        }
        // Nor does one that says the same number of another region, as after a promotion by hand.
        assert_eq!(said(&declared("asia", 2, None), "asia", &region("mirror", 2)), (false, "Stale".to_owned()));
    }

    #[test]
    fn force_is_agreed_to_for_one_epoch() {
        let mirror = region("mirror", 1);
        assert_eq!(said(&declared("eu", 2, Some(2)), "eu", &mirror).1, "Promote 2 true");
        assert_eq!(said(&declared("eu", 3, Some(2)), "eu", &mirror).1, "Promote 3 false");
    }

    #[test]
    fn home_again_it_has_to_follow_first() {
        assert_eq!(said(&declared("us", 3, None), "us", &region("fenced", 2)).1, "NotFollowing");
        assert_eq!(said(&declared("us", 3, None), "us", &region("mirror", 2)).1, "Promote 3 false");
    }

    fn no(code: &str) -> AdminError {
        AdminError::Refused { code: code.to_owned(), message: "home does not answer".to_owned() }
    }

    fn came_to(promoted: Result<Region, AdminError>, under_way: Promotion) -> (&'static str, String) {
        let Finding { reason, message, .. } = promotion(promoted, under_way, 2, &Sight::default());
        (reason, message)
    }

    #[test]
    fn what_an_attempt_came_to_says_what_it_would_cost() {
        let (reason, message) = came_to(Err(no("needs_force")), Promotion::default());
        assert_eq!(reason, "NeedsForce");
        assert!(message.contains("topology.force: 2") && message.contains("kept aside"), "{message}");
        for (attempt, expected) in [
            (Err(no("busy")), "Promoting"),
            (Err(AdminError::Silent("nothing in 3 s".to_owned())), "Promoting"),
            (Err(no("not_caught_up")), "NotPromoted"),
            (Ok(region("home", 2)), "IsHome"),
        ] {
            assert_eq!(came_to(attempt, Promotion::default()).0, expected);
        }
    }

    #[test]
    fn an_attempt_that_nobody_waits_for_says_what_it_waits_for_and_why_the_one_before_failed() {
        let awaits = Some("what is missing up to its change 300 is brought".to_owned());
        let under_way = Promotion { awaits: awaits.clone(), failure: None };
        let (reason, message) = came_to(Err(no("busy")), under_way);
        assert_eq!(reason, "Promoting");
        assert!(message.ends_with("up to its change 300 is brought"), "{message}");

        let failed = |code: &str| {
            let problem = Problem { code: code.to_owned(), message: "it has not caught up within 60 s".to_owned() };
            Promotion { awaits: awaits.clone(), failure: Some(problem) }
        };
        // Whether the answer came or not, it is the same: a condition that changes with each look is none.
        for answer in ["busy", "silent"] {
            let error = || if answer == "busy" { no("busy") } else { AdminError::Silent("nothing in 3 s".to_owned()) };
            let (reason, message) = came_to(Err(error()), failed("needs_force"));
            assert_eq!(reason, "NeedsForce", "{answer}");
            assert!(message.contains("within 60 s") && message.contains("topology.force: 2"), "{message}");
            assert_eq!(came_to(Err(error()), failed("not_caught_up")).0, "NotPromoted", "{answer}");
        }
    }
}

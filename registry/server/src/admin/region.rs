//! `roadstead promote`: which region is home.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use roadstead_domain::{Fault, Registry, rfc3339};
use roadstead_geo::{Lag, MAX_NOT_WHOLE, Mirror, Obstacle, Outlook, PromoteError, Promoted};
use roadstead_metadata::{Change, ChangeKind, Region, Standing};
use serde::{Deserialize, Serialize};

use super::api::Admin;
use super::client::{Client, block_on};
use super::members::uuid;
use super::problem::{Code, Problem};
use super::table::bytes;
use crate::failure::Failure;

const REGION: &str = "/admin/v1/region";
const PROMOTION: &str = "/admin/v1/promotion";

/// The longest answer to a question that is read.
const MAX_CONFIRMATION: u64 = 64;

/// The answer of `GET /admin/v1/region`. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RegionView {
    /// `home`, `mirror` or `fenced`.
    pub standing: String,
    /// The highest epoch that it knows of.
    pub epoch: u64,
    /// The cluster that is home in it: a UUID.
    pub home: String,
    /// The first home of that line of epochs.
    pub origin: String,
    /// This cluster.
    pub cluster: String,
    /// How it became home, if it was promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<PromotionView>,
    /// Whether it is fenced for a mirror that has not taken over yet: then it can be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handing_over: bool,
}

/// How a region became home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PromotionView {
    /// RFC 3339.
    pub at: String,
    /// The cluster that was home before.
    pub from: String,
    /// The last change of that one's feed up to which all is here: epoch and sequence.
    pub fork_epoch: u64,
    pub fork_sequence: u64,
    /// Changes that had been received and were given up, since what they need was not here.
    pub given_up: u64,
}

/// The answer of `GET /admin/v1/promotion`: what a forced promotion would lose; a handover loses nothing. Fields are
/// added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PromotionOutlook {
    /// The URL of the home that is followed.
    pub home: String,
    /// Whether it was heard of lately, so that it can hand over.
    pub home_is_there: bool,
    /// The epoch that would begin.
    pub epoch: u64,
    /// The recovery point: how old what would be served is. None before home was ever heard of.
    pub lag_seconds: Option<f64>,
    pub lag_changes: u64,
    pub lag_blobs: u64,
    pub lag_bytes: u64,
    /// Manifests that were received and are not whole, the oldest first; the first hundred.
    pub not_whole: Vec<NotWhole>,
    /// What the promotion waits for that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<String>,
    /// Why the one before came to nothing, until one succeeds or this replica restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Problem>,
}

/// A manifest of which not all is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NotWhole {
    pub repository: String,
    pub digest: String,
    pub tags: Vec<String>,
    /// Its place in home's feed.
    pub sequence: u64,
    /// When it was pushed at home: RFC 3339.
    pub time: String,
}

/// The body of `POST /admin/v1/promotion`; none at all is the same as an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromotionRequest {
    /// Without a handover, if none is to be had.
    #[serde(default)]
    pub force: bool,
    /// The epoch that is to begin, or a later one: the next, unless this is higher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// The answer when it is home. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PromotionDone {
    pub region: RegionView,
    /// Whether the home that was has handed over: then nothing is lost.
    pub handed_over: bool,
    /// How far behind the mirror was when it began.
    pub lag_seconds: Option<f64>,
    pub lag_changes: u64,
    pub lag_bytes: u64,
}

pub(super) fn of(registry: &Registry) -> Result<RegionView, Fault> {
    let handing_over = registry.metadata().query()?.handing_over()?.is_some();
    Ok(RegionView { handing_over, ..view(registry, &registry.region()?) })
}

fn view(registry: &Registry, region: &Region) -> RegionView {
    RegionView {
        handing_over: false,
        standing: standing(region.standing).to_owned(),
        epoch: region.epoch.number,
        home: uuid(region.epoch.home.0),
        origin: uuid(region.origin.0),
        cluster: uuid(registry.metadata().identity().cluster.0),
        promotion: region.promotion.map(|promotion| PromotionView {
            at: rfc3339(&promotion.at),
            from: uuid(promotion.from.0),
            fork_epoch: promotion.fork.epoch,
            fork_sequence: promotion.fork.sequence,
            given_up: promotion.given_up,
        }),
    }
}

pub(super) const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Home => "home",
        Standing::Mirror => "mirror",
        Standing::Fenced => "fenced",
    }
}

pub(super) fn outlook(admin: &Admin) -> Result<PromotionOutlook, Problem> {
    let mirror = following(admin)?;
    let Outlook { epoch, lag, not_whole, attempt, .. } = mirror.outlook()?;
    let Lag { seconds, changes, blobs, bytes, home_is_there, .. } = lag;
    Ok(PromotionOutlook {
        home: mirror.home().to_owned(),
        home_is_there,
        epoch: epoch.number,
        lag_seconds: seconds,
        lag_changes: changes,
        lag_blobs: blobs,
        lag_bytes: bytes,
        not_whole: not_whole.into_iter().filter_map(not_whole_of).collect(),
        awaits: attempt.awaits.map(|awaits| awaits.to_string()),
        failure: attempt.failure.map(|failure| Problem::new(code(failure.obstacle), failure.why)),
    })
}

fn not_whole_of(change: Change) -> Option<NotWhole> {
    let ChangeKind::ManifestPut { repository, digest, tags } = change.kind else { return None };
    Some(NotWhole {
        repository: repository.to_string(),
        digest: digest.to_string(),
        tags: tags.iter().map(ToString::to_string).collect(),
        sequence: change.position.sequence,
        time: rfc3339(&change.at),
    })
}

pub(super) async fn promote(admin: &Admin, request: PromotionRequest) -> Result<PromotionDone, Problem> {
    let registry = &admin.registry;
    let region = registry.region()?;
    if region.standing == Standing::Fenced {
        return take_back(registry, &region, request).await;
    }
    let mirror = following(admin)?;
    let Promoted { handed_over, lag, .. } = mirror.promote(request.force, request.epoch).await?;
    let region = of(registry)?;
    Ok(PromotionDone { region, handed_over, lag_seconds: lag.seconds, lag_changes: lag.changes, lag_bytes: lag.bytes })
}

/// A home that has handed over, and whose successor never came to be or is lost, goes on as the home of another epoch.
async fn take_back(registry: &Registry, region: &Region, request: PromotionRequest) -> Result<PromotionDone, Problem> {
    if !request.force {
        let home = uuid(region.epoch.home.0);
        let why = format!(
            "this region is fenced: cluster {home} is home in epoch {}, if it came to be promoted; what it has acknowledged \
             since is not here. A handover that has not ended is taken back without a loss: `roadstead demote --cancel`",
            region.epoch.number
        );
        return Err(Problem::new(Code::NeedsForce, why));
    }
    let own = registry.metadata().identity().cluster;
    let promoted = registry.promote_region(region.epoch.next(own), None).await?;
    promoted.map_err(|refused| Problem::new(Code::Unfit, refused))?;
    Ok(PromotionDone { region: of(registry)?, handed_over: false, lag_seconds: None, lag_changes: 0, lag_bytes: 0 })
}

pub(super) fn following(admin: &Admin) -> Result<&std::sync::Arc<Mirror>, Problem> {
    let mirror = admin.mirror.as_ref().filter(|mirror| !mirror.is_over());
    mirror.ok_or_else(|| Problem::new(Code::Unfit, "this region follows no other one: it is home"))
}

impl From<PromoteError> for Problem {
    fn from(error: PromoteError) -> Self {
        Self::new(code(error.obstacle()), error)
    }
}

const fn code(obstacle: Obstacle) -> Code {
    match obstacle {
        Obstacle::Fault => Code::Unavailable,
        Obstacle::Promotion => Code::Busy,
        Obstacle::Home => Code::NeedsForce,
        Obstacle::Distance => Code::NotCaughtUp,
        Obstacle::Unfit => Code::Unfit,
    }
}

/// What `roadstead promote` is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PromoteArguments {
    pub force: bool,
    pub yes: bool,
    pub json: bool,
}

/// Says what it costs, asks, and has it done; gives what is to be printed.
pub(crate) fn run_promote(data: &Path, arguments: PromoteArguments) -> anyhow::Result<String> {
    let PromoteArguments { force, yes, json } = arguments;
    block_on(async {
        let mut client = Client::connect(data).await?;
        let region: RegionView = client.get(REGION).await?;
        let statement = if region.standing == "fenced" {
            fenced_statement(&region)
        } else {
            statement(&client.get(PROMOTION).await?, force)
        };
        confirm(&statement, yes)?;
        let done: PromotionDone = client.command_with(PROMOTION, &PromotionRequest { force, epoch: None }).await?;
        if json { Ok(serde_json::to_string_pretty(&done)? + "\n") } else { Ok(done_text(&done)) }
    })
}

fn statement(outlook: &PromotionOutlook, force: bool) -> String {
    let PromotionOutlook { home, home_is_there, epoch, lag_changes, lag_blobs, lag_bytes, not_whole, .. } = outlook;
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ =
        writeln!(text, "This region mirrors {home}. It becomes home, in epoch {epoch}: it takes pushes from then on.");
    if *home_is_there {
        text += "Home answers. It is let take no more pushes, the mirror catches up with it, then takes over: nothing is lost.\n";
    }
    if !home_is_there || force {
        let seconds = outlook.lag_seconds.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.1} s"));
        let when = if *home_is_there { "If that does not succeed" } else { "Home does not answer" };
        let _ = writeln!(
            text,
            "{when}: what home has acknowledged in the last {seconds} may be missing, {lag_changes} changes of it are known,\n\
             {lag_blobs} blobs with {} are not here. If home is cut off and goes on taking pushes, those are missing too:\n\
             stop it, or keep clients from it. It keeps what is missing, and lists it when it is back.",
            bytes(*lag_bytes)
        );
        for NotWhole { repository, digest, tags, time, .. } in not_whole {
            let _ = writeln!(text, "  not whole: {repository} {digest} ({}), pushed {time}", tags.join(", "));
        }
        if not_whole.len() == MAX_NOT_WHOLE {
            text += "  and more\n";
        }
    }
    text
}

fn fenced_statement(region: &RegionView) -> String {
    format!(
        "This region was home, and cluster {} is since epoch {}, if it came to be promoted. It becomes home again, in epoch\n\
         {}; what the other one has acknowledged meanwhile is not here, and that one is fenced when it hears of it.\n",
        region.home,
        region.epoch,
        region.epoch + 1
    )
}

/// Ends with an error unless it was confirmed, or is now.
fn confirm(statement: &str, yes: bool) -> anyhow::Result<()> {
    let mut out = io::stderr().lock();
    out.write_all(statement.as_bytes())?;
    if yes {
        return Ok(());
    }
    let refused = || {
        let next = "look at what is said above, and say `--yes`";
        Failure::new("nothing was done", next).because(anyhow::Error::msg("it was not confirmed"))
    };
    if !io::stdin().is_terminal() {
        return Err(refused());
    }
    write!(out, "Type yes to do that: ")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().lock().take(MAX_CONFIRMATION).read_line(&mut line)?;
    if line.trim() == "yes" { Ok(()) } else { Err(refused()) }
}

fn done_text(done: &PromotionDone) -> String {
    let PromotionDone { region, handed_over, .. } = done;
    let how = if *handed_over {
        "the home that was has handed over, and nothing is lost".to_owned()
    } else {
        let fork = region.promotion.as_ref().map_or(0, |promotion| promotion.fork_sequence);
        let given_up = region.promotion.as_ref().map_or(0, |promotion| promotion.given_up);
        format!(
            "all of the former home up to its change {fork} is here; {given_up} changes behind it had been received and are\n\
             given up. When the former home is back: `roadstead demote --epoch {} --home {}` there, before clients reach it",
            region.epoch, region.cluster
        )
    };
    format!("this region is home, in epoch {}: {how}\nnext: take `upstream` out of its settings\n", region.epoch)
}

#[cfg(test)]
pub(super) mod tests {
    use roadstead_geo::Awaits;

    use super::*;

    pub(crate) fn promoted() -> RegionView {
        let promotion = PromotionView {
            at: "2026-07-01T12:00:00.000Z".to_owned(),
            from: uuid(7),
            fork_epoch: 1,
            fork_sequence: 300,
            given_up: 2,
        };
        RegionView {
            standing: "home".to_owned(),
            epoch: 2,
            home: uuid(9),
            origin: uuid(7),
            cluster: uuid(9),
            promotion: Some(promotion),
            handing_over: false,
        }
    }

    pub(crate) fn handing_over() -> RegionView {
        RegionView {
            standing: "fenced".to_owned(),
            cluster: uuid(7),
            promotion: None,
            handing_over: true,
            ..promoted()
        }
    }

    pub(crate) fn outlook() -> PromotionOutlook {
        PromotionOutlook {
            home: "https://registry.example.com".to_owned(),
            home_is_there: false,
            epoch: 2,
            lag_seconds: Some(12.5),
            lag_changes: 3,
            lag_blobs: 1,
            lag_bytes: 1_600_000,
            not_whole: vec![NotWhole {
                repository: "team/app".to_owned(),
                digest: format!("sha256:{}", "0".repeat(64)),
                tags: vec!["v1".to_owned()],
                sequence: 300,
                time: "2026-07-01T12:00:00.000Z".to_owned(),
            }],
            awaits: None,
            failure: None,
        }
    }

    pub(crate) fn outlook_under_way() -> PromotionOutlook {
        let error = PromoteError::NotLevel { last: 300, changes: 3, bytes: 1_600_000 };
        PromotionOutlook {
            home_is_there: true,
            not_whole: Vec::new(),
            awaits: Some(Awaits::Change(300).to_string()),
            failure: Some(error.into()),
            ..outlook()
        }
    }

    pub(crate) fn done() -> PromotionDone {
        PromotionDone {
            region: promoted(),
            handed_over: false,
            lag_seconds: Some(12.5),
            lag_changes: 3,
            lag_bytes: 1_600_000,
        }
    }

    #[test]
    fn people_are_told_what_they_lose_before_it_is_done() {
        let forced = statement(&outlook(), true);
        for words in ["last 12.5 s", "3 changes", "1 blobs with 1.5 MiB", "team/app", "goes on taking pushes"] {
            assert!(forced.contains(words), "no {words:?} in: {forced}");
        }
        let planned = statement(&PromotionOutlook { home_is_there: true, ..outlook() }, false);
        assert!(planned.contains("nothing is lost") && !planned.contains("not whole"), "{planned}");
    }

    #[test]
    fn what_was_done_says_what_is_to_be_done_next() {
        let forced = done_text(&done());
        assert!(forced.contains("roadstead demote --epoch 2") && forced.contains("up to its change 300"), "{forced}");
        let planned = done_text(&PromotionDone { handed_over: true, ..done() });
        assert!(planned.contains("nothing is lost") && !planned.contains("demote"), "{planned}");
    }
}

//! `roadstead demote`: a home is told that it is not home any more, or goes on after a handover that does not come to its end.

use std::path::Path;

use roadstead_domain::{Fault, Registry};
use roadstead_metadata::{ClusterId, HandoverStep, RegionEpoch, Standing};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::client::{Client, block_on};
use super::members::uuid;
use super::problem::{Code, Problem};
use super::region::{RegionView, of};

const DEMOTION: &str = "/admin/v1/demotion";
const CANCEL: &str = "/admin/v1/demotion/cancel";

/// The body of `POST /admin/v1/demotion`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DemotionRequest {
    /// The epoch that has begun.
    pub epoch: u64,
    /// The cluster that is home in it.
    pub home: Uuid,
}

/// The answer when this region is not home: the demotion token. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Demoted {
    pub epoch: u64,
    pub home: String,
    /// This cluster.
    pub from: String,
    /// Its last change: it has acknowledged nothing behind it.
    pub last_epoch: u64,
    pub last_sequence: u64,
}

/// Has a home that stands still for a mirror go on, if that one has not taken over.
pub(super) async fn cancel(registry: &Registry) -> Result<RegionView, Problem> {
    let to = registry.metadata().query().and_then(|query| query.handing_over()).map_err(Fault::from)?;
    let region = registry.region()?;
    let Some(to) = to else {
        let why = match region.standing {
            Standing::Home => "this region is home: there is nothing to take back",
            Standing::Mirror => "this region is a mirror: it hands nothing over",
            Standing::Fenced => {
                "another region is home: the handover has ended, or it was promoted without one. If that region is lost for \
                 good, `roadstead promote --force` makes this one home again"
            }
        };
        return Err(Problem::new(Code::Unfit, why));
    };
    let taken_back = registry.hand_over(to, region.origin, HandoverStep::TakenBack).await?;
    taken_back.map_err(|refused| Problem::new(Code::Unfit, refused))?;
    Ok(of(registry)?)
}

pub(super) async fn demote(registry: &Registry, request: DemotionRequest) -> Result<Demoted, Problem> {
    let DemotionRequest { epoch, home } = request;
    let region = registry.region()?;
    if region.standing == Standing::Mirror {
        return Err(Problem::new(Code::Unfit, "this region is a mirror: it is not home"));
    }
    let by = RegionEpoch { number: epoch, home: ClusterId(home.as_u128()) };
    if by.home == registry.metadata().identity().cluster {
        return Err(Problem::new(Code::BadRequest, "that is this cluster itself: say which one is home instead"));
    }
    let fenced = registry.fence_region(by, region.origin).await?;
    let fenced = fenced.map_err(|refused| Problem::new(Code::Unfit, refused))?;
    Ok(Demoted {
        epoch,
        home: home.to_string(),
        from: uuid(registry.metadata().identity().cluster.0),
        last_epoch: fenced.last.epoch,
        last_sequence: fenced.last.sequence,
    })
}

/// Tells the registry on `data` that it is not home; gives what is to be printed.
pub(crate) fn run(data: &Path, epoch: u64, home: Uuid, as_json: bool) -> anyhow::Result<String> {
    let done: Demoted = block_on(async {
        Client::connect(data).await?.command_with(DEMOTION, &DemotionRequest { epoch, home }).await
    })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&done)? + "\n");
    }
    Ok(format!(
        "this region takes no pushes any more: cluster {home} is home in epoch {epoch}. Its last change was {}\n",
        done.last_sequence
    ))
}

/// Has the home on `data` go on that stands still for a mirror; gives what is to be printed.
pub(crate) fn run_cancel(data: &Path, as_json: bool) -> anyhow::Result<String> {
    let region: RegionView = block_on(async { Client::connect(data).await?.command(CANCEL).await })?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&region)? + "\n");
    }
    Ok(format!(
        "this region is home, in epoch {}, and takes pushes: the mirror cannot take over by that handover any more\n",
        region.epoch
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn demoted() -> Demoted {
        Demoted { epoch: 2, home: uuid(9), from: uuid(7), last_epoch: 1, last_sequence: 302 }
    }
}

//! Which region is home, as home and its mirrors tell each other.

use std::fmt;
use std::str::FromStr;

use roadstead_domain::{Fault, Registry};
use roadstead_metadata::{ClusterId, Position, Region, RegionEpoch, Standing};
use serde::{Deserialize, Serialize};

use crate::wire::HomeId;

/// The highest epoch that a region knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireRegion {
    /// Its number.
    pub epoch: u64,
    /// The cluster that is home in it.
    pub home: HomeId,
    /// The first home of that line of epochs.
    pub origin: HomeId,
    /// What the one that says so is.
    pub standing: Standing,
}

/// What a region says of itself when it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionReport {
    /// Its cluster.
    pub cluster: HomeId,
    /// What it knows of who is home.
    pub region: WireRegion,
    /// The newest change of its feed.
    pub newest: Position,
    /// How it became home, if it was promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<WirePromotion>,
}

/// How a region became home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePromotion {
    /// The cluster that was home before.
    pub from: HomeId,
    /// The last change of that one's feed up to which all is at the new home.
    pub fork: Position,
}

/// An epoch with its line, as text: `<number>-<home>-<origin>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochClaim {
    /// The epoch.
    pub epoch: RegionEpoch,
    /// The first home of its line.
    pub origin: ClusterId,
}

/// What a mirror asks of home in a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverRequest {
    /// The epoch that is to begin.
    pub epoch: u64,
    /// The mirror's cluster, which is home in it.
    pub home: HomeId,
    /// The first home of their line.
    pub origin: HomeId,
    /// Whether the mirror has all that home has, and is home next: then home takes nothing back.
    #[serde(default)]
    pub ends: bool,
}

/// What a home says that was handed over: it has acknowledged nothing behind `last`, and never will in its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemotionToken {
    /// The epoch that begins.
    pub epoch: u64,
    /// Whose home is home in it.
    pub home: HomeId,
    /// The cluster that was home.
    pub from: HomeId,
    /// Its last change.
    pub last: Position,
}

impl WireRegion {
    /// What a region knows.
    pub fn of(region: &Region) -> Self {
        let Region { epoch, origin, standing, .. } = region;
        Self { epoch: epoch.number, home: HomeId(epoch.home), origin: HomeId(*origin), standing: *standing }
    }

    /// The epoch with its line.
    pub const fn claim(&self) -> EpochClaim {
        EpochClaim { epoch: RegionEpoch { number: self.epoch, home: self.home.0 }, origin: self.origin.0 }
    }
}

/// What this region says of itself.
pub fn region_report(registry: &Registry) -> Result<RegionReport, Fault> {
    let region = registry.region()?;
    Ok(RegionReport {
        cluster: HomeId(registry.metadata().identity().cluster),
        region: WireRegion::of(&region),
        newest: registry.metadata().query()?.position()?,
        promotion: region
            .promotion
            .map(|promotion| WirePromotion { from: HomeId(promotion.from), fork: promotion.fork }),
    })
}

/// What is said in each line: nothing, for as long as there was one home only.
pub(crate) fn in_line(region: &Region) -> Option<WireRegion> {
    (region.epoch.number > 1).then(|| WireRegion::of(region))
}

impl fmt::Display for EpochClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}-{:032x}", self.epoch.number, self.epoch.home.0, self.origin.0)
    }
}

/// It is no epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch is written as number, home and origin")]
pub struct NoEpoch;

impl FromStr for EpochClaim {
    type Err = NoEpoch;

    fn from_str(text: &str) -> Result<Self, NoEpoch> {
        let mut parts = text.split('-');
        let number = parts.next().and_then(|part| part.parse().ok()).ok_or(NoEpoch)?;
        let mut cluster = || parts.next().and_then(|part| HomeId::try_from(part.to_owned()).ok()).ok_or(NoEpoch);
        let (HomeId(home), HomeId(origin)) = (cluster()?, cluster()?);
        Ok(Self { epoch: RegionEpoch { number, home }, origin })
    }
}

/// What a mirror makes of what the one that it follows, or is to follow, says of who is home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is as is known.
    Follow,
    /// It is to be remembered first.
    Learn(EpochClaim),
    /// It knows of less than this mirror does: what it shows may be a history that has ended.
    Lower,
    /// It was home and is not: who does not follow it already must not begin to.
    Fenced,
}

/// Judges what the cluster `upstream` says, by what is known here; `followed` is the cluster that is followed so far.
pub(crate) fn judge(known: &Region, followed: Option<ClusterId>, upstream: ClusterId, said: &WireRegion) -> Judgement {
    let claim = said.claim();
    let is_same_line = claim.origin == known.origin;
    match () {
        () if said.standing == Standing::Fenced && followed != Some(upstream) => Judgement::Fenced,
        () if is_same_line && claim.epoch < known.epoch => Judgement::Lower,
        () if is_same_line && claim.epoch == known.epoch => Judgement::Follow,
        // A registry of which nothing is known yet is not told of its own first home.
        () if claim.epoch == RegionEpoch::first(claim.origin) && known.epoch.number == 1 => Judgement::Follow,
        () => Judgement::Learn(claim),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_cluster() -> impl Strategy<Value = ClusterId> {
        (1..5_u128).prop_map(ClusterId)
    }

    fn any_epoch() -> impl Strategy<Value = RegionEpoch> {
        (1..5_u64, any_cluster()).prop_map(|(number, home)| RegionEpoch { number, home })
    }

    fn known(epoch: RegionEpoch, origin: ClusterId) -> Region {
        Region { epoch, origin, standing: Standing::Mirror, promotion: None }
    }

    fn said(epoch: RegionEpoch, origin: ClusterId, standing: Standing) -> WireRegion {
        WireRegion::of(&Region { standing, ..known(epoch, origin) })
    }

    proptest! {
        /// Whatever mirrors hear in whichever order, what each knows never falls, and all that hear of the same epochs come
        /// to know the same one.
        #[test]
        fn what_is_known_never_falls_and_comes_to_the_same_everywhere(
            mut heard in proptest::collection::vec(any_epoch(), 1..12),
        ) {
            let origin = ClusterId(1);
            let listen = |heard: &[RegionEpoch]| {
                let mut epoch = RegionEpoch::first(origin);
                for other in heard {
                    let said = said(*other, origin, Standing::Home);
                    match judge(&known(epoch, origin), Some(other.home), other.home, &said) {
                        Judgement::Learn(claim) => {
                            assert!(claim.epoch > epoch);
                            epoch = claim.epoch;
                        }
                        Judgement::Lower => assert!(*other < epoch),
                        Judgement::Follow => assert!(*other <= epoch),
                        Judgement::Fenced => unreachable!("nobody is"),
                    }
                }
                epoch
            };
            let forwards = listen(&heard);
            heard.reverse();
            prop_assert_eq!(listen(&heard), forwards);
            prop_assert_eq!(forwards, heard.iter().copied().max().unwrap().max(RegionEpoch::first(origin)));
        }

        #[test]
        fn an_epoch_is_read_as_it_is_written(epoch in any_epoch(), origin in any_cluster()) {
            let claim = EpochClaim { epoch, origin };
            prop_assert_eq!(claim.to_string().parse(), Ok(claim));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<EpochClaim>();
        }
    }

    #[test]
    fn nobody_begins_to_follow_what_is_fenced_and_who_follows_it_goes_on() {
        let (origin, next) = (ClusterId(1), RegionEpoch { number: 2, home: ClusterId(2) });
        let fenced = said(next, origin, Standing::Fenced);
        let known = known(RegionEpoch::first(origin), origin);
        assert_eq!(judge(&known, Some(ClusterId(3)), origin, &fenced), Judgement::Fenced);
        assert_eq!(judge(&known, None, origin, &fenced), Judgement::Fenced);
        assert_eq!(judge(&known, Some(origin), origin, &fenced), Judgement::Learn(fenced.claim()));
    }
}

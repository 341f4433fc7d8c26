//! The verbs by which the home of a registry moves from one region to another.

use roadstead_metadata::{
    ClusterId, FenceRegion, FenceRegionRefused, Fenced, HandOverRegion, HandoverStep, Position, PromoteRegion,
    PromoteRegionRefused, Promotion, Region, RegionEpoch,
};

use crate::fault::Fault;
use crate::registry::Registry;

impl Registry {
    /// What this region is, as this replica knows it.
    pub fn region(&self) -> Result<Region, Fault> {
        Ok(self.metadata.query()?.region(self.metadata.identity().cluster)?)
    }

    /// Tells this region of a higher epoch, whose home is elsewhere. When it returns, no change of a client is taken here
    /// any more, on no replica, and none that was acknowledged is behind the place that is returned.
    pub async fn fence_region(
        &self,
        by: RegionEpoch,
        origin: ClusterId,
    ) -> Result<Result<Fenced, FenceRegionRefused>, Fault> {
        let own = self.metadata.identity().cluster;
        self.propose(FenceRegion { by, origin, own }).await
    }

    /// Takes a step of handing over to the home of a higher epoch. After the first, no change of a client is taken here
    /// any more, as by [`Registry::fence_region`]; until the last, it can be taken back.
    pub async fn hand_over(
        &self,
        to: RegionEpoch,
        origin: ClusterId,
        step: HandoverStep,
    ) -> Result<Result<Fenced, FenceRegionRefused>, Fault> {
        let own = self.metadata.identity().cluster;
        let handed_over = self.propose(HandOverRegion { to, origin, own, step }).await?;
        if step == HandoverStep::TakenBack {
            self.metadata.settle().await;
        }
        Ok(handed_over)
    }

    /// Makes this region the home of an epoch. With `handed_over`, only if everything up to there is published here.
    pub async fn promote_region(
        &self,
        epoch: RegionEpoch,
        handed_over: Option<Position>,
    ) -> Result<Result<Promotion, PromoteRegionRefused>, Fault> {
        let promoted = self.propose(PromoteRegion { epoch, handed_over }).await?;
        self.metadata.settle().await;
        Ok(promoted)
    }
}

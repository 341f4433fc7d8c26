//! What is promised, one file each: what is checked when a world has come to rest. What can be told from a single answer is
//! checked where the client hears it, and carries the promise's number there.

mod claim_10_present_bytes;
mod p1_verified;
mod p2_durable;
mod p3_linearizable;
mod p4_uploads;
mod p5_bytes_once;
mod p6_pulls_go_on;
mod p7_collection;
mod p8_whole_or_previous;
mod p9_ordered_history;

pub(crate) use self::p8_whole_or_previous::audit;

use crate::regions::Regions;
use crate::run::World;
use crate::world::network::pause;
use crate::world::replica::{GRACE, SWEEP};

/// P3 alone.
pub(crate) fn check_tags(world: &World) -> Result<(), String> {
    p3_linearizable::check(world)
}

/// Checks everything, when all faults have ended; the collection last, since hours pass for it.
pub(crate) async fn check(world: &World) -> Result<(), String> {
    p2_durable::check(world).await?;
    p3_linearizable::check(world)?;
    p1_verified::check(world).await?;
    p4_uploads::check(world).await?;
    p5_bytes_once::check(world)?;
    p6_pulls_go_on::check(world).await?;
    p7_collection::check(world).await
}

/// Checks what is promised of mirrors, when all faults have ended: before and after what nothing names is collected.
pub(crate) async fn check_regions(regions: &Regions) -> Result<(), String> {
    p9_ordered_history::check(regions).await?;
    p8_whole_or_previous::check(regions).await?;
    claim_10_present_bytes::check(regions)?;
    regions.home.cluster.pass(GRACE * 3);
    regions.mirrors.iter().for_each(|mirror| mirror.pass(GRACE * 3));
    pause(SWEEP * 3).await;
    p9_ordered_history::check(regions).await?;
    p8_whole_or_previous::check(regions).await
}

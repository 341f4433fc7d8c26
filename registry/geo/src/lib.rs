//! Regions: a mirror follows its home's change feed, brings the bytes, and serves pulls beside the clusters that run the
//! images.
//!
//! ```text
//!  home:   facts --feed_line / snapshot--> wire (lines of JSON over HTTPS)
//!  mirror: wire --follow--> inbox in the facts --published when whole--> tags
//!            '--watch-----> contact: how far home is, whether it is there
//!          WANTED --movers--> fetch --spool--> domain: transfer_blob (hashed here, then linked)
//!                               '------------> pulls of what has not arrived (the same fetch, the same bytes)
//! ```
//!
//! * The cursor and all that waits are facts of the mirror itself; nothing is lost with a process, and home keeps nothing
//!   of its mirrors but their tokens.
//! * Mirrors dial home, never the reverse. How that is done is behind [`Home`].
//! * No push waits for any of this.
//! * Parts of a large upload come while its client still sends it: `shown` at home, `ahead` at the mirror.
//!
//! * What is pushed at a mirror is kept there, and decided at home: `write`, `ship`, `home_writes`.
//!
//! Not here yet: upstream registries that are not Roadstead.

mod ahead;
mod aside;
mod calendar;
mod choose;
mod compare;
mod contact;
mod disk;
mod feed;
mod fetch;
mod filter;
#[cfg(test)]
mod fixture;
mod follow;
mod home;
mod home_writes;
mod lag;
mod limits;
mod link;
mod mirror;
mod movers;
mod pace;
mod promote;
mod pull;
mod referrers;
mod region;
mod relay;
mod report;
mod resolve;
mod ship;
mod shown;
mod snapshot;
#[cfg(test)]
mod tests;
mod wire;
mod write;

pub use aside::{PushAgainError, PushedAgain};
pub use calendar::{Calendar, NoWindow, Window};
pub use feed::{FeedError, feed_line, watermark};
pub use filter::{Filter, FilterRule, MAX_FILTER_RULES, NoFilterRule, NoPlatform, Platform};
pub use home::{Home, HomeBlob, HomeError, HomeManifest, Lines, Siblings};
pub use home_writes::{HomeWrites, Outgoing, WrittenManifest, delete_manifest, take_blob, take_manifest};
pub use lag::Lag;
pub use limits::{LINE_INTERVAL, MAX_CLAIMED, MAX_LINE_BYTES, MAX_NOT_WHOLE};
pub use mirror::{Mirror, Options};
pub use promote::{Attempt, Awaits, Failure, Obstacle, Outlook, PromoteError, Promoted};
pub use pull::{PullError, PulledBlob};
pub use referrers::{HomeReferrer, HomeReferrers, MAX_REFERRERS_BYTES, home_referrers};
pub use region::{
    DemotionToken, EpochClaim, HandoverRequest, NoEpoch, RegionReport, WirePromotion, WireRegion, region_report,
};
pub use relay::Terms;
pub use shown::Shown;
pub use snapshot::snapshot_lines;
pub use wire::{
    BlobAnswer, Claim, FeedLine, HomeId, Lacking, SnapshotLine, Standing, WireChange, WireKind, WireManifest,
    WireUpload, WriteAnswer,
};
pub use write::WriteError;

//! The verbs of a registry: what it does with facts and bytes, and in which order, so that its promises hold.
//!
//! Knows no HTTP, no S3 and no Raft: it is called by the server, and calls `metadata` and `blobs`.

mod access;
mod ahead;
mod aside;
mod backup;
mod blob;
mod budget;
mod collect;
mod fault;
#[cfg(test)]
mod fixture;
mod freshness;
mod janitor;
mod keys;
mod landing;
mod limits;
mod listing;
mod manifest;
mod manifest_cache;
mod mirror;
mod ports;
#[cfg(test)]
mod race;
mod region;
mod registry;
mod remote;
mod scrub;
#[cfg(test)]
mod store_faults;
#[cfg(test)]
mod tests;
mod upload;

pub use access::{AccessPolicy, Decision, Identity, Rights, decide};
pub use aside::AsidePut;
pub use backup::{
    ClaimError, KeptHistory, KeptSnapshot, Missing, Place, RecoverProgress, Recovered, RestoreError, RestoreOptions,
    RestoreProgress, Restored, ShipError, Shipped, SnapshotTaken, claim_store, kept, parse_rfc3339, recover, restore,
    rfc3339, store_owner,
};
pub use blob::{BlobReadError, BlobSource, FoundBlob};
pub use budget::{ByteBudget, Reservation};
pub use collect::CollectError;
pub use fault::Fault;
pub use janitor::Swept;
pub use listing::{ListTagsError, Listed};
pub use manifest::{ManifestFound, ManifestPutError, ManifestReadError, ManifestStored, PushedManifest};
pub use mirror::{HomesManifest, ReceivedManifestError, Transfer};
pub use ports::{Clock, Entropy, Ports};
pub use registry::{Options, Registry};
pub use remote::Acknowledge;
pub use roadstead_blobs::ByteStream;
pub use roadstead_metadata::{Precondition, ReferrerEntry};
pub use scrub::{Finding, FindingKind, ScrubOptions, ScrubWatch, Tally};
pub use upload::{Body, BodyError, Content, UploadError, UploadStatus};

//! Regions over HTTP: what home answers its mirrors, and how a mirror reaches its home.
//!
//! ```text
//!  mirror: geo --Home--> client --HTTPS, bearer token--> home: listener for clients -> /geo/v1/... -> geo, domain
//! ```
//!
//! Mirrors dial home, on the port on which clients do; nothing need reach into them.

mod client;
mod endpoint;
mod region;
mod relay_endpoint;
mod siblings;
mod trust;
mod upload_endpoint;
mod wiring;
mod write_client;
mod write_endpoint;

pub(crate) use endpoint::router;
pub(crate) use siblings::{arriving, leaving};
pub(crate) use wiring::connect;

/// The paths, which keep their meaning for as long as their version is served.
mod paths {
    pub(super) const FEED: &str = "/geo/v1/feed";
    pub(super) const WATERMARKS: &str = "/geo/v1/watermarks";
    pub(super) const SNAPSHOT: &str = "/geo/v1/snapshot";
    pub(super) const REGION: &str = "/geo/v1/region";
    pub(super) const PROGRESS: &str = "/geo/v1/progress";
    pub(super) const HANDOVER: &str = "/geo/v1/handover";
    pub(super) const MANIFEST: &str = "/geo/v1/manifest";
    pub(super) const REFERRERS: &str = "/geo/v1/referrers";
    pub(super) const BLOB: &str = "/geo/v1/blob";
    pub(super) const PARTS: &str = "/geo/v1/parts";
    pub(super) const CLAIM: &str = "/geo/v1/claim";
    pub(super) const UPLOAD: &str = "/geo/v1/upload";
}

/// Where home's feed stood when it said that it does not have something: `<epoch>-<sequence>`.
const POSITION: http::HeaderName = http::HeaderName::from_static("roadstead-position");

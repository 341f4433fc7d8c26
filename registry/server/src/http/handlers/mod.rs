//! One file a resource. A handler reads headers, calls one verb of the domain and writes headers.

pub(super) mod base;
pub(super) mod blob;
pub(super) mod catalog;
pub(super) mod manifest;
pub(super) mod referrers;
pub(super) mod tags;
pub(super) mod upload;

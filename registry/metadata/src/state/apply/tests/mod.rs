//! What each operation does, what it refuses, and what holds whatever is applied in whatever order.

mod blob;
mod collect;
mod dedup;
mod invariants;
mod key;
mod landing;
mod level;
mod manifest;
mod mirror;
mod model;
mod quarantine;
mod region;
mod upload;

//! Real clients, one file each: what they push is served byte by byte, and what they pull is what was pushed.

pub(crate) mod containerd;
mod crane;
pub(crate) mod docker;
mod helm;
mod nearest;
mod oras;
mod podman;
mod skopeo;

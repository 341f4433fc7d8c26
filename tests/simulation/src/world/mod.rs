//! Disks, network, clocks and bucket, and the replicas between them.

pub(crate) mod bucket;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod home;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod replica;
pub(crate) mod siblings;
pub(crate) mod upstream;
pub(crate) mod wan;

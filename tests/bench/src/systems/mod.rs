//! Whom Roadstead is compared with, and how each of them is started, measured and stopped.

mod ceiling;
mod cluster;
mod etcd;
mod minio;
mod nginx;
mod process;
mod regions;
mod registries;
mod server;
mod slow_fsync;
mod uploader;

pub(crate) use ceiling::respond;
pub(crate) use cluster::Cluster;
pub(crate) use etcd::{Etcd, Measured};
pub(crate) use minio::Minio;
pub(crate) use process::Process;
pub(crate) use regions::{Distance, Regions, carried, lists};
pub(crate) use registries::{Registries, Storage, data};
pub(crate) use server::{Server, free_address};
pub(crate) use slow_fsync::SlowFsync;
pub(crate) use uploader::{upload, upload_alone};

use serde::{Serialize, Serializer};

/// One of the systems that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Roadstead,
    Distribution,
    Zot,
    Angos,
    Trow,
    /// Three registries of one replica each.
    ThreeSingles,
    /// etcd, for what the facts are compared with.
    Etcd,
    /// nginx, serving the same bytes as files.
    Nginx,
    /// Roadstead's S3 client alone, sending bytes that it has in memory.
    Uploader,
    /// The load generator against a server that does nothing but answer: what it can measure at most.
    Ceiling,
}

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Roadstead => "Roadstead",
            Self::Distribution => "distribution",
            Self::Zot => "zot",
            Self::Angos => "Angos",
            Self::Trow => "Trow",
            Self::ThreeSingles => "three single replicas",
            Self::Etcd => "etcd",
            Self::Nginx => "nginx",
            Self::Uploader => "uploader alone",
            Self::Ceiling => "generator's ceiling",
        }
    }

    /// Whether it is somebody else's registry.
    pub(crate) const fn is_peer(self) -> bool {
        matches!(self, Self::Distribution | Self::Zot | Self::Angos | Self::Trow)
    }
}

impl Serialize for System {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

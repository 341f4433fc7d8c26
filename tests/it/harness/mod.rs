//! The real parts that the tests are made of. Whatever is started here is stopped, by its process id, when its value
//! is dropped; ports that others have to know beforehand are given out by `free_port`, all others by the kernel.

mod balancer;
mod certificate;
mod client;
mod cluster;
mod daemon;
mod forwarder;
mod image;
mod mount;
mod network;
mod node_mirror;
mod ports;
mod raw;
mod roadstead;
mod round_robin;
mod s3;
mod serial;
mod tools;
mod wait;

pub(crate) use balancer::Balancer;
pub(crate) use certificate::Certificates;
pub(crate) use client::{Client, Reply, Request, Upload};
pub(crate) use cluster::Cluster;
pub(crate) use daemon::Daemon;
pub(crate) use forwarder::Forwarder;
pub(crate) use image::{Image, Layout, MEDIA_TYPE_IMAGE, MEDIA_TYPE_INDEX, random_bytes, sha256, sha512};
pub(crate) use mount::Mount;
pub(crate) use network::Network;
pub(crate) use node_mirror::NodeMirror;
use ports::free_port;
pub(crate) use raw::Connection;
pub(crate) use roadstead::{Roadstead, Setup, roadstead};
pub(crate) use roadstead_wan::{Link, Wan};
pub(crate) use round_robin::{Cut, RoundRobin};
pub(crate) use s3::{S3, S3Kind};
pub(crate) use serial::alone;
pub(crate) use tools::{Tool, Workbench, repository_root, script};
pub(crate) use wait::until;

//! A real Kubernetes of some nodes on one machine: etcd, API server, controllers, scheduler, and nodes with containerd,
//! kubelet and kube-proxy of their own, beside cluster DNS, an S3 server and volumes. Everything has a network
//! namespace of its own without a way out, and goes when the cluster is taken down.
//!
//! ```text
//!  hub 172.30.0.1:  etcd, API server, controllers, scheduler, CoreDNS, MinIO, provisioner of volumes, whoever tests
//!        |
//!        +-- node 1  172.30.0.11   pods 10.244.1.0/24   containerd, kubelet, kube-proxy
//!        +-- node 2  172.30.0.12   pods 10.244.2.0/24   ...
//!        +-- node 3  172.30.0.13   pods 10.244.3.0/24
//! ```
//!
//! A second one, with other addresses, can be joined to it by a cable between the hubs ([`Cluster::join`]).
//!
//! Processes, mounts and cgroups of a cluster are found by its namespaces and cgroups, so that it can be taken down
//! whatever has become of whoever brought it up.

#![forbid(unsafe_code)]

mod api;
mod certificates;
mod cgroups;
mod cluster;
mod command;
mod control_plane;
mod image;
mod kubeconfig;
mod network;
mod node;
mod provisioner;
mod services;
mod site;
mod tools;
mod wait;

pub use api::{Api, Refusal};
pub use cluster::Cluster;
pub use command::{Tool, say};
pub use image::Image;
pub use provisioner::provision;
pub use services::Bucket;
pub use site::Site;
pub use tools::{repository_root, tool};
pub use wait::until;

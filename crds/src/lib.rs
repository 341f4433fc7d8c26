//! The resources of `roadstead.dev`: what people write, and what the operator answers in their status.
//!
//! ```text
//!  types here --derive--> definition() --yaml--> crds/registries.roadstead.dev.yaml (checked by a test) --> charts
//! ```
//!
//! What may be written is decided here alone: by types, bounds and CEL rules, which the API server checks. There is no
//! webhook.

#![allow(unreachable_pub, reason = "the schema's derive makes a public type beside each")]

mod backup;
mod bootstrap;
mod definition;
mod expose;
mod frontends;
mod mirror;
mod pod;
mod registry;
mod status;
mod storage;
mod tls;
mod topology;

pub use backup::{Backup, BackupStatus};
pub use bootstrap::{Bootstrap, Restore};
pub use definition::{definition, yaml};
pub use expose::{Expose, Gateway, GatewayTls, Ingress, ParentRef, Service, ServiceType};
pub use frontends::{Frontends, FrontendsStatus};
pub use mirror::{ConfigMapRef, Mirror, MirrorStatus, Placement, Upstream, UpstreamStatus};
pub use pod::{Amounts, PodOverlay, Resources, SecretRef, Toleration};
pub use registry::{Anonymous, Auth, DeletionPolicy, Registry, RegistrySpec};
pub use status::{Consensus, Member, ObjectRef, RegistryStatus, Role};
pub use storage::{MetadataVolume, S3, Storage};
pub use tls::{IssuerKind, IssuerRef, Tls, TlsProvider};
pub use topology::{Topology, TopologyStatus};

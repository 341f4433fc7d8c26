//! The seam to the network: how a replica reaches the others, whatever carries the messages.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// Names a cluster for all time: replicas of different clusters never speak to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// Names a volume, that is the folder of a replica's log and state, from the moment it was empty. A node id belongs to
/// one volume: without its log, a replica under the same id could vote twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeId(pub u128);

/// Carries messages to other replicas.
pub trait PeerTransport: Send + Sync + 'static {
    /// Gives `message` to [`Metadata::answer`](crate::Metadata::answer) of whoever listens at `address`, and returns
    /// the answer, within `patience`. Messages to one address may overtake each other.
    fn call<'a>(
        &'a self,
        address: &'a str,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The message certainly did not arrive.
    #[error("{0}")]
    NotSent(String),
    /// It may have arrived.
    #[error("{0}")]
    Unknown(String),
}

//! The replicas of one cluster, as processes that speak to each other.
//!
//! ```text
//!  metadata --PeerTransport--> transport --mutual TLS, HTTP/2--> listener --> metadata.answer
//!                                    \                            /
//!                                     credentials: one CA, of the cluster alone, on both ends
//! ```
//!
//! Whoever shows no certificate of the cluster's own CA is nobody here: no header, token or address is ever asked.

mod credentials;
mod hand_over;
mod listener;
mod member;
mod transport;
mod wiring;

pub(crate) use hand_over::{Leadership, hand_over};
pub(crate) use listener::Answering;
pub(crate) use member::{Member, Removal, Removed};
pub(crate) use transport::Transport;
pub(crate) use wiring::connect;

/// What every certificate that a cluster's own CA issues is for: replicas know each other by the CA, not by address.
const REPLICA_NAME: &str = "replica.roadstead.internal";

/// The longest message: what the log reads at once, and one entry that is longer than that.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

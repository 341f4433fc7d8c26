//! HTTP: from a socket to a verb of the registry and back.
//!
//! ```text
//!  listener -> connection -> edge -> dispatch: Route -> who -> may they -> handler -> domain
//! ```

mod body;
mod body_idle;
mod connection;
mod dispatch;
mod edge;
mod error;
mod exchange;
mod handlers;
mod limits;
mod listener;
mod refusal;
mod request_id;
mod respond;
mod sendfile;
#[cfg(test)]
mod tests;

pub(crate) use body::pieces;
pub(crate) use dispatch::{Api, serve};
pub(crate) use edge::Edge;
pub(crate) use handlers::manifest::{declared_type, longest as longest_manifest, precondition};
pub(crate) use limits::max_connections;
pub(crate) use listener::{Listener, ListenerOptions};
pub(crate) use respond::DOCKER_CONTENT_DIGEST;

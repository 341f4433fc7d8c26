//! Request bodies as the domain reads them.

use axum::body::Body;
use futures_util::StreamExt;
use roadstead_domain::BodyError;

use super::body_idle;

/// The pieces of a body; an end before its end is an error.
pub(crate) fn pieces(body: Body) -> roadstead_domain::Body {
    let pieces = body.into_data_stream();
    Box::pin(pieces.map(|piece| piece.map_err(|error| body_error(&error))))
}

fn body_error(error: &axum::Error) -> BodyError {
    if body_idle::is_idle(error) { BodyError::Idle } else { BodyError::Broken }
}

//! The registry itself: that it is one, and which extensions it has (none yet).

use axum::response::Response;
use http::StatusCode;
use roadstead_domain::{Fault, Registry};
use roadstead_oci::{ErrorCode, RepositoryName};

use crate::http::error::ApiError;
use crate::http::respond::Answer;

const JSON: &str = "application/json";

pub(crate) fn ping() -> Result<Response, ApiError> {
    Answer::new(StatusCode::OK).json(JSON, b"{}".to_vec())
}

pub(crate) fn extensions() -> Result<Response, ApiError> {
    Answer::new(StatusCode::OK).json(JSON, br#"{"extensions":[]}"#.to_vec())
}

pub(crate) fn repository_extensions(registry: &Registry, repository: &RepositoryName) -> Result<Response, ApiError> {
    if registry.repository_exists(repository).map_err(Fault::from)? {
        extensions()
    } else {
        Err(ApiError::new(ErrorCode::NameUnknown))
    }
}

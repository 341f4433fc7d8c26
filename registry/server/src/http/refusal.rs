//! Answers that the edge gives by itself, in the form of the API's errors.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use roadstead_oci::{ErrorBody, ErrorCode};

/// An error with the API's body.
pub(super) fn refuse(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Response {
    let mut response = Response::new(Body::from(ErrorBody::with_message(code, message).to_json()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

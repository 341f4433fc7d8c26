//! Headers that several answers share.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use roadstead_oci::{Digest, ErrorCode};

use super::error::ApiError;

/// The digest of what the answer names or carries.
pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The upload session, as Docker's clients read it.
pub(crate) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// The smallest chunk worth sending, in bytes.
pub(crate) const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// Which filters a listing of referrers went through.
pub(crate) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// The manifest that a pushed one refers to.
pub(crate) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// A tag that a push has set.
pub(crate) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// How many seconds ago this replica heard of a leader, where none confirmed what the answer says.
pub(crate) const REGISTRY_STALE: HeaderName = HeaderName::from_static("registry-stale");

/// An answer of which every header value is ours, so that none can be malformed.
pub(crate) struct Answer(http::response::Builder);

impl Answer {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self(Response::builder().status(status))
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they made for this header alone")]
    pub(crate) fn header(self, name: HeaderName, value: impl ToString) -> Self {
        Self(self.0.header(name, value.to_string()))
    }

    pub(crate) fn optional(self, name: HeaderName, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// Says so if it may be out of date (promise P6).
    pub(crate) fn stale(self, since: Option<Duration>) -> Self {
        self.optional(REGISTRY_STALE, since.map(|since| since.as_secs()))
    }

    pub(crate) fn body(self, body: impl Into<Body>) -> Result<Response, ApiError> {
        self.0.body(body.into()).map_err(|error| {
            tracing::error!(%error, "an answer has a header that cannot be sent");
            ApiError::new(ErrorCode::Unknown)
        })
    }

    /// Without a body, and saying so.
    pub(crate) fn empty(self) -> Result<Response, ApiError> {
        self.header(header::CONTENT_LENGTH, 0).body(Body::empty())
    }

    /// A small document of ours.
    pub(crate) fn json(self, content_type: &'static str, document: Vec<u8>) -> Result<Response, ApiError> {
        self.header(header::CONTENT_TYPE, content_type).body(document)
    }
}

/// The entity tag of content: its digest, which is as strong as one can be.
pub(crate) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client has this content already (`If-None-Match`, RFC 9110, section 13.1.2).
pub(crate) fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    let expected = etag(digest);
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == expected)
}

/// 304: the client has it.
pub(crate) fn not_modified(digest: &Digest) -> Result<Response, ApiError> {
    Answer::new(StatusCode::NOT_MODIFIED)
        .header(header::ETAG, etag(digest))
        .header(DOCKER_CONTENT_DIGEST, digest)
        .body(Body::empty())
}

/// A header that makes sense only once: two of them, or one that is no text, are refused as `code`.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    code: ErrorCode,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match HeaderValue::to_str(value) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(ApiError::bad_header(code, format!("the header {name} cannot be read"))),
        },
        (Some(_), Some(_)) => Err(ApiError::bad_header(code, format!("the header {name} is given twice"))),
    }
}

/// The `Link` to the next page (RFC 8288).
pub(crate) fn next_link(next: &roadstead_oci::Route) -> String {
    format!("<{next}>; rel=\"next\"")
}

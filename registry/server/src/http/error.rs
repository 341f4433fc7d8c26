//! The one mapping from what went wrong to what a client is told.
//!
//! Text of the layers below goes to the log; a client gets a code, a sentence written for it, and whether to come back.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use roadstead_domain::{
    BlobReadError, BodyError, CollectError, Fault, ListTagsError, ManifestPutError, ManifestReadError, UploadError,
};
use roadstead_geo::{PullError, WriteError};
use roadstead_metadata::{Level, ProposeError};
use roadstead_oci::{Digest, ErrorBody, ErrorCode, ManifestError, RouteError};
use serde_json::json;

/// Seconds after which a client that was turned away by load or by a failure is asked to come back: longer than an
/// election, shorter than clients' patience.
const RETRY_AFTER: &str = "2";

/// Seconds after which a client is asked to come back with what has to wait for the end of an upgrade: that of a replica
/// takes some.
const RETRY_AFTER_UPGRADE: &str = "30";

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The bytes of the request's body cannot be read to their end: the connection is of no use any more.
    close: bool,
}

impl ApiError {
    /// The code's own status and message.
    pub(crate) fn new(code: ErrorCode) -> Self {
        Self::with_message(code, code.message())
    }

    /// A sentence of its own.
    pub(crate) fn with_message(code: ErrorCode, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body: ErrorBody::with_message(code, message), headers: Vec::new(), close: false }
    }

    /// Another status than the code's.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// One more header; a value that cannot be one is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.push((name, value));
        }
        self
    }

    fn detail(mut self, detail: serde_json::Value) -> Self {
        self.body = self.body.detail(detail);
        self
    }

    fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// A request whose headers contradict each other or cannot be read.
    pub(crate) fn bad_header(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::with_message(code, message).status(StatusCode::BAD_REQUEST)
    }

    /// 503: come back.
    pub(crate) fn unavailable() -> Self {
        Self::with_message(ErrorCode::Unavailable, "the registry cannot do this at the moment; try again")
            .header(header::RETRY_AFTER, RETRY_AFTER)
    }

    /// 503: come back when all replicas are of a release that knows it.
    fn upgrading(since: Level) -> Self {
        let release = match since.release() {
            Some(release) => format!("roadstead {release} or later"),
            None => "the new release".to_owned(),
        };
        let message = format!(
            "nothing was done: the registry is being upgraded, and can do this when all its replicas run {release}; try \
             again then"
        );
        Self::with_message(ErrorCode::Unavailable, message).header(header::RETRY_AFTER, RETRY_AFTER_UPGRADE)
    }

    /// 503: another region is home, and clients' way there may be turning.
    fn fenced() -> Self {
        let message =
            "nothing was done: this region is not the home of its registry any more; push to the region that is";
        Self::with_message(ErrorCode::Unavailable, message).header(header::RETRY_AFTER, RETRY_AFTER)
    }

    /// A pull at a mirror that was not answered; `unknown` is the code of what neither it nor its home has.
    pub(crate) fn pull(error: PullError, unknown: ErrorCode) -> Self {
        match error {
            PullError::Unknown => Self::new(unknown),
            PullError::HomeAway(why) => {
                tracing::warn!(reason = %why, "what has not arrived from home could not be pulled: {why}");
                let message = "this is at the home of this mirror, has not arrived here yet, and home does not answer";
                Self::with_message(ErrorCode::Unavailable, message).header(header::RETRY_AFTER, RETRY_AFTER)
            }
            PullError::Fault(fault) => fault.into(),
        }
    }

    /// What was not written at a mirror of `home`, or of which that is not said.
    pub(crate) fn write(error: WriteError, home: &str) -> Self {
        let unavailable = |message: String| {
            tracing::warn!(reason = %error, "a push to a mirror was not answered: {error}");
            Self::with_message(ErrorCode::Unavailable, message).header(header::RETRY_AFTER, RETRY_AFTER)
        };
        match error {
            WriteError::ReadOnly => {
                let message = format!("this registry is a mirror of {home}: push and delete there, and it follows");
                Self::with_message(ErrorCode::Denied, message)
            }
            WriteError::HomeAway(_) => unavailable(format!(
                "nothing was changed: this registry is a mirror of {home}, which decides what is pushed and does not answer; \
                 push again when it is back"
            )),
            WriteError::Unclear(_) => unavailable(format!(
                "it is not known whether this was done: this registry is a mirror of {home}, which decides what is pushed and \
                 stopped answering; push again"
            )),
            WriteError::NotShownYet => unavailable(format!(
                "this was done at {home}, of which this registry is a mirror, and is not shown here yet; push again, or pull \
                 it there"
            )),
            WriteError::BlobsUnknown(missing) => ManifestPutError::BlobsUnknown(missing).into(),
            WriteError::PreconditionFailed => ManifestPutError::PreconditionFailed.into(),
            WriteError::NoRemote => ManifestPutError::NoRemote.into(),
            WriteError::Unknown => Self::new(ErrorCode::ManifestUnknown),
            WriteError::Invalid(reason) => Self::with_message(ErrorCode::ManifestInvalid, reason),
            WriteError::Fault(fault) => fault.into(),
        }
    }

    /// 429: come back.
    pub(crate) fn too_many(message: &'static str) -> Self {
        Self::with_message(ErrorCode::TooManyRequests, message).header(header::RETRY_AFTER, RETRY_AFTER)
    }

    /// A digest that does not go with the bytes.
    fn digest_mismatch(actual: Digest) -> Self {
        Self::new(ErrorCode::DigestInvalid).detail(json!({ "actual": actual }))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<RouteError> for ApiError {
    fn from(error: RouteError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let answer = Self::with_message(error.code(), error.to_string()).status(status);
        match error.allow() {
            Some(allow) => answer.header(header::ALLOW, allow),
            None => answer,
        }
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        if let Fault::Propose(ProposeError::NotYet { since, .. }) = &fault {
            tracing::warn!(error = %fault, "a request has to wait for the end of an upgrade");
            Self::upgrading(*since)
        } else if let Fault::Propose(ProposeError::Fenced(fenced)) = &fault {
            tracing::warn!(error = %fenced, "a client's change was refused: {fenced}");
            Self::fenced()
        } else if fault.is_transient() {
            tracing::warn!(error = %fault, "a request could not be done at the moment");
            Self::unavailable()
        } else {
            tracing::error!(error = %fault, "a request failed");
            Self::with_message(
                ErrorCode::Unknown,
                "the registry failed; its log has the reason under this request's id",
            )
        }
    }
}

impl From<BlobReadError> for ApiError {
    fn from(error: BlobReadError) -> Self {
        match error {
            BlobReadError::Unknown => Self::new(ErrorCode::BlobUnknown),
            BlobReadError::Fault(fault) => fault.into(),
        }
    }
}

impl From<ListTagsError> for ApiError {
    fn from(error: ListTagsError) -> Self {
        match error {
            ListTagsError::RepositoryUnknown => Self::new(ErrorCode::NameUnknown),
            ListTagsError::Fault(fault) => fault.into(),
        }
    }
}

impl From<ManifestReadError> for ApiError {
    fn from(error: ManifestReadError) -> Self {
        match error {
            ManifestReadError::Unknown => Self::new(ErrorCode::ManifestUnknown),
            ManifestReadError::Fault(fault) => fault.into(),
        }
    }
}

impl From<ManifestError> for ApiError {
    fn from(error: ManifestError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self::with_message(error.code(), error.to_string()).status(status)
    }
}

impl From<ManifestPutError> for ApiError {
    fn from(error: ManifestPutError) -> Self {
        match error {
            ManifestPutError::Invalid(error) => error.into(),
            ManifestPutError::DigestMismatch { actual } => Self::digest_mismatch(actual),
            ManifestPutError::BlobsUnknown(missing) => {
                let message = "push the blobs that the manifest names before the manifest";
                Self::with_message(ErrorCode::ManifestBlobUnknown, message).detail(json!({ "missing": missing }))
            }
            ManifestPutError::PreconditionFailed => {
                let message = "the reference names another manifest than If-Match or If-None-Match says, or none";
                Self::with_message(ErrorCode::Precondition, message)
            }
            ManifestPutError::NoRemote => {
                tracing::warn!("a push was not acknowledged: {error}");
                let message = "the manifest is stored in its home region and not replicated yet: no mirror has said in time \
                               that it has it too, so it is not known whether it outlives that region; push again";
                Self::with_message(ErrorCode::Unavailable, message).header(header::RETRY_AFTER, RETRY_AFTER)
            }
            ManifestPutError::Fault(fault) => fault.into(),
        }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let answer = Self::with_message(ErrorCode::SizeInvalid, error.to_string()).closing();
        match error {
            BodyError::Broken => answer,
            BodyError::Idle => answer.status(StatusCode::REQUEST_TIMEOUT),
        }
    }
}

/// Of a manifest: no other body is collected by a handler.
impl From<CollectError> for ApiError {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::Busy => Self::unavailable(),
            CollectError::TooLong => ManifestError::TooLarge.into(),
            CollectError::Body(error) => error.into(),
        }
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Unknown => Self::with_message(ErrorCode::BlobUploadUnknown, error.to_string()),
            // Where a session stands is told by headers, which the handler knows how to write.
            UploadError::OutOfOrder { offset } | UploadError::Superseded { offset } => {
                Self::with_message(ErrorCode::RangeInvalid, error.to_string()).detail(json!({ "offset": offset }))
            }
            UploadError::DigestMismatch { actual } => Self::digest_mismatch(actual),
            UploadError::Sha512NotAnnounced => Self::with_message(ErrorCode::DigestInvalid, error.to_string()),
            UploadError::Length => Self::with_message(ErrorCode::SizeInvalid, error.to_string()).closing(),
            UploadError::TooLarge { .. } => Self::with_message(ErrorCode::SizeInvalid, error.to_string())
                .status(StatusCode::PAYLOAD_TOO_LARGE)
                .closing(),
            UploadError::Busy => Self::unavailable(),
            UploadError::TooMany => Self::too_many("too many upload sessions are open; try again"),
            UploadError::Body(error) => error.into(),
            UploadError::Fault(fault) => fault.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_an_upgrade_says_for_which_release() {
        let not_yet = ProposeError::NotYet { since: Level::NEWEST, in_force: Level(0) };
        let error = ApiError::from(Fault::from(not_yet));
        assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error.headers, [(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_UPGRADE))]);
        let body = String::from_utf8(error.body.to_json()).unwrap();
        let release = Level::NEWEST.release().unwrap();
        assert!(body.contains("nothing was done") && body.contains(release), "{body}");
    }
}

//! What the errors of S3 servers mean to a caller of the store.

use std::error::Error;
use std::fmt::Display;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::BlobError;

/// Codes that say why access is refused, and what a person can do about it. Source: the list of error codes in the
/// reference of Amazon's S3 API, if nothing else is said.
const REFUSALS: [(&str, &str); 15] = [
    ("NoSuchBucket", "create the bucket, or correct its name, region or endpoint"),
    ("InvalidBucketName", "correct the name of the bucket"),
    ("AccessDenied", "give these credentials the right to read, write, list and delete in the bucket"),
    ("AllAccessDisabled", "ask the owner of the bucket"),
    ("AccountProblem", "ask the owner of the account"),
    ("InvalidAccessKeyId", "correct the access key id, or use the endpoint that knows it"),
    // Versity's.
    ("XAdminUserNotFound", "correct the access key id, or use the endpoint that knows it"),
    ("SignatureDoesNotMatch", "correct the secret access key, and look for a proxy that changes requests"),
    ("ExpiredToken", "renew the temporary credentials"),
    ("InvalidToken", "renew the temporary credentials"),
    ("RequestTimeTooSkewed", "set the clock of this machine or of the server: they differ too much"),
    ("AuthorizationHeaderMalformed", "set the region of the bucket"),
    ("IllegalLocationConstraintException", "set the region of the bucket"),
    ("PermanentRedirect", "set the region and the endpoint of the bucket"),
    ("MethodNotAllowed", "use an endpoint that speaks S3"),
];

/// Codes of a store without room: Amazon has none; the others are Ceph's, `MinIO`'s and Versity's.
const FULL: [&str; 6] = [
    "QuotaExceeded",
    "InsufficientStorage",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageQuotaExceeded",
    "ServiceQuotaExceeded",
];

/// Codes of a store that may answer better later. A status of 500 or above says the same, but for 501.
const BUSY: [&str; 7] = [
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "OperationAborted",
];

/// The error of a request that failed.
pub(super) fn failed<E>(operation: &'static str) -> impl FnOnce(SdkError<E, HttpResponse>) -> BlobError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    move |error| {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let context = causes(&error);
        match &error {
            SdkError::ServiceError(answer) => {
                let metadata = answer.err().meta();
                classify(operation, status, metadata.code(), metadata.message())
            }
            // An answer that is no XML: of a proxy, or of something that is no S3 server.
            SdkError::ResponseError(_) => classify(operation, status, None, Some(&context)),
            SdkError::ConstructionFailure(_) => broken(operation, &context),
            _ => BlobError::Unavailable(sentence(operation, &context)),
        }
    }
}

/// The error of one item in an answer.
pub(super) fn failed_code(operation: &str, code: Option<&str>, message: Option<&str>) -> BlobError {
    classify(operation, None, code, message)
}

/// The error of an answer that cannot be, or of a request that cannot be made.
pub(super) fn broken(operation: &str, what: &dyn Display) -> BlobError {
    BlobError::Broken(sentence(operation, what))
}

/// An error and what caused it, without the dump that the SDK appends.
pub(super) fn causes(error: &dyn Error) -> String {
    let texts = std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string);
    texts.collect::<Vec<_>>().join(": ")
}

fn sentence(operation: &str, what: &dyn Display) -> String {
    format!("{operation}: {what}")
}

fn classify(operation: &str, status: Option<u16>, code: Option<&str>, message: Option<&str>) -> BlobError {
    let code = code.unwrap_or_default();
    let status = status.unwrap_or_default();
    let refusal = REFUSALS.iter().find(|(refused, _)| *refused == code);
    let what = format!("{operation}: {status} {code} {}", message.unwrap_or_default());
    let what = what.trim_end().to_owned();
    match (code, status) {
        ("NoSuchUpload", _) => BlobError::MultipartUnknown,
        ("NoSuchKey" | "NotFound", _) => BlobError::NotFound,
        _ if let Some((_, advice)) = refusal => BlobError::Denied(format!("{what}: {advice}")),
        _ if FULL.contains(&code) || status == 507 => BlobError::Full(what),
        (_, 501) => BlobError::Broken(format!("{what}: the server does not do this; is it one that speaks S3?")),
        _ if BUSY.contains(&code) || status == 429 || status >= 500 => BlobError::Unavailable(what),
        // Answers to HEAD have no body, hence no code.
        ("", 404) => BlobError::NotFound,
        (_, 401 | 403) => BlobError::Denied(format!("{what}: check the credentials and their rights in the bucket")),
        ("", 301 | 307) => BlobError::Denied(format!("{what}: set the region and the endpoint of the bucket")),
        _ => BlobError::Broken(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str) -> BlobError {
        classify("PutObject", Some(status), Some(code).filter(|code| !code.is_empty()), Some("words"))
    }

    #[test]
    fn codes_say_what_happened() {
        assert!(matches!(of(404, "NoSuchKey"), BlobError::NotFound));
        assert!(matches!(of(404, ""), BlobError::NotFound));
        assert!(matches!(of(404, "NoSuchUpload"), BlobError::MultipartUnknown));
        assert!(matches!(of(507, "XMinioStorageFull"), BlobError::Full(_)));
        assert!(matches!(of(507, ""), BlobError::Full(_)));
        assert!(matches!(of(403, "QuotaExceeded"), BlobError::Full(_)));
        assert!(matches!(of(503, "SlowDown"), BlobError::Unavailable(_)));
        assert!(matches!(of(502, ""), BlobError::Unavailable(_)));
        assert!(matches!(of(400, "RequestTimeout"), BlobError::Unavailable(_)));
        assert!(matches!(of(501, ""), BlobError::Broken(_)));
        assert!(matches!(of(400, "InvalidPart"), BlobError::Broken(_)));
        assert!(matches!(of(200, "InternalError"), BlobError::Unavailable(_)));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let text = |status, code| match of(status, code) {
            BlobError::Denied(text) => text,
            other => panic!("{other:?}"),
        };
        assert!(text(404, "NoSuchBucket").contains("create the bucket"));
        assert!(text(403, "RequestTimeTooSkewed").contains("set the clock"));
        assert!(text(403, "SignatureDoesNotMatch").contains("secret access key"));
        assert!(text(403, "").contains("check the credentials"));
        assert!(text(301, "").contains("set the region"));
        assert_eq!(
            text(403, "InvalidAccessKeyId"),
            "PutObject: 403 InvalidAccessKeyId words: correct the access key id, or use the endpoint that knows it"
        );
    }
}

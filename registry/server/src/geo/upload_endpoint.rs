//! What home sends its mirrors of uploads that are in progress. Which there are, the lines of the feed say.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderValue, StatusCode, Uri};
use roadstead_domain::BlobReadError;

use super::endpoint::{Homeland, Refusal};
use super::siblings::asked_of_upload;

/// A stretch of an upload. How long the whole will be, nobody knows.
pub(super) async fn parts(State(home): State<Arc<Homeland>>, uri: Uri) -> Result<Response, Refusal> {
    let (repository, upload, range) = asked_of_upload(&uri)?;
    let body = match home.registry.read_upload(&repository, &upload, range.clone()).await {
        Ok(bytes) => Body::from_stream(bytes),
        Err(BlobReadError::Unknown) => {
            let elsewhere = match &home.others {
                Some(others) => others.upload(&repository, &upload, &range).await,
                None => None,
            };
            let unknown = home.unknown()?;
            elsewhere.ok_or(unknown)?
        }
        Err(BlobReadError::Fault(fault)) => return Err(Refusal::Failed(fault)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let given = HeaderValue::from_str(&format!("bytes {}-{}/*", range.start, range.end - 1));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    headers.insert(CONTENT_RANGE, given.map_err(|_| Refusal::Malformed("no such range"))?);
    Ok(response)
}

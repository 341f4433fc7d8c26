//! The manifests that name a manifest as their subject.

use axum::response::Response;
use http::{StatusCode, header};
use roadstead_domain::ReferrerEntry;
use roadstead_oci::{Descriptor, Digest, ErrorCode, Index, MediaType, RepositoryName, Route};

use crate::http::dispatch::Api;
use crate::http::error::ApiError;
use crate::http::respond::{Answer, OCI_FILTERS_APPLIED, next_link};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) async fn list(
    api: &Api,
    repository: RepositoryName,
    subject: Digest,
    artifact_type: Option<String>,
    last: Option<Digest>,
) -> Result<Response, ApiError> {
    let (wanted, last) = (artifact_type.as_deref(), last.as_ref());
    let at_home = match api.mirror() {
        Some(mirror) => mirror.referrers(&repository, &subject, wanted, last).await,
        None => Ok(None),
    };
    let listed = match at_home.map_err(|error| ApiError::pull(error, ErrorCode::ManifestUnknown))? {
        Some(listed) => listed,
        None => api.registry.list_referrers(&repository, &subject, wanted, last).await?,
    };
    let descriptors: Vec<Descriptor> = listed.entries.into_iter().filter_map(descriptor).collect();
    let filters = artifact_type.as_ref().map(|_| "artifactType");
    let last = listed.next.and_then(|last| last.parse().ok());
    let link = last.map(|last| next_link(&Route::Referrers { repository, subject, artifact_type, last: Some(last) }));
    Answer::new(StatusCode::OK)
        .optional(OCI_FILTERS_APPLIED, filters)
        .optional(header::LINK, link)
        .stale(listed.stale)
        .json(INDEX, Index::referrers(&descriptors))
}

/// What is answered where nothing refers, or nothing may be seen to.
pub(crate) fn empty() -> Result<Response, ApiError> {
    Answer::new(StatusCode::OK).json(INDEX, Index::referrers(&[]))
}

/// Types were checked when the manifest was pushed.
fn descriptor(entry: ReferrerEntry) -> Option<Descriptor> {
    let media_type = |text: String| MediaType::try_from(text).ok();
    Some(Descriptor {
        media_type: media_type(entry.media_type)?,
        digest: entry.digest,
        size: entry.size,
        urls: Vec::new(),
        annotations: entry.annotations.into_iter().collect(),
        artifact_type: entry.artifact_type.and_then(media_type),
        platform: None,
    })
}

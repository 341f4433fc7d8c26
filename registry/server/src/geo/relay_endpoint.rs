//! What a mirror of a part answers its own mirrors of what it leaves out: what its home has. They keep it, if they need it.

use axum::body::Body;
use axum::response::Response;
use http::header::RANGE;
use http::{HeaderMap, Method, StatusCode};
use roadstead_geo::{HomeBlob, HomeError, HomeManifest};
use roadstead_oci::{Digest, RangeRequest, Reference, RepositoryName};

use super::endpoint::{Homeland, Refusal, given_blob, given_manifest};

impl Homeland {
    /// A manifest that is not here.
    pub(super) async fn manifest_beyond(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Response, Refusal> {
        let Some(mirror) = self.beyond(repository) else { return Err(self.no_manifest(repository, reference)?) };
        match mirror.pass_on_manifest(repository, reference).await {
            Ok(HomeManifest { digest, media_type, bytes }) => given_manifest(&media_type, digest, bytes),
            Err(HomeError::Unknown { .. }) => Err(self.no_manifest(repository, reference)?),
            Err(error) => Err(error.into()),
        }
    }

    /// A stretch of a blob that is not here, or its size.
    pub(super) async fn blob_beyond(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let Some(mirror) = self.beyond(repository) else { return Err(self.no_blob(repository, digest)?) };
        if *method == Method::HEAD {
            return match mirror.pass_on_size(repository, digest).await {
                Ok(size) => given_blob(StatusCode::OK, Body::empty(), size, None),
                Err(HomeError::Unknown { .. }) => Err(self.no_blob(repository, digest)?),
                Err(error) => Err(error.into()),
            };
        }
        // Its size is not known here, and mirrors ask for stretches.
        let asked = headers.get(RANGE).and_then(|value| value.to_str().ok());
        let Some(RangeRequest::Part(stretch)) = asked.map(|range| RangeRequest::parse(range, u64::MAX)) else {
            return Err(Refusal::Malformed("of a blob that is not here, mirrors ask for a range"));
        };
        match mirror.pass_on_blob(repository, digest, stretch.clone()).await {
            Ok(HomeBlob { size, bytes }) => {
                let end = stretch.end.min(size);
                let range = format!("bytes {}-{}/{size}", stretch.start, end.saturating_sub(1));
                let length = end.saturating_sub(stretch.start);
                given_blob(StatusCode::PARTIAL_CONTENT, Body::from_stream(bytes), length, Some(range))
            }
            Err(HomeError::Unknown { .. }) => Err(self.no_blob(repository, digest)?),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<HomeError> for Refusal {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Refused(_) => Self::Malformed("the home of this mirror does not take the question"),
            error => Self::HomeAway(error.to_string()),
        }
    }
}

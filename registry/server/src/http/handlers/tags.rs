//! The tags of a repository.

use axum::response::Response;
use http::{StatusCode, header};
use roadstead_domain::Registry;
use roadstead_oci::{Page, RepositoryName, Route};
use serde_json::json;

use crate::http::error::ApiError;
use crate::http::respond::{Answer, next_link};

pub(crate) async fn list(registry: &Registry, repository: RepositoryName, page: Page) -> Result<Response, ApiError> {
    let listed = registry.list_tags(&repository, &page).await?;
    let document = json!({ "name": repository, "tags": listed.entries });
    let next = listed.next.map(|last| Page { n: page.n, last: Some(last) });
    let link = next.map(|page| next_link(&Route::Tags { repository, page }));
    Answer::new(StatusCode::OK)
        .optional(header::LINK, link)
        .stale(listed.stale)
        .json("application/json", document.to_string().into_bytes())
}

//! The repositories of the registry, as far as the caller may pull from them.

use axum::response::Response;
use http::{StatusCode, header};
use roadstead_domain::{Identity, Registry};
use roadstead_oci::{Page, Route};
use serde_json::json;

use crate::http::error::ApiError;
use crate::http::respond::{Answer, next_link};

pub(crate) async fn list(registry: &Registry, identity: &Identity, page: &Page) -> Result<Response, ApiError> {
    let listed = registry.list_repositories(identity, page).await?;
    let document = json!({ "repositories": listed.entries });
    let next = listed.next.map(|last| Page { n: page.n, last: Some(last) });
    let link = next.map(|page| next_link(&Route::Catalog { page }));
    Answer::new(StatusCode::OK)
        .optional(header::LINK, link)
        .stale(listed.stale)
        .json("application/json", document.to_string().into_bytes())
}

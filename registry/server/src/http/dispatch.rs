//! From a request to its handler.
//!
//! ```text
//! request -> Route::parse -> authenticate -> decide -> handler -> answer
//! ```
//!
//! The same [`Route`] drives all of it, and names the request in metrics and logs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header;
use roadstead_domain::{Decision, Identity, Registry, decide};
use roadstead_geo::{Mirror, WriteError};
use roadstead_oci::{Action, ErrorCode, Route};

use super::connection::Connection;
use super::error::ApiError;
use super::exchange::RouteName;
use super::handlers::{base, blob, catalog, manifest, referrers, tags, upload};
use crate::auth::{AuthError, Authenticator};

/// What every handler has at hand.
pub(crate) struct Api {
    pub(crate) registry: Arc<Registry>,
    pub(crate) authenticator: Arc<Authenticator>,
    /// What has pulls answered that have not arrived, if this began as a mirror.
    pub(crate) mirror: Option<Arc<Mirror>>,
}

impl Api {
    /// What has pulls answered that have not arrived, for as long as this is a mirror.
    pub(crate) fn mirror(&self) -> Option<&Arc<Mirror>> {
        self.mirror.as_ref().filter(|mirror| !mirror.is_over())
    }
}

/// Answers any request below `/v2`.
pub(crate) async fn serve(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let route = Route::parse(head.method.as_str(), head.uri.path(), head.uri.query());
    let name = route.as_ref().map_or("none", Route::name);
    let answer = match route {
        Ok(route) => admit(&api, route, &head, body).await,
        Err(error) => Err(error.into()),
    };
    let mut response = answer.unwrap_or_else(ApiError::into_response);
    response.extensions_mut().insert(RouteName(name));
    response
}

async fn admit(api: &Api, route: Route, head: &http::request::Parts, body: Body) -> Result<Response, ApiError> {
    let identity = match api.authenticator.authenticate(&head.headers).await {
        Ok(identity) => identity,
        Err(AuthError::Malformed | AuthError::WrongPassword) => return Err(challenge(api)),
        Err(AuthError::Overloaded) => return Err(ApiError::too_many("too many logins at once; try again")),
    };
    let answer = match decide(api.registry.access(), &identity, &route) {
        Decision::Allow => match api.mirror() {
            Some(mirror) if matches!(route.action(), Action::Push | Action::Delete) => {
                match may_write(mirror, &route).await {
                    Ok(()) => dispatch(api, &identity, route, head, body).await,
                    Err(error) => Err(error),
                }
            }
            _ => dispatch(api, &identity, route, head, body).await,
        },
        Decision::Challenge => Err(challenge(api)),
        Decision::Deny => Err(ApiError::new(ErrorCode::Denied)),
        Decision::Hide => hidden(&route),
    };
    let mut response = answer.unwrap_or_else(ApiError::into_response);
    response.extensions_mut().insert(identity); // for the log
    Ok(response)
}

fn challenge(api: &Api) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized).header(header::WWW_AUTHENTICATE, api.authenticator.challenge())
}

/// A mirror takes what its home lets it take. What home holds of blobs, only home lets go.
async fn may_write(mirror: &Mirror, route: &Route) -> Result<(), ApiError> {
    if matches!(route, Route::BlobDelete { .. }) {
        return Err(ApiError::write(WriteError::ReadOnly, mirror.home()));
    }
    mirror.may_write().await.map_err(|error| ApiError::write(error, mirror.home()))
}

/// What a repository that does not exist answers.
fn hidden(route: &Route) -> Result<Response, ApiError> {
    match route {
        Route::Base | Route::Catalog { .. } | Route::Extensions => Err(ApiError::new(ErrorCode::Denied)),
        Route::RepositoryExtensions { .. }
        | Route::Tags { .. }
        | Route::ManifestPut { .. }
        | Route::UploadStart { .. } => Err(ApiError::new(ErrorCode::NameUnknown)),
        Route::Referrers { .. } => referrers::empty(),
        Route::ManifestGet { .. } | Route::ManifestHead { .. } | Route::ManifestDelete { .. } => {
            Err(ApiError::new(ErrorCode::ManifestUnknown))
        }
        Route::BlobGet { .. } | Route::BlobHead { .. } | Route::BlobDelete { .. } => {
            Err(ApiError::new(ErrorCode::BlobUnknown))
        }
        Route::UploadStatus { .. }
        | Route::UploadPatch { .. }
        | Route::UploadPut { .. }
        | Route::UploadCancel { .. } => Err(ApiError::new(ErrorCode::BlobUploadUnknown)),
    }
}

async fn dispatch(
    api: &Api,
    identity: &Identity,
    route: Route,
    head: &http::request::Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let (registry, headers) = (&api.registry, &head.headers);
    match route {
        Route::Base => base::ping(),
        Route::Extensions => base::extensions(),
        Route::RepositoryExtensions { repository } => base::repository_extensions(registry, &repository),
        Route::Catalog { page } => catalog::list(registry, identity, &page).await,
        Route::Tags { repository, page } => tags::list(registry, repository, page).await,
        Route::Referrers { repository, subject, artifact_type, last } => {
            referrers::list(api, repository, subject, artifact_type, last).await
        }
        Route::ManifestGet { repository, reference } => manifest::get(api, headers, &repository, &reference).await,
        Route::ManifestHead { repository, reference } => manifest::head(api, headers, &repository, &reference).await,
        Route::ManifestPut { repository, reference, tags } => {
            manifest::put(api, headers, body, repository, &reference, &tags).await
        }
        Route::ManifestDelete { repository, reference } => manifest::delete(api, &repository, &reference).await,
        Route::BlobGet { repository, digest } => {
            let outbox = head.extensions.get::<Connection>().and_then(|connection| connection.outbox(head.version));
            blob::get(api, headers, &repository, &digest, outbox).await
        }
        Route::BlobHead { repository, digest } => blob::head(api, headers, &repository, &digest).await,
        Route::BlobDelete { repository, digest } => blob::delete(registry, &repository, digest).await,
        Route::UploadStart { repository, kind } => upload::start(api, identity, headers, body, repository, kind).await,
        Route::UploadStatus { repository, upload } => upload::status(registry, repository, upload).await,
        Route::UploadPatch { repository, upload } => upload::append(registry, headers, body, repository, upload).await,
        Route::UploadPut { repository, upload, digest } => {
            upload::close(api, headers, body, repository, upload, digest).await
        }
        Route::UploadCancel { repository, upload } => upload::cancel(registry, &repository, upload).await,
    }
}

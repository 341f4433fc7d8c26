//! From a request line to a [`Route`].

use super::query::Query;
use super::resource::Resource;
use super::{Method, Route, RouteError, UploadKind};
use crate::digest::{Algorithm, Digest};
use crate::page::Page;
use crate::reference::{Reference, ReferenceError};
use crate::repository::RepositoryName;
use crate::tag::Tag;

/// Listings answer HEAD as they do GET, as RFC 9110, section 9.1, wants it of every server.
const READ: &str = "GET, HEAD";

pub(super) fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    use Method::{Delete, Get, Head, Patch, Post, Put};

    let resource = Resource::parse(path)?;
    let query = Query::parse(query)?;
    let method = Method::from_text(method);
    let read = matches!(method, Some(Get | Head));
    match resource {
        Resource::Base if read => Ok(Route::Base),
        Resource::Catalog if read => Ok(Route::Catalog { page: page(&query)? }),
        Resource::Extensions if read => Ok(Route::Extensions),
        Resource::RepositoryExtensions(repository) if read => Ok(Route::RepositoryExtensions { repository }),
        Resource::Tags(repository) if read => Ok(Route::Tags { repository, page: page(&query)? }),
        Resource::Referrers(repository, subject) if read => Ok(Route::Referrers {
            repository,
            subject: subject.parse()?,
            artifact_type: query.first("artifactType").map(str::to_owned),
            last: query.first("last").map(str::parse).transpose()?,
        }),
        Resource::Base
        | Resource::Catalog
        | Resource::Extensions
        | Resource::RepositoryExtensions(_)
        | Resource::Tags(_)
        | Resource::Referrers(..) => Err(RouteError::MethodNotAllowed { allow: READ }),
        Resource::Manifest(repository, text) => match method {
            Some(Get) => Ok(Route::ManifestGet { repository, reference: existing(&text)? }),
            Some(Head) => Ok(Route::ManifestHead { repository, reference: existing(&text)? }),
            Some(Delete) => Ok(Route::ManifestDelete { repository, reference: existing(&text)? }),
            Some(Put) => manifest_put(repository, &text, &query),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, PUT, DELETE" }),
        },
        Resource::Blob(repository, digest) => match method {
            Some(Get) => Ok(Route::BlobGet { repository, digest: digest.parse()? }),
            Some(Head) => Ok(Route::BlobHead { repository, digest: digest.parse()? }),
            Some(Delete) => Ok(Route::BlobDelete { repository, digest: digest.parse()? }),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, DELETE" }),
        },
        Resource::Uploads(repository) => match method {
            Some(Post) => Ok(Route::UploadStart { repository, kind: upload_kind(&query)? }),
            _ => Err(RouteError::MethodNotAllowed { allow: "POST" }),
        },
        Resource::Upload(repository, upload) => match method {
            Some(Get | Head) => Ok(Route::UploadStatus { repository, upload: upload.parse()? }),
            Some(Patch) => Ok(Route::UploadPatch { repository, upload: upload.parse()? }),
            Some(Put) => Ok(Route::UploadPut {
                repository,
                upload: upload.parse()?,
                digest: digest(&query, "digest")?.ok_or(RouteError::DigestMissing)?,
            }),
            Some(Delete) => Ok(Route::UploadCancel { repository, upload: upload.parse()? }),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD, PATCH, PUT, DELETE" }),
        },
    }
}

fn page(query: &Query<'_>) -> Result<Page, RouteError> {
    Ok(Page::parse(query.first("n"), query.first("last"))?)
}

fn digest(query: &Query<'_>, key: &str) -> Result<Option<Digest>, RouteError> {
    Ok(query.first(key).map(str::parse).transpose()?)
}

/// The reference of a manifest that should be there already.
fn existing(text: &str) -> Result<Reference, RouteError> {
    text.parse().map_err(|error| match error {
        ReferenceError::Tag(error) => RouteError::TagUnknown(error),
        ReferenceError::Digest(error) => RouteError::Digest(error),
    })
}

fn manifest_put(repository: RepositoryName, text: &str, query: &Query<'_>) -> Result<Route, RouteError> {
    let reference = text.parse().map_err(|error| match error {
        ReferenceError::Tag(error) => RouteError::Tag(error),
        ReferenceError::Digest(error) => RouteError::Digest(error),
    })?;
    let mut tags: Vec<Tag> = Vec::new();
    for text in query.all("tag") {
        let tag = text.parse()?;
        if !tags.contains(&tag) {
            if tags.len() == Route::MAX_TAGS_PER_PUSH {
                return Err(RouteError::TooManyTags);
            }
            tags.push(tag);
        }
    }
    match reference {
        Reference::Tag(_) if !tags.is_empty() => Err(RouteError::TagsWithoutDigest),
        reference => Ok(Route::ManifestPut { repository, reference, tags }),
    }
}

fn upload_kind(query: &Query<'_>) -> Result<UploadKind, RouteError> {
    if let Some(digest) = digest(query, "mount")? {
        let from = query.first("from").map(str::parse).transpose()?;
        return Ok(UploadKind::Mount { digest, from });
    }
    if let Some(digest) = digest(query, "digest")? {
        return Ok(UploadKind::Monolithic { digest });
    }
    let algorithm = query.first("digest-algorithm").map(str::parse::<Algorithm>).transpose()?;
    Ok(UploadKind::Session { algorithm })
}

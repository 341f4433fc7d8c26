//! What a path names, before the method is looked at.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{Route, RouteError};
use crate::repository::RepositoryName;

/// What a path names. Of a repository's resources, the last segment is not parsed yet, since what is wrong with it is
/// another error for each method.
pub(super) enum Resource<'a> {
    Base,
    Catalog,
    Extensions,
    RepositoryExtensions(RepositoryName),
    Tags(RepositoryName),
    Referrers(RepositoryName, Cow<'a, str>),
    Manifest(RepositoryName, Cow<'a, str>),
    Blob(RepositoryName, Cow<'a, str>),
    Uploads(RepositoryName),
    Upload(RepositoryName, Cow<'a, str>),
}

impl<'a> Resource<'a> {
    pub(super) fn parse(path: &'a str) -> Result<Self, RouteError> {
        if path.len() > Route::MAX_PATH {
            return Err(RouteError::TooLong);
        }
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or(RouteError::NotFound)?,
            None => return Err(RouteError::NotFound),
        };
        let segments = rest.split('/').map(decode_segment).collect::<Result<Vec<_>, _>>()?;
        let words: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        match words.as_slice() {
            ["_catalog"] => Ok(Self::Catalog),
            ["_oci", "ext", "discover"] => Ok(Self::Extensions),
            [name @ .., "_oci", "ext", "discover"] => Ok(Self::RepositoryExtensions(repository(name)?)),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "referrers", _] => Ok(Self::Referrers(repository(name)?, last(segments)?)),
            [name @ .., "manifests", _] => Ok(Self::Manifest(repository(name)?, last(segments)?)),
            [name @ .., "blobs", _] => Ok(Self::Blob(repository(name)?, last(segments)?)),
            [name @ .., "blobs", "uploads", _] => Ok(Self::Upload(repository(name)?, last(segments)?)),
            _ => Err(RouteError::NotFound),
        }
    }
}

fn decode_segment(segment: &str) -> Result<Cow<'_, str>, RouteError> {
    let decoded = decode(segment)?;
    if decoded.contains('/') { Err(RouteError::Encoding) } else { Ok(decoded) }
}

/// Undoes percent-encoding. A `%` that begins no escape stays, and is in no word of the API.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, RouteError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| RouteError::Encoding)?;
    if decoded.chars().any(char::is_control) { Err(RouteError::Encoding) } else { Ok(decoded) }
}

/// A path that ends like one of a repository's but has no name in front is no path of the API.
fn repository(components: &[&str]) -> Result<RepositoryName, RouteError> {
    if components.is_empty() { Err(RouteError::NotFound) } else { Ok(components.join("/").parse()?) }
}

fn last(segments: Vec<Cow<'_, str>>) -> Result<Cow<'_, str>, RouteError> {
    segments.into_iter().next_back().ok_or(RouteError::NotFound)
}

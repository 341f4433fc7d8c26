//! The parameters behind the question mark.

use std::borrow::Cow;

use super::resource::decode;
use super::{Route, RouteError};

/// A query, decoded. A `+` stays one: media types have it, sloppy clients send it bare, and no value that this API
/// knows has the space that HTML forms mean by it.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(super) fn parse(query: Option<&'a str>) -> Result<Self, RouteError> {
        let query = query.unwrap_or_default();
        if query.len() > Route::MAX_QUERY {
            return Err(RouteError::TooLong);
        }
        let pairs = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(_, value)| !value.is_empty());
        pairs.map(|(key, value)| Ok((decode(key)?, decode(value)?))).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn first(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    pub(super) fn all<'q>(&'q self, key: &str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_ref())
    }
}

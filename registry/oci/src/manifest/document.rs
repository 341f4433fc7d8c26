//! The JSON of a manifest before its type is known: the fields of every type, each of which may be missing.

use std::collections::BTreeMap;

use serde::de::Deserializer;
use serde::{Deserialize, de::IgnoredAny};

use super::ManifestError;
use crate::descriptor::{Descriptor, empty_as_none, null_as_default};
use crate::media_type::MediaType;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) schema_version: Option<u64>,
    #[serde(default, deserialize_with = "empty_as_none")]
    pub(super) media_type: Option<MediaType>,
    pub(super) config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(super) layers: Option<Vec<Descriptor>>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "empty_as_none")]
    pub(super) artifact_type: Option<MediaType>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) annotations: BTreeMap<String, String>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        serde_json::from_slice(bytes).map_err(|error| {
            // The parser quotes what it does not like, which may be megabytes.
            const MAX_REASON: usize = 200;
            ManifestError::Malformed(error.to_string().chars().take(MAX_REASON).collect())
        })
    }

    /// Docker's schema 1, which has a field that no other has.
    pub(super) fn is_schema1(&self) -> bool {
        self.schema_version == Some(1) || self.fs_layers.is_some()
    }
}

/// A list that is there, though it be `null`: so clients written in Go spell an empty one.
fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Descriptor>>, D::Error> {
    null_as_default(deserializer).map(Some)
}

//! Descriptors: how one piece of content names another.
//!
//! Source: OCI image specification, `descriptor.md`, and `image-index.md` for the platform.
//!
//! `null` and a missing field are one and the same here, as they are to the clients, most of which are written in
//! Go. The form is JSON's: fields without a value are left out, so no other encoding can carry it.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::media_type::MediaType;

/// What a manifest says of a piece of content. Unknown fields, and the embedded `data`, are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes, at most `i64::MAX`.
    #[serde(deserialize_with = "non_negative")]
    pub size: u64,
    /// Where else the content can be had.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What else is said about the content.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The type of the artifact, if the content is a manifest of one.
    #[serde(default, deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// What the content runs on, if it is an entry of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What an image runs on, in Go's words for it (`GOOS`, `GOARCH`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// Such as `linux`.
    #[serde(default)]
    pub os: String,
    /// Such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the system that is needed, such as `10.0.14393.1066`.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The features of the system that are needed, such as `win32k`.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
}

/// The specification's sizes are `int64` and never negative.
fn non_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    u64::try_from(i64::deserialize(deserializer)?).map_err(|_| D::Error::custom("a size must not be negative"))
}

pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The specification speaks of an artifact type that is "empty or missing" as of one case.
pub(crate) fn empty_as_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MediaType>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .filter(|text| !text.is_empty())
        .map(|text| text.try_into().map_err(D::Error::custom))
        .transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_round_trips() {
        let full = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "size": i64::MAX,
            "urls": ["https://example.com/"],
            "annotations": {"key": "value"},
            "artifactType": "application/vnd.example",
            "platform": {
                "architecture": "amd64", "os": "windows", "variant": "v1", "os.version": "10.0", "os.features": ["win32k"],
            },
        });
        let descriptor: Descriptor = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(&descriptor).unwrap(), full);
    }

    #[test]
    fn what_is_optional_may_be_null_and_is_left_out() {
        let bare = json!({
            "mediaType": "a/b",
            "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "size": 0,
        });
        let mut nulls = bare.clone();
        for field in ["urls", "annotations", "artifactType", "platform", "data"] {
            nulls[field] = json!(null);
        }
        let descriptor: Descriptor = serde_json::from_value(nulls).unwrap();
        assert_eq!(serde_json::to_value(&descriptor).unwrap(), bare);
    }
}

//! Media types, and which of them mean something to a registry.
//!
//! Sources: RFC 6838, section 4.2 (the grammar); OCI image specification, `media-types.md`; Docker image manifest
//! V2, schema 1 and 2 (the older types of the same things).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A media type `type/subtype` without parameters, spelled as it was declared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaType(Cow<'static, str>);

/// A text that is no media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a media type has the form type/subtype, each at most 127 letters, digits or any of `!#$&-^_.+`")]
pub struct MediaTypeError;

/// The two shapes of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// One image or artifact: a config and layers.
    Image,
    /// A list of manifests, one a platform.
    Index,
}

impl MediaType {
    /// The longest media type: two names of 127 characters (RFC 6838, section 4.2) and the slash.
    pub const MAX_LEN: usize = 2 * MAX_NAME_LEN + 1;

    /// An OCI image manifest.
    pub const OCI_MANIFEST: Self = Self::known("application/vnd.oci.image.manifest.v1+json");
    /// An OCI image index.
    pub const OCI_INDEX: Self = Self::known("application/vnd.oci.image.index.v1+json");
    /// The configuration of an OCI image.
    pub const OCI_CONFIG: Self = Self::known("application/vnd.oci.image.config.v1+json");
    /// The content `{}`, where an artifact has no config or no layer.
    pub const OCI_EMPTY: Self = Self::known("application/vnd.oci.empty.v1+json");
    /// A Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: Self = Self::known("application/vnd.docker.distribution.manifest.v2+json");
    /// A Docker manifest list.
    pub const DOCKER_MANIFEST_LIST: Self = Self::known("application/vnd.docker.distribution.manifest.list.v2+json");
    /// A Docker image manifest, version 2, schema 1. Refused: its layers are unordered by digest and its signature
    /// makes the digest depend on who asks.
    pub const DOCKER_SCHEMA1: Self = Self::known("application/vnd.docker.distribution.manifest.v1+json");
    /// The same, signed.
    pub const DOCKER_SCHEMA1_SIGNED: Self = Self::known("application/vnd.docker.distribution.manifest.v1+prettyjws");

    const fn known(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The media type of a `Content-Type` header, whose parameters registries are to ignore (OCI distribution
    /// specification, "Pushing manifests").
    ///
    /// # Errors
    /// [`MediaTypeError`] if what is left is no media type.
    pub fn from_content_type(header: &str) -> Result<Self, MediaTypeError> {
        header.split(';').next().unwrap_or_default().trim_matches([' ', '\t']).parse()
    }

    /// The media type as it stands in a header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a manifest of this type is; `None` for everything that is no manifest, or none that is kept here.
    pub fn manifest_kind(&self) -> Option<ManifestKind> {
        if [Self::OCI_MANIFEST, Self::DOCKER_MANIFEST].contains(self) {
            Some(ManifestKind::Image)
        } else if [Self::OCI_INDEX, Self::DOCKER_MANIFEST_LIST].contains(self) {
            Some(ManifestKind::Index)
        } else {
            None
        }
    }

    /// Whether this is Docker's schema 1, signed or not.
    pub fn is_docker_schema1(&self) -> bool {
        [Self::DOCKER_SCHEMA1, Self::DOCKER_SCHEMA1_SIGNED].contains(self)
    }

    /// Whether this is a layer that stays where its `urls` say and that no registry has to hold, however it is
    /// compressed.
    pub fn is_foreign_layer(&self) -> bool {
        self.0.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
            || self.0.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
    }
}

/// RFC 6838, section 4.2: `restricted-name` has one leading character and up to 126 more.
const MAX_NAME_LEN: usize = 127;

/// RFC 6838, section 4.2: `restricted-name`.
fn is_restricted_name(name: &str) -> bool {
    name.len() <= MAX_NAME_LEN
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for MediaType {
    type Error = MediaTypeError;

    fn try_from(text: String) -> Result<Self, MediaTypeError> {
        let (name, subtype) = text.split_once('/').ok_or(MediaTypeError)?;
        let valid = is_restricted_name(name) && is_restricted_name(subtype);
        if valid { Ok(Self(Cow::Owned(text))) } else { Err(MediaTypeError) }
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.0.into_owned()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar() {
        let long = "a".repeat(127);
        for valid in ["a/b", "text/plain", "application/vnd.a-b_c.d+json", "0/1!#$&-^_.+", &format!("{long}/{long}")] {
            assert_eq!(valid.parse::<MediaType>().unwrap().as_str(), valid);
        }
        for invalid in [
            "",
            "/",
            "a",
            "a/",
            "/b",
            "a/b/c",
            "a/b;q=1",
            "a /b",
            "a/ b",
            "a/+b",
            ".a/b",
            "a/b*",
            "*/*",
            "ä/b",
            "a\0/b",
            &format!("{long}a/b"),
            &format!("a/{long}b"),
        ] {
            assert_eq!(invalid.parse::<MediaType>(), Err(MediaTypeError), "{invalid}");
        }
    }

    #[test]
    fn the_known_ones_are_valid() {
        for known in [
            MediaType::OCI_MANIFEST,
            MediaType::OCI_INDEX,
            MediaType::OCI_CONFIG,
            MediaType::OCI_EMPTY,
            MediaType::DOCKER_MANIFEST,
            MediaType::DOCKER_MANIFEST_LIST,
            MediaType::DOCKER_SCHEMA1,
            MediaType::DOCKER_SCHEMA1_SIGNED,
        ] {
            assert_eq!(known.as_str().parse(), Ok(known));
        }
    }

    #[test]
    fn a_content_type_loses_its_parameters() {
        for header in [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.index.v1+json; charset=utf-8",
            " application/vnd.oci.image.index.v1+json\t;a=\"b;c\"",
        ] {
            assert_eq!(MediaType::from_content_type(header), Ok(MediaType::OCI_INDEX));
        }
        assert_eq!(MediaType::from_content_type("; charset=utf-8"), Err(MediaTypeError));
    }

    #[test]
    fn only_two_types_are_manifests_and_two_are_indexes() {
        use ManifestKind::{Image, Index};
        for (media_type, kind) in [
            (MediaType::OCI_MANIFEST, Some(Image)),
            (MediaType::DOCKER_MANIFEST, Some(Image)),
            (MediaType::OCI_INDEX, Some(Index)),
            (MediaType::DOCKER_MANIFEST_LIST, Some(Index)),
            (MediaType::OCI_CONFIG, None),
            (MediaType::DOCKER_SCHEMA1, None),
        ] {
            assert_eq!(media_type.manifest_kind(), kind, "{media_type}");
        }
        assert!(MediaType::DOCKER_SCHEMA1.is_docker_schema1() && MediaType::DOCKER_SCHEMA1_SIGNED.is_docker_schema1());
        assert!(!MediaType::DOCKER_MANIFEST.is_docker_schema1());
    }

    #[test]
    fn foreign_layers_are_known_however_compressed() {
        for (text, foreign) in [
            ("application/vnd.oci.image.layer.nondistributable.v1.tar", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", true),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip", false),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", false),
        ] {
            assert_eq!(text.parse::<MediaType>().unwrap().is_foreign_layer(), foreign, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_parses_is_displayed_alike(text in "[a-z!#$&^_.+/ ;-]{0,20}") {
            if let Ok(media_type) = text.parse::<MediaType>() {
                prop_assert_eq!(media_type.to_string(), text);
            }
        }
    }
}

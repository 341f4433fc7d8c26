//! Manifests: the exact bytes, and what they say.
//!
//! ```text
//! Content-Type, bytes -> size? -> shape? -> JSON? -> which type? -> that type's fields? -> Manifest
//! ```
//!
//! Sources: OCI image specification, `manifest.md` and `image-index.md`; Docker image manifest V2, schema 2; OCI
//! distribution specification, "Pushing Manifests".
//!
//! The bytes are kept as they came and are never written anew, since their digest is the manifest's name. A manifest
//! that two clients could read in two ways is refused: one with a field of the other kind in it (CVE-2021-41190), with
//! two types that disagree, or with a known field twice.

mod document;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use self::document::Document;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error_code::ErrorCode;
use crate::media_type::{ManifestKind, MediaType};

/// A manifest that can be kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    bytes: Bytes,
    media_type: MediaType,
    content: Content,
    subject: Option<Descriptor>,
    artifact_type: Option<MediaType>,
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Image { config: Box<Descriptor>, layers: Vec<Descriptor> },
    Index { manifests: Vec<Descriptor> },
}

/// Why a body is no manifest that can be kept here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`Manifest::MAX_SIZE`].
    #[error("a manifest may be at most {} bytes long", Manifest::MAX_SIZE)]
    TooLarge,
    /// Nested more deeply than [`Manifest::MAX_DEPTH`].
    #[error("a manifest may be nested at most {} levels deep", Manifest::MAX_DEPTH)]
    TooDeep,
    /// More descriptors than [`Manifest::MAX_DESCRIPTORS`], or more values than go with so many.
    #[error("a manifest may have at most {} descriptors", Manifest::MAX_DESCRIPTORS)]
    TooMany,
    /// Not JSON, or not of the form of its type: among others, with a digest that is none.
    #[error("the manifest cannot be read: {0}")]
    Malformed(String),
    /// Neither the request nor the body declares a type.
    #[error("neither Content-Type nor mediaType says of which type the manifest is")]
    MediaTypeMissing,
    /// The request and the body declare different types.
    #[error("Content-Type says {declared}, but the manifest's mediaType is {actual}")]
    MediaTypeMismatch {
        /// The `Content-Type`.
        declared: MediaType,
        /// The `mediaType`.
        actual: MediaType,
    },
    /// Not a type of manifest that can be kept here.
    #[error("{0} is no type of manifest that this registry can keep")]
    UnsupportedMediaType(MediaType),
    /// Docker's schema 1.
    #[error("Docker image manifests of schema 1 are not supported: push the image again with a current client")]
    Schema1,
    /// `schemaVersion` is missing or another one.
    #[error("a manifest's schemaVersion must be 2")]
    SchemaVersion,
    /// A field that its kind must have is missing.
    #[error("the manifest has no {0}")]
    FieldMissing(&'static str),
    /// A field that only the other kind has.
    #[error("a manifest of this type cannot have {0}: others would take it for one of another type")]
    Ambiguous(&'static str),
    /// It has a subject and more than [`Manifest::MAX_REFERRER_ANNOTATIONS`] of annotations.
    #[error(
        "the annotations of a manifest with a subject may be at most {} bytes long",
        Manifest::MAX_REFERRER_ANNOTATIONS
    )]
    AnnotationsTooLarge,
}

impl ManifestError {
    /// What the client is told.
    pub const fn code(&self) -> ErrorCode {
        ErrorCode::ManifestInvalid
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::TooLarge => 413,
            _ => self.code().status(),
        }
    }
}

impl Manifest {
    /// In bytes. The specification wants at least 4 megabytes supported, and clients read no more than 4 MiB (skopeo
    /// and podman by `MaxManifestBodySize`, oras by `defaultMaxMetadataBytes`): what is larger could be pushed, but not
    /// pulled.
    pub const MAX_SIZE: usize = 4 * 1024 * 1024;

    /// The specification's deepest value, the features of the platform of an entry of an index, is at level 5. Custom
    /// fields may go much deeper, but stay below the 127 at which common readers of JSON give up.
    pub const MAX_DEPTH: usize = 100;

    /// Each of them is looked up in one step of the state machine, at about a microsecond: the largest manifest
    /// holds it up for some 10 ms. Container images have at most 128 layers (Docker's overlay driver stacks no more); the
    /// longest real manifests are indexes of referrers, of which 4 MiB hold about as many as this at 400 bytes each.
    pub const MAX_DESCRIPTORS: usize = 10_000;

    /// In bytes of keys and values. They are copied into each listing of the subject's referrers, which is a manifest
    /// itself: so at least 16 of them fit into one of [`Manifest::MAX_SIZE`].
    pub const MAX_REFERRER_ANNOTATIONS: usize = 256 * 1024;

    /// Reads a manifest that came with the `Content-Type` `declared`.
    pub fn parse(declared: Option<&MediaType>, bytes: Bytes) -> Result<Self, ManifestError> {
        if bytes.len() > Self::MAX_SIZE {
            return Err(ManifestError::TooLarge);
        }
        shape::check(&bytes)?;
        let document = Document::parse(&bytes)?;
        let media_type = media_type(declared, &document)?;
        let kind = media_type.manifest_kind().ok_or_else(|| ManifestError::UnsupportedMediaType(media_type.clone()))?;
        if document.schema_version != Some(2) {
            return Err(ManifestError::SchemaVersion);
        }
        let Document { config, layers, manifests, subject, artifact_type, annotations, .. } = document;
        let content = match kind {
            ManifestKind::Image if manifests.is_some() => return Err(ManifestError::Ambiguous("manifests")),
            ManifestKind::Image => Content::Image {
                config: Box::new(config.ok_or(ManifestError::FieldMissing("config"))?),
                layers: layers.ok_or(ManifestError::FieldMissing("layers"))?,
            },
            ManifestKind::Index if config.is_some() => return Err(ManifestError::Ambiguous("config")),
            ManifestKind::Index if layers.is_some() => return Err(ManifestError::Ambiguous("layers")),
            ManifestKind::Index => {
                Content::Index { manifests: manifests.ok_or(ManifestError::FieldMissing("manifests"))? }
            }
        };
        let manifest = Self { bytes, media_type, content, subject, artifact_type, annotations };
        manifest.check_bounds()?;
        Ok(manifest)
    }

    fn check_bounds(&self) -> Result<(), ManifestError> {
        if self.layers().len() + self.manifests().len() > Self::MAX_DESCRIPTORS {
            return Err(ManifestError::TooMany);
        }
        let annotations: usize = self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if self.subject.is_some() && annotations > Self::MAX_REFERRER_ANNOTATIONS {
            return Err(ManifestError::AnnotationsTooLarge);
        }
        Ok(())
    }

    /// The bytes that were pushed.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The type that was declared for it: what a pull answers as `Content-Type`.
    pub const fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Its shape.
    pub const fn kind(&self) -> ManifestKind {
        match self.content {
            Content::Image { .. } => ManifestKind::Image,
            Content::Index { .. } => ManifestKind::Index,
        }
    }

    /// An image's configuration.
    pub const fn config(&self) -> Option<&Descriptor> {
        match &self.content {
            Content::Image { config, .. } => Some(config),
            Content::Index { .. } => None,
        }
    }

    /// An image's layers, the lowest first. An index has none.
    pub fn layers(&self) -> &[Descriptor] {
        match &self.content {
            Content::Image { layers, .. } => layers,
            Content::Index { .. } => &[],
        }
    }

    /// An index's entries as they stand, those that are no manifests included. An image has none.
    pub fn manifests(&self) -> &[Descriptor] {
        match &self.content {
            Content::Image { .. } => &[],
            Content::Index { manifests } => manifests,
        }
    }

    /// The manifest that this one refers to. It need not exist.
    pub const fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// The type of the artifact: the declared one or, of an image, the type of its config. An index has none but the
    /// declared one (OCI distribution specification, "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&MediaType> {
        self.artifact_type.as_ref().or_else(|| self.config().map(|config| &config.media_type))
    }

    /// What else is said about it.
    pub const fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The blobs that the repository must hold, in the order of their first mention and without duplicates: an image's
    /// config and layers, but not its foreign layers; an index's entries that are no manifests (`BuildKit` keeps its
    /// caches so).
    pub fn blobs(&self) -> Vec<Digest> {
        let layers = self.layers().iter().filter(|layer| !layer.media_type.is_foreign_layer());
        let entries = self.manifests().iter().filter(|entry| !is_manifest(entry));
        distinct(self.config().into_iter().chain(layers).chain(entries))
    }

    /// The manifests that an index lists, in the order of their first mention and without duplicates. They need not
    /// exist.
    pub fn children(&self) -> Vec<Digest> {
        distinct(self.manifests().iter().filter(|entry| is_manifest(entry)))
    }

    /// The manifest as the listing of its subject's referrers shows it, if it has a subject. `digest` is its own.
    pub fn referrer(&self, digest: Digest) -> Option<Descriptor> {
        self.subject.as_ref().map(|_| Descriptor {
            media_type: self.media_type.clone(),
            digest,
            size: self.bytes.len() as u64,
            urls: Vec::new(),
            annotations: self.annotations.clone(),
            artifact_type: self.artifact_type().cloned(),
            platform: None,
        })
    }
}

/// The one type that request and body agree on.
fn media_type(declared: Option<&MediaType>, document: &Document) -> Result<MediaType, ManifestError> {
    let either = declared.or(document.media_type.as_ref());
    if document.is_schema1() || either.is_some_and(MediaType::is_docker_schema1) {
        return Err(ManifestError::Schema1);
    }
    match (declared, &document.media_type) {
        (Some(declared), Some(actual)) if declared != actual => {
            Err(ManifestError::MediaTypeMismatch { declared: declared.clone(), actual: actual.clone() })
        }
        _ => either.cloned().ok_or(ManifestError::MediaTypeMissing),
    }
}

fn is_manifest(entry: &Descriptor) -> bool {
    entry.media_type.manifest_kind().is_some()
}

fn distinct<'a>(descriptors: impl Iterator<Item = &'a Descriptor>) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    descriptors.map(|descriptor| descriptor.digest).filter(|digest| seen.insert(*digest)).collect()
}

#[cfg(test)]
mod tests;

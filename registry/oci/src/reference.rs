//! What a manifest URL ends in.
//!
//! Source: OCI distribution specification, "Pulling manifests": `<tag-or-digest>` is either a digest or a tag and
//! nothing else. A digest always has a colon and a tag never does, so the colon decides.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};
use crate::tag::{Tag, TagError};

/// The name of a manifest within its repository.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// Whatever manifest the tag points at now.
    Tag(Tag),
    /// The one manifest with this digest.
    Digest(Digest),
}

/// Why a text is neither a tag nor a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It has no colon, so it was meant as a tag.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// It has a colon, so it was meant as a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_colon_makes_a_digest() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.parse(), Ok(Reference::Digest(digest.parse().unwrap())));
        assert_eq!("sha256-e3b0".parse(), Ok(Reference::Tag("sha256-e3b0".parse().unwrap())));
        assert_eq!("sha256:baddigeststring".parse::<Reference>(), Err(ReferenceError::Digest(DigestError::Length)));
        assert_eq!("a:b".parse::<Reference>(), Err(ReferenceError::Digest(DigestError::Algorithm)));
        assert_eq!("-a".parse::<Reference>(), Err(ReferenceError::Tag(TagError)));
        assert_eq!("".parse::<Reference>(), Err(ReferenceError::Tag(TagError)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_parses_is_displayed_alike(text in "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            prop_assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
    }
}

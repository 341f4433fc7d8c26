//! Tags.
//!
//! Source: OCI distribution specification, "Pulling manifests": a tag matches `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that points at one manifest of a repository and can be moved. Ordered byte by byte, one of the
/// two orders that the specification allows for listings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

/// A text that is no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tag has 1 to 128 letters, digits, `_`, `.` or `-`, and does not begin with `.` or `-`")]
pub struct TagError;

impl Tag {
    /// The longest tag that the specification knows.
    pub const MAX_LEN: usize = 128;

    /// The tag as it stands in a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= Self::MAX_LEN
            && text.bytes().next().is_some_and(is_word)
            && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-');
        if valid { Ok(Self(text.to_owned())) } else { Err(TagError) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Tag {
    type Error = TagError;

    fn try_from(text: String) -> Result<Self, TagError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar() {
        let longest = "a".repeat(Tag::MAX_LEN);
        for valid in ["a", "A", "0", "_", "latest", "v1.2.3-rc.1", "_.-", longest.as_str()] {
            assert_eq!(valid.parse::<Tag>().unwrap().as_str(), valid);
        }
        let too_long = format!("{longest}a");
        for invalid in ["", ".a", "-a", "a/b", "a:b", "a b", "a+b", "a\0", "ä", "a%20", too_long.as_str()] {
            assert_eq!(invalid.parse::<Tag>(), Err(TagError), "{invalid}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_the_specification_generates_is_taken(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let tag: Tag = text.parse().unwrap();
            prop_assert_eq!(tag.to_string(), text);
            prop_assert_eq!(serde_json::from_str::<Tag>(&serde_json::to_string(&tag).unwrap()).unwrap(), tag);
        }
    }
}

//! Repository names.
//!
//! Source: OCI distribution specification, "Pulling manifests": `<name>` matches
//! `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a repository, such as `library/nginx`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

/// Why a text is no repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryNameError {
    /// Longer than [`RepositoryName::MAX_LEN`].
    #[error("a repository name must be at most 255 characters long")]
    TooLong,
    /// Does not match the specification's grammar.
    #[error(
        "a repository name is made of lower-case letters and digits, separated by single `.`, `_`, `__`, dashes or `/`"
    )]
    Grammar,
}

impl RepositoryName {
    /// The most that clients accept for host and name together (OCI distribution specification), so no longer
    /// name could ever be pulled.
    pub const MAX_LEN: usize = 255;

    /// The name as it stands in a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = RepositoryNameError;

    fn from_str(text: &str) -> Result<Self, RepositoryNameError> {
        if text.len() > Self::MAX_LEN {
            return Err(RepositoryNameError::TooLong);
        }
        if text.split('/').all(is_component) { Ok(Self(text.to_owned())) } else { Err(RepositoryNameError::Grammar) }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_alphanumeric(*first)
        && is_alphanumeric(*last)
        && component
            .split(|character: char| character.is_ascii() && is_alphanumeric(character as u8))
            .filter(|separator| !separator.is_empty())
            .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RepositoryName {
    type Error = RepositoryNameError;

    fn try_from(text: String) -> Result<Self, RepositoryNameError> {
        text.parse()
    }
}

impl From<RepositoryName> for String {
    fn from(name: RepositoryName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar() {
        let longest = "a".repeat(RepositoryName::MAX_LEN);
        for valid in [
            "a",
            "0",
            "library/nginx",
            "a.b_c__d-e---f/0",
            "a/b/c/d",
            "blobs/uploads",
            "v2/manifests",
            longest.as_str(),
        ] {
            assert_eq!(valid.parse::<RepositoryName>().unwrap().as_str(), valid);
        }
        for invalid in [
            "", "/", "/a", "a/", "a//b", "A", "a/B", "-a", "a-", ".a", "a.", "_a", "a_", "a..b", "a___b", "a._b",
            "a-_b", "a.-b", "..", "a/../b", "./a", "a b", "a\0", "a\n", "ä", "a%2fb", "_catalog", "a:b", "a@b",
        ] {
            assert_eq!(invalid.parse::<RepositoryName>(), Err(RepositoryNameError::Grammar), "{invalid}");
        }
        assert_eq!(format!("{longest}a").parse::<RepositoryName>(), Err(RepositoryNameError::TooLong));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_the_specification_generates_is_taken(
            text in r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,3}(/[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,3}){0,3}"
        ) {
            let name: RepositoryName = text.parse().unwrap();
            prop_assert_eq!(name.to_string(), text);
            prop_assert_eq!(serde_json::from_str::<RepositoryName>(&serde_json::to_string(&name).unwrap()).unwrap(), name);
        }
    }
}

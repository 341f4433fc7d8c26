//! The identity of an upload session.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The identity of one upload session: the last segment of its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UploadId(Uuid);

/// A text that is no upload id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upload session is named by a UUID in lower case")]
pub struct UploadIdError;

impl UploadId {
    /// The session of this name.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Whether it was drawn at random, as those of clients' sessions are (RFC 9562, version 4), and not made of what the
    /// session is for.
    pub const fn is_random(&self) -> bool {
        self.0.get_version_num() == 4
    }

    /// The name in bytes, as it stands in stored keys.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        let id = Uuid::try_parse(text).map_err(|_| UploadIdError)?;
        // One spelling only, so that a session has one URL.
        if id.hyphenated().to_string() == text { Ok(Self(id)) } else { Err(UploadIdError) }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_session_has_one_spelling() {
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert_eq!(id.parse::<UploadId>().unwrap().to_string(), id);
        for invalid in [
            String::new(),
            "uploads".into(),
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
        ] {
            assert_eq!(invalid.parse::<UploadId>(), Err(UploadIdError), "{invalid}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn ids_round_trip(id in any::<u128>()) {
            let id = UploadId::new(Uuid::from_u128(id));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}

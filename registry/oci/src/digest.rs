//! Content digests, `<algorithm>:<encoded>`.
//!
//! Source: OCI image specification, `descriptor.md`, "Digests". Only the two registered algorithms that this
//! registry can compute are accepted; everything else is refused where it enters.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hash algorithm that content can be addressed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which every client must support.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of the hash in bytes.
    pub const fn output_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::Algorithm),
        }
    }
}

/// The digest of some content. Well-formed by construction; says nothing about whether anybody has hashed that
/// content: that is what [`Verified`](crate::Verified) says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Value);

/// Ordered as its text is: by algorithm, then by hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon between algorithm and hash.
    #[error("a digest has the form <algorithm>:<hex>")]
    Form,
    /// The algorithm is not one of [`Algorithm`].
    #[error("a digest's algorithm must be sha256 or sha512")]
    Algorithm,
    /// The hash has another length than the algorithm's.
    #[error("a sha256 digest has 64 hexadecimal digits, a sha512 digest 128")]
    Length,
    /// The hash is not in lower-case hexadecimal.
    #[error("a digest's hash must be lower-case hexadecimal")]
    Hex,
}

/// In bytes: the longest hash, and the longest text of a digest.
const MAX_OUTPUT_LEN: usize = 64;
const MAX_TEXT_LEN: usize = "sha512:".len() + 2 * MAX_OUTPUT_LEN;

impl Digest {
    /// A digest from a hash that is already in bytes.
    ///
    /// # Errors
    /// [`DigestError::Length`] unless `hash` has exactly [`Algorithm::output_len`] bytes.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Result<Self, DigestError> {
        let value = match algorithm {
            Algorithm::Sha256 => Value::Sha256(hash.try_into().map_err(|_| DigestError::Length)?),
            Algorithm::Sha512 => Value::Sha512(hash.try_into().map_err(|_| DigestError::Length)?),
        };
        Ok(Self(value))
    }

    /// The algorithm in front of the colon.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Value::Sha256(_) => Algorithm::Sha256,
            Value::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The hash in bytes.
    pub const fn hash(&self) -> &[u8] {
        match &self.0 {
            Value::Sha256(hash) => hash,
            Value::Sha512(hash) => hash,
        }
    }

    /// What it is written as, in `buffer`: manifests name many, and each command and row of theirs is read and written.
    fn text<'a>(&self, buffer: &'a mut [u8; MAX_TEXT_LEN]) -> &'a str {
        let (name, hash) = (self.algorithm().as_str(), self.hash());
        buffer[..name.len()].copy_from_slice(name.as_bytes());
        buffer[name.len()] = b':';
        let end = name.len() + 1 + 2 * hash.len();
        for (digits, byte) in buffer[name.len() + 1..end].chunks_exact_mut(2).zip(hash) {
            digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        // It is ASCII.
        std::str::from_utf8(&buffer[..end]).unwrap_or_default()
    }

    /// The hash in lower-case hexadecimal, as behind the colon.
    pub fn encoded(&self) -> String {
        hex::encode(self.hash())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; MAX_TEXT_LEN]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or(DigestError::Form)?;
        let algorithm: Algorithm = algorithm.parse()?;
        if encoded.len() != algorithm.output_len() * 2 {
            return Err(DigestError::Length);
        }
        if encoded.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(DigestError::Hex);
        }
        let hash = &mut [0; MAX_OUTPUT_LEN][..algorithm.output_len()];
        hex::decode_to_slice(encoded, hash).map_err(|_| DigestError::Hex)?;
        Self::from_hash(algorithm, hash)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; MAX_TEXT_LEN]))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A digit of lower-case hexadecimal, of a number below 16.
const fn digit(number: u8) -> u8 {
    if number < 10 { b'0' + number } else { b'a' + number - 10 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar() {
        let (hash32, hash64) = ("0".repeat(64), "f".repeat(128));
        for valid in [format!("sha256:{hash32}"), format!("sha512:{hash64}")] {
            assert_eq!(valid.parse::<Digest>().unwrap().to_string(), valid);
        }
        for (invalid, error) in [
            (String::new(), DigestError::Form),
            (hash32.clone(), DigestError::Form),
            (format!(":{hash32}"), DigestError::Algorithm),
            (format!("md5:{hash32}"), DigestError::Algorithm),
            (format!("SHA256:{hash32}"), DigestError::Algorithm),
            (format!("sha256 :{hash32}"), DigestError::Algorithm),
            ("sha256:".to_owned(), DigestError::Length),
            ("sha256:baddigeststring".to_owned(), DigestError::Length),
            (format!("sha256:{hash64}"), DigestError::Length),
            (format!("sha512:{hash32}"), DigestError::Length),
            (format!("sha256:{}", "F".repeat(64)), DigestError::Hex),
            (format!("sha256:{}", "g".repeat(64)), DigestError::Hex),
            (format!("sha256:{}", "é".repeat(32)), DigestError::Hex),
            (format!("sha256:{}:", "0".repeat(63)), DigestError::Hex),
        ] {
            assert_eq!(invalid.parse::<Digest>(), Err(error), "{invalid}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn hash_text_and_json_round_trip(hash in prop::collection::vec(any::<u8>(), 64), long in any::<bool>()) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = Digest::from_hash(algorithm, &hash[..algorithm.output_len()]).unwrap();
            prop_assert_eq!(digest.hash(), &hash[..algorithm.output_len()]);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            prop_assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
        }

        #[test]
        fn digests_are_ordered_as_their_texts(a in "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", b in "sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}") {
            prop_assert_eq!(a.parse::<Digest>().unwrap().cmp(&b.parse().unwrap()), a.cmp(&b));
        }
    }
}

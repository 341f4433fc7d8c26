//! Hashing content while it streams, across requests and across processes.
//!
//! ```text
//! bytes -> Hasher::update ... -> Hasher::verify(claimed) -> Verified<Digest>
//!              |      ^
//!              v      |  HashState: kept with the upload session, so that another replica hashes on
//!          Hasher::state
//! ```
//!
//! A [`Verified<Digest>`](Verified) can be made in this file only, by hashing; facts about content take one as a
//! parameter, so that no digest enters them that was not hashed here (promise P1).

use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};

use crate::digest::{Algorithm, Digest};

/// A value that was checked against the bytes it speaks of.
///
/// ```compile_fail
/// let digest: roadstead_oci::Digest = "sha256:".parse().unwrap();
/// let forged = roadstead_oci::Verified(digest); // the field is private
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// What was verified.
    pub const fn get(&self) -> &T {
        &self.0
    }
}

/// Why content does not have the digest that was claimed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The bytes have another digest.
    #[error("the content has another digest, {actual}")]
    Mismatch {
        /// What the bytes hash to.
        actual: Digest,
    },
    /// That algorithm did not run over these bytes from their start; they have to be read once more.
    #[error("{0} was not computed while the content streamed")]
    NotComputed(Algorithm),
}

/// Hashes content as it streams: always by SHA-256, by SHA-512 as long as asked for.
#[derive(Clone, Debug)]
pub struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// A hasher at the start of some content, computing every algorithm.
    pub fn new() -> Self {
        Self { sha256: Sha256::new(), sha512: Some(Sha512::new()) }
    }

    /// Hashes `content` at once under the algorithm of `claimed`.
    ///
    /// # Errors
    /// [`VerifyError::Mismatch`] if the content has another digest.
    pub fn verify_bytes(claimed: Digest, content: &[u8]) -> Result<Verified<Digest>, VerifyError> {
        let actual = Self::digest(claimed.algorithm(), content);
        if actual.0 == claimed { Ok(actual) } else { Err(VerifyError::Mismatch { actual: actual.0 }) }
    }

    /// The digest of `content`, hashed at once.
    pub fn digest(algorithm: Algorithm, content: &[u8]) -> Verified<Digest> {
        let digest = match algorithm {
            Algorithm::Sha256 => Digest::from_hash(algorithm, &Sha256::digest(content)),
            Algorithm::Sha512 => Digest::from_hash(algorithm, &Sha512::digest(content)),
        };
        Verified(digest.unwrap_or_else(|_| unreachable!("a hash has the length of its own algorithm")))
    }

    /// Stops computing SHA-512: a client that wanted it would have said so by now.
    pub fn drop_sha512(&mut self) {
        self.sha512 = None;
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// The SHA-256 digest of what was hashed so far, for content of which nobody has said what it is.
    pub fn sha256(&self) -> Verified<Digest> {
        let digest = Digest::from_hash(Algorithm::Sha256, &self.sha256.clone().finalize());
        Verified(digest.unwrap_or_else(|_| unreachable!("a hash has the length of its own algorithm")))
    }

    /// Compares what was hashed so far with the digest that is claimed for it.
    ///
    /// # Errors
    /// [`VerifyError::Mismatch`] if the content has another digest, [`VerifyError::NotComputed`] if SHA-512 is
    /// asked for and was dropped on the way.
    pub fn verify(&self, claimed: Digest) -> Result<Verified<Digest>, VerifyError> {
        let hash = match (claimed.algorithm(), &self.sha512) {
            (Algorithm::Sha256, _) => Digest::from_hash(Algorithm::Sha256, &self.sha256.clone().finalize()),
            (Algorithm::Sha512, Some(sha512)) => Digest::from_hash(Algorithm::Sha512, &sha512.clone().finalize()),
            (Algorithm::Sha512, None) => return Err(VerifyError::NotComputed(Algorithm::Sha512)),
        };
        let actual = hash.unwrap_or_else(|_| unreachable!("a hash has the length of its own algorithm"));
        if actual == claimed { Ok(Verified(actual)) } else { Err(VerifyError::Mismatch { actual }) }
    }

    /// Where the hasher stands, to be kept and taken up by [`Hasher::resume`].
    pub fn state(&self) -> HashState {
        HashState {
            sha256: self.sha256.serialize().to_vec(),
            sha512: self.sha512.as_ref().map(|sha512| sha512.serialize().to_vec()),
        }
    }

    /// A hasher that goes on where `state` was taken.
    ///
    /// # Errors
    /// [`HashStateError`] if the state was not taken by [`Hasher::state`].
    pub fn resume(state: &HashState) -> Result<Self, HashStateError> {
        let sha256 = Sha256::deserialize(state.sha256.as_slice().try_into().map_err(|_| HashStateError)?)
            .map_err(|_| HashStateError)?;
        let sha512 = match &state.sha512 {
            None => None,
            Some(state) => Some(
                Sha512::deserialize(state.as_slice().try_into().map_err(|_| HashStateError)?)
                    .map_err(|_| HashStateError)?,
            ),
        };
        Ok(Self { sha256, sha512 })
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// A [`Hasher`] between two requests: the compression state and the bytes of an unfinished block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashState {
    sha256: Vec<u8>,
    sha512: Option<Vec<u8>>,
}

/// A [`HashState`] that no hasher can have been in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash state is damaged")]
pub struct HashStateError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ABC_SHA256: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const ABC_SHA512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                              2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    #[test]
    fn only_the_right_digest_is_verified() {
        for (algorithm, known) in [(Algorithm::Sha256, ABC_SHA256), (Algorithm::Sha512, ABC_SHA512)] {
            let claimed: Digest = known.parse().unwrap();
            let mut hasher = Hasher::new();
            hasher.update(b"abc");
            assert_eq!(hasher.verify(claimed).unwrap().get(), &claimed);
            assert_eq!(Hasher::verify_bytes(claimed, b"abc").unwrap().get(), &claimed);
            assert_eq!(Hasher::digest(algorithm, b"abc").get(), &claimed);

            let actual = *Hasher::digest(algorithm, b"abcd").get();
            hasher.update(b"d");
            assert_eq!(hasher.verify(claimed), Err(VerifyError::Mismatch { actual }));
            assert_eq!(Hasher::verify_bytes(claimed, b"abcd"), Err(VerifyError::Mismatch { actual }));
        }
    }

    #[test]
    fn a_dropped_algorithm_says_so_and_stays_dropped() {
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.drop_sha512();
        let mut hasher = Hasher::resume(&hasher.state()).unwrap();
        hasher.update(b"bc");
        assert!(hasher.verify(ABC_SHA256.parse().unwrap()).is_ok());
        assert_eq!(hasher.verify(ABC_SHA512.parse().unwrap()), Err(VerifyError::NotComputed(Algorithm::Sha512)));
    }

    #[test]
    fn a_damaged_state_is_refused() {
        let state = Hasher::new().state();
        let short = HashState { sha256: state.sha256[1..].to_vec(), ..state.clone() };
        assert!(matches!(Hasher::resume(&short), Err(HashStateError)));
        let empty = HashState { sha512: Some(Vec::new()), ..state };
        assert!(matches!(Hasher::resume(&empty), Err(HashStateError)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn resuming_at_any_split_gives_the_same_digest(
            content in prop::collection::vec(any::<u8>(), 0..1000), splits in prop::collection::vec(any::<prop::sample::Index>(), 0..4)
        ) {
            let mut splits: Vec<usize> = splits.iter().map(|split| split.index(content.len() + 1)).collect();
            splits.sort_unstable();
            let mut hasher = Hasher::new();
            let mut start = 0;
            for split in splits {
                hasher.update(&content[start..split]);
                let state = serde_json::to_string(&hasher.state()).unwrap();
                hasher = Hasher::resume(&serde_json::from_str(&state).unwrap()).unwrap();
                start = split;
            }
            hasher.update(&content[start..]);
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                prop_assert!(hasher.verify(*Hasher::digest(algorithm, &content).get()).is_ok());
            }
        }
    }
}

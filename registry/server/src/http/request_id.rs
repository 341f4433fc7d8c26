//! The name of one request: in its answer, in each line of the log that it causes, and in the body of an internal error.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use roadstead_domain::Entropy;

/// Taken from the client or a proxy, and sent back.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest one that is taken over: a UUID has 36 bytes, the ids of tracing systems up to 55.
const MAX_BYTES: usize = 64;

/// Letters, digits, `.`, `_` and `-`: nothing that could break a line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The client's, if it has a usable one, or a fresh random one.
    pub(super) fn of(headers: &HeaderMap, entropy: &dyn Entropy) -> Self {
        let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_sane(id));
        given.map_or_else(|| Self::draw(entropy), |id| Self(id.into()))
    }

    fn draw(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(hex::encode(bytes).into())
    }

    /// The id as a header's value.
    pub(super) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| unreachable!("an id has only characters of a header"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_sane(id: &str) -> bool {
    (1..=MAX_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            (0..).zip(bytes).for_each(|(value, byte)| *byte = value);
        }
    }

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_is_replaced() {
        let long = "x".repeat(65);
        for (given, taken) in [
            (Some("1f2e-AB.c_d"), true),
            (Some(""), false),
            (Some("a b"), false),
            (Some("a\"b"), false),
            (Some(&*long), false),
            (None, false),
        ] {
            let headers = given.map(|id| (X_REQUEST_ID, id.parse().unwrap())).into_iter().collect();
            let id = RequestId::of(&headers, &Counting).to_string();
            assert_eq!(id, if taken { given.unwrap() } else { "000102030405060708090a0b0c0d0e0f" });
        }
    }
}

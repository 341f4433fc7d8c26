//! How values are written: a byte that names the format, then the value in postcard.
//!
//! Every value of the state, every entry and header of the log begins like that. The files under `golden/` hold what
//! each released format looks like; a later format gets the next number and a way to read the former ones.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format that is written.
pub(crate) const FORMAT: u8 = 1;

/// Bytes that are no value of the wanted kind.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// Written by a later release.
    #[error(
        "it has format {0}, and this release reads up to format {FORMAT}: run the release that wrote it, or a later one"
    )]
    Format(u8),
    /// Not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Writes a value.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    // Postcard fails where a writer does, or on sequences of unknown length; there are neither.
    postcard::to_extend(value, vec![FORMAT])
        .unwrap_or_else(|error| unreachable!("a value is always encodable: {error}"))
}

/// Reads a value, and nothing behind it.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&FORMAT, value)) => match postcard::take_from_bytes(value) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(DecodeError::Damaged(format!("{} bytes too many", rest.len()))),
            Err(error) => Err(DecodeError::Damaged(error.to_string())),
        },
        Some((&format, _)) => Err(DecodeError::Format(format)),
        None => Err(DecodeError::Damaged("it is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_value_of_a_known_format_is_read() {
        let bytes = encode(&(7_u32, "seven".to_owned()));
        assert_eq!(decode(&bytes), Ok((7_u32, "seven".to_owned())));
        for end in 0..bytes.len() {
            assert!(matches!(decode::<(u32, String)>(&bytes[..end]), Err(DecodeError::Damaged(_))), "cut at {end}");
        }
        assert!(matches!(decode::<(u32, String)>(&[&bytes[..], &[0]].concat()), Err(DecodeError::Damaged(_))));
        assert_eq!(decode::<(u32, String)>(&[&[9], &bytes[1..]].concat()), Err(DecodeError::Format(9)));
    }
}

//! The shape of a piece of JSON, judged in one pass before anything is built from it: a few bytes of text can stand for
//! far more in memory, and the parser passes over unknown fields without counting their levels.

use super::{Manifest, ManifestError};

/// How many values go with one descriptor: digest, size and type, a platform's five fields, and eight annotations or
/// URLs. At some 100 bytes in memory each, all values of a manifest take at most 16 MiB.
const MAX_VALUES: usize = 16 * Manifest::MAX_DESCRIPTORS;

/// Refuses nesting deeper than [`Manifest::MAX_DEPTH`] and more than [`MAX_VALUES`] values. Whether `json` is JSON is
/// for the parser to say.
pub(super) fn check(json: &[u8]) -> Result<(), ManifestError> {
    let (mut depth, mut values) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > Manifest::MAX_DEPTH {
            return Err(ManifestError::TooDeep);
        }
        if values > MAX_VALUES {
            return Err(ManifestError::TooMany);
        }
    }
    Ok(())
}

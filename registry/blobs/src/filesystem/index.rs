//! The index of an object that was written in parts: which of the files beside it are its bytes, in which order.
//!
//! ```text
//!   roadstead parts 1
//!   8388608 0123456789abcdef0123456789abcdef      size and etag of part 1: the file 00001.0123...
//!   1024 fedcba9876543210fedcba9876543210
//! ```

use std::iter;

use roadstead_oci::Part;
use uuid::Uuid;

/// The file name of the index in the folder of its object.
pub(super) const INDEX: &str = "index";

/// The first line. The number is the version of the format.
const HEADING: &str = "roadstead parts 1";

/// The name of a part's file: its number, and the etag that no other file has.
pub(super) fn part_name(number: u32, etag: &str) -> String {
    format!("{number:05}.{etag}")
}

/// The name of a part's file by what a caller says of it; `None` for an etag that this store never gave.
pub(super) fn part_name_of(part: &Part) -> Option<String> {
    let etag = Uuid::try_parse(&part.etag).ok()?;
    Some(part_name(part.number, &etag.simple().to_string()))
}

/// The index of an object of these parts.
pub(super) fn encode(parts: &[Part]) -> String {
    let lines = parts.iter().map(|part| format!("{} {}\n", part.size, part.etag));
    iter::once(format!("{HEADING}\n")).chain(lines).collect()
}

/// The parts that an index names; `None` if it is not one that [`encode`] wrote.
pub(super) fn decode(text: &str) -> Option<Vec<Part>> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next() != Some(HEADING) {
        return None;
    }
    let part = |(number, line): (u32, &str)| {
        let (size, etag) = line.split_once(' ')?;
        let part = Part { number, size: size.parse().ok()?, etag: etag.to_owned() };
        part_name_of(&part).map(|_| part)
    };
    (1..).zip(lines).map(part).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_index_is_read_as_it_was_written(parts in prop::collection::vec((1..u64::MAX, any::<u128>()), 0..20)) {
            let parts: Vec<Part> = (1..)
                .zip(parts)
                .map(|(number, (size, etag))| Part { number, size, etag: Uuid::from_u128(etag).simple().to_string() })
                .collect();
            let text = encode(&parts);
            prop_assert_eq!(decode(&text), Some(parts));
            prop_assert_eq!(decode(&text[..text.len() - 1]), None, "a torn index is none");
        }
    }

    #[test]
    fn an_index_cannot_name_another_file() {
        assert_eq!(decode("roadstead parts 1\n5 ../../secret\n"), None);
        assert_eq!(decode("roadstead parts 2\n"), None);
    }
}

//! Ranges of bytes: the part of a blob that a pull asks for, and the place where a chunk of an upload belongs.
//!
//! Sources: RFC 9110, section 14; OCI distribution specification, "Pushing a blob in chunks", whose `Content-Range`
//! is not that of the RFC.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// Everything, with a 200: the header's unit is not bytes, which has to be ignored, or it asks for several
    /// ranges, which may be (RFC 9110, section 14.2); no client of a registry asks for those.
    Whole,
    /// These bytes, with a 206. Never empty, and within the content.
    Part(Range<u64>),
    /// A 416: no byte of the content is in the range, or the header is no valid range of bytes. The RFC lets a server
    /// choose between ignoring and rejecting the latter; the conformance suite wants `bytes=500-0` rejected.
    Unsatisfiable,
}

impl RangeRequest {
    /// What `header` means for content of `size` bytes.
    pub fn parse(header: &str, size: u64) -> Self {
        let Some((unit, set)) = header.split_once('=') else { return Self::Whole };
        if !unit.eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        let mut ranges = set.split(',').map(|range| range.trim_matches([' ', '\t'])).filter(|range| !range.is_empty());
        match (ranges.next(), ranges.next()) {
            (Some(range), None) => Self::parse_one(range, size).unwrap_or(Self::Unsatisfiable),
            (Some(_), Some(_)) => Self::Whole,
            (None, _) => Self::Unsatisfiable,
        }
    }

    /// `None` if `range` is neither an int-range nor a suffix-range, or names no byte of the content.
    fn parse_one(range: &str, size: u64) -> Option<Self> {
        let (first, last) = range.split_once('-')?;
        if first.is_empty() {
            return match (saturating_decimal(last)?, size) {
                (0, _) => None,
                // Satisfiable, says the RFC, but no Content-Range can speak of no bytes.
                (_, 0) => Some(Self::Whole),
                (suffix, size) => Some(Self::Part(size.saturating_sub(suffix)..size)),
            };
        }
        let first = saturating_decimal(first)?;
        let last = if last.is_empty() { u64::MAX } else { saturating_decimal(last)? };
        (first <= last && first < size).then(|| Self::Part(first..last.saturating_add(1).min(size)))
    }

    /// The `Content-Range` header of the answer, if it has one.
    pub fn content_range(&self, size: u64) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Part(part) => Some(format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1))),
            Self::Unsatisfiable => Some(format!("bytes */{size}")),
        }
    }
}

/// Where a chunk belongs in its blob: the `Content-Range` of an upload, `<first>-<last>` with both inclusive and no
/// unit. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    first: u64,
    last: u64,
}

/// A text that is no place of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Content-Range of a chunk has the form <first>-<last>, with <first> not above <last>")]
pub struct ContentRangeError;

impl ContentRange {
    /// The offset of the chunk's first byte.
    pub const fn start(self) -> u64 {
        self.first
    }

    /// The offset after the chunk's last byte.
    pub const fn end(self) -> u64 {
        self.last + 1
    }

    /// The chunk's length in bytes, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "both ends are inclusive, so it cannot be empty")]
    pub const fn len(self) -> u64 {
        self.end() - self.first
    }
}

impl FromStr for ContentRange {
    type Err = ContentRangeError;

    fn from_str(text: &str) -> Result<Self, ContentRangeError> {
        let (first, last) = text.split_once('-').ok_or(ContentRangeError)?;
        let first = saturating_decimal(first).ok_or(ContentRangeError)?;
        let last = saturating_decimal(last).ok_or(ContentRangeError)?;
        // So long a blob cannot be; and `end` must not overflow.
        if first <= last && last < u64::MAX { Ok(Self { first, last }) } else { Err(ContentRangeError) }
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// `1*DIGIT`, nothing else: no sign, no space. What is beyond `u64` is as far as can be.
fn saturating_decimal(text: &str) -> Option<u64> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use RangeRequest::{Part, Unsatisfiable, Whole};

    #[test]
    fn ranges_as_the_conformance_suite_asks_for_them() {
        for (header, expected) in [
            ("bytes=500-1499", Part(500..1500)),
            ("bytes=500-", Part(500..2048)),
            ("bytes=-500", Part(1548..2048)),
            ("bytes=2000-5000", Part(2000..2048)),
            ("bytes=500-0", Unsatisfiable),
            ("bytes=5000-10000", Unsatisfiable),
        ] {
            assert_eq!(RangeRequest::parse(header, 2048), expected, "{header}");
        }
    }

    #[test]
    fn ranges_as_rfc_9110_has_them() {
        for (header, size, expected) in [
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=-1", 10, Part(9..10)),
            ("bytes=9-", 10, Part(9..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=-11", 10, Part(0..10)),
            ("Bytes= 1-2 ", 10, Part(1..3)),
            ("bytes=,1-2,", 10, Part(1..3)),
            ("bytes=0-99999999999999999999999", 10, Part(0..10)),
            ("bytes=-99999999999999999999999", 10, Part(0..10)),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            // Several ranges, and units that are none of ours.
            ("bytes=0-1,3-4", 10, Whole),
            ("lines=1-2", 10, Whole),
            ("", 10, Whole),
            ("bytes", 10, Whole),
            // No ranges at all.
            ("bytes=", 10, Unsatisfiable),
            ("bytes=-", 10, Unsatisfiable),
            ("bytes=5", 10, Unsatisfiable),
            ("bytes=a-b", 10, Unsatisfiable),
            ("bytes=+1-2", 10, Unsatisfiable),
            ("bytes=--1", 10, Unsatisfiable),
            ("bytes=1-2-3", 10, Unsatisfiable),
            ("bytes=1 - 2", 10, Unsatisfiable),
        ] {
            assert_eq!(RangeRequest::parse(header, size), expected, "{header} of {size}");
        }
    }

    #[test]
    fn answers_say_which_range_they_are() {
        assert_eq!(Whole.content_range(10), None);
        assert_eq!(Part(1..3).content_range(10).unwrap(), "bytes 1-2/10");
        assert_eq!(Unsatisfiable.content_range(10).unwrap(), "bytes */10");
    }

    #[test]
    fn a_chunk_has_two_numbers() {
        let chunk: ContentRange = "10-19".parse().unwrap();
        assert_eq!((chunk.start(), chunk.end(), chunk.len()), (10, 20, 10));
        let longest = format!("0-{}", u64::MAX - 1);
        assert_eq!(longest.parse::<ContentRange>().unwrap().len(), u64::MAX);
        for invalid in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "2-1",
            "a-b",
            "1-2-3",
            " 1-2",
            "1-2 ",
            "+1-2",
            "1--2",
            "0x1-2",
            "bytes=0-1",
            "bytes 0-1/2",
            "0-1/2",
            &format!("0-{}", u64::MAX),
            "0-99999999999999999999999",
        ] {
            assert_eq!(invalid.parse::<ContentRange>(), Err(ContentRangeError), "{invalid}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_part_is_within_the_content_and_not_empty(header in "(bytes)?=?[0-9]{0,20}-?[0-9]{0,20}", size in any::<u64>()) {
            if let Part(part) = RangeRequest::parse(&header, size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }

        #[test]
        fn a_part_can_be_asked_for_again(size in 1..=u64::MAX, first in any::<u64>(), last in any::<u64>()) {
            let (first, last) = (first % size, last % size);
            let part = Part(first.min(last)..first.max(last) + 1);
            let header = part.content_range(size).unwrap();
            let asked = header.replacen(' ', "=", 1).replace(&format!("/{size}"), "");
            prop_assert_eq!(RangeRequest::parse(&asked, size), part);
        }

        #[test]
        fn a_chunk_is_displayed_as_it_was_parsed(first in 0..u64::MAX, last in 0..u64::MAX) {
            let text = format!("{}-{}", first.min(last), first.max(last));
            prop_assert_eq!(text.parse::<ContentRange>().unwrap().to_string(), text);
        }
    }
}

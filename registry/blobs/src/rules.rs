//! The rules of calls that every store keeps alike, so that a caller's mistake shows in any of them.

use roadstead_oci::{ObjectKey, Part};

use crate::error::BlobError;
use crate::store::MAX_DELETE;

/// Whether so many objects may be deleted at once.
pub(crate) fn check_delete(keys: &[ObjectKey]) -> Result<(), BlobError> {
    if keys.len() > MAX_DELETE {
        return Err(BlobError::Broken(format!("{} objects to delete at once, at most {MAX_DELETE} go", keys.len())));
    }
    Ok(())
}

/// Whether a part may be written: a number that S3 knows, and no more bytes than a part has.
pub(crate) fn check_part(number: u32, part_size: u64, len: u64) -> Result<(), BlobError> {
    if !(1..=Part::MAX_NUMBER).contains(&number) {
        return Err(BlobError::Broken(format!("part {number} is not within 1 to {}", Part::MAX_NUMBER)));
    }
    if len == 0 || len > part_size {
        return Err(BlobError::Broken(format!("part {number} has {len} bytes where 1 to {part_size} are allowed")));
    }
    Ok(())
}

/// Whether an object can be made of `parts`: numbered 1, 2, 3, ... without a gap, of equal size but for the last,
/// which may be shorter. Cloudflare R2 takes no others.
pub(crate) fn check_parts(parts: &[Part]) -> Result<(), BlobError> {
    let Some(first) = parts.first() else {
        return Err(BlobError::Broken("an object of no parts is written at once, not completed".into()));
    };
    let mut last_size = first.size;
    for (number, part) in (1..).zip(parts) {
        if part.number != number {
            return Err(BlobError::Broken(format!("part {} stands where part {number} belongs", part.number)));
        }
        check_part(number, last_size, part.size)?;
        if last_size != first.size {
            return Err(BlobError::Broken(format!("part {} is shorter than part 1 and not the last", number - 1)));
        }
        last_size = part.size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sizes: &[u64]) -> Vec<Part> {
        (1..).zip(sizes).map(|(number, &size)| Part { number, size, etag: String::new() }).collect()
    }

    #[test]
    fn parts_are_equal_but_for_a_shorter_last_one() {
        for good in [&[1][..], &[5, 5], &[5, 5, 1], &[5, 1]] {
            assert!(check_parts(&parts(good)).is_ok(), "{good:?}");
        }
        for bad in [&[][..], &[0], &[5, 0], &[5, 6], &[5, 1, 5], &[5, 1, 1], &[5, 4, 3]] {
            assert!(check_parts(&parts(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parts_are_numbered_from_one_without_a_gap() {
        let mut gap = parts(&[5, 5]);
        gap[1].number = 3;
        assert!(check_parts(&gap).is_err());
        let mut zero = parts(&[5]);
        zero[0].number = 0;
        assert!(check_parts(&zero).is_err());
        assert!(check_part(Part::MAX_NUMBER, 5, 5).is_ok());
        assert!(check_part(Part::MAX_NUMBER + 1, 5, 5).is_err());
    }
}

//! When a certificate expires: the one field of it that is read here, since whoever forgets it wakes up at night.

use roadstead_domain::parse_rfc3339;

/// Tags of X.690 that lead to it.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The Unix time, in seconds, after which a certificate in DER is not valid any more; none where that cannot be read.
pub(super) fn expiry(certificate: &[u8]) -> Option<u64> {
    let (_, certificate, _) = element(certificate)?;
    let (_, signed, _) = element(certificate)?;
    let after_version = match element(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    let (_serial, _, rest) = element(after_version)?;
    let (_algorithm, _, rest) = element(rest)?;
    let (_issuer, _, rest) = element(rest)?;
    let (_, validity, _) = element(rest)?;
    let (_not_before, _, rest) = element(validity)?;
    let (tag, not_after, _) = element(rest)?;
    seconds(tag, std::str::from_utf8(not_after).ok()?)
}

/// The first element: its tag, its content, and what follows it. Of tags of one byte and lengths below 4 GiB, which are all that
/// certificates have.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time as RFC 5280, section 4.1.2.5 has it: in UTC and whole seconds; two digits of a year mean 1950 to 2049.
fn seconds(tag: u8, text: &str) -> Option<u64> {
    let text = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| text.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let time = parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))?;
    Some(time.0 / 1_000)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(expires: u64) -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = SystemTime::UNIX_EPOCH.into();
        params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(expires)).into();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_before_and_after_2050() {
        for expires in [1, 1_900_000_000, 2_524_607_999, 2_524_608_000, 4_102_444_800] {
            assert_eq!(expiry(&certificate(expires)), Some(expires));
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_given_it_ends(mut bytes: Vec<u8>, at: prop::sample::Index, by: u8) {
            let _ = expiry(&bytes);
            bytes = certificate(1_900_000_000);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            let _ = expiry(&bytes);
            prop_assert_eq!(expiry(&bytes[..at.min(40)]), None);
        }
    }
}

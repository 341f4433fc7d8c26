//! Times as people write them: RFC 3339, in UTC. The proleptic Gregorian calendar by counting in eras of 400 years, as in
//! Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".

use roadstead_metadata::LogTime;

const DAY_SECONDS: i64 = 86_400;
const ERA_DAYS: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// `2026-07-01T12:00:00.000Z`.
pub fn rfc3339(time: &LogTime) -> String {
    let (seconds, millis) = (i64::try_from(time.0 / 1_000).unwrap_or(i64::MAX), time.0 % 1_000);
    let (days, rest) = (seconds.div_euclid(DAY_SECONDS) + EPOCH_DAYS, seconds.rem_euclid(DAY_SECONDS));
    let (era, day) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months count from March, so that the leap day is the last of its year.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads a time with `Z` or a numeric offset, with or without fractions of a second.
pub fn parse_rfc3339(text: &str) -> Option<LogTime> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let is = |at: usize, separators: &str| text.get(at..=at).is_some_and(|found| separators.contains(found));
    if !(is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let (millis, zone) = fraction(text.get(19..)?)?;
    let offset = offset(zone)?;
    let (of_year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (of_year.div_euclid(400), of_year.rem_euclid(400));
    let days = era * ERA_DAYS + 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1 - EPOCH_DAYS;
    let seconds = days * DAY_SECONDS + hour * 3_600 + minute * 60 + second - offset;
    let millis = seconds.checked_mul(1_000)?.checked_add(millis)?;
    fits.then(|| u64::try_from(millis).ok().map(LogTime))?
}

/// Milliseconds, and what follows them.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let padded = format!("{:0<3}", &rest[..digits]);
    Some((padded.get(..3).filter(|_| digits > 0)?.parse().ok()?, &rest[digits..]))
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = if let Some(rest) = zone.strip_prefix('+') { (1, rest) } else { (-1, zone.strip_prefix('-')?) };
    let (hours, minutes) = rest.split_once(':')?;
    let part = |text: &str, below: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok())?.filter(|number| *number < below)
    };
    Some(sign * (part(hours, 24)? * 3_600 + part(minutes, 60)? * 60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_written_and_read() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(&LogTime(millis)), text);
            assert_eq!(parse_rfc3339(text), Some(LogTime(millis)));
        }
        for text in ["2023-11-14T23:13:20.1230+01:00", "2023-11-14t17:43:20.123-04:30", "2023-11-14 22:13:20.123z"] {
            assert_eq!(parse_rfc3339(text), Some(LogTime(1_700_000_000_123)), "{text}");
        }
        for text in ["", "2023-11-14", "2023-11-14T22:13:20", "2023-13-14T22:13:20Z", "2023-11-14T22:13:20.Z", "ü"] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0..253_402_300_800_000_u64) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(&LogTime(millis))), Some(LogTime(millis)));
        }
    }
}

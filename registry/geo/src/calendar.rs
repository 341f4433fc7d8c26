//! When large blobs may be copied ahead: windows of the week.
//!
//! What pulls wait for, manifests and small blobs are brought at any time; so a tag moves when its turn comes, and only what
//! needs much of the link waits for its hours.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use roadstead_metadata::LogTime;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES_A_DAY: u64 = 24 * 60;
const MINUTES_A_WEEK: u64 = 7 * MINUTES_A_DAY;
const MILLIS_A_MINUTE: u64 = 60_000;

/// A window of some days of the week, in UTC: `22:00-06:00`, `sat-sun 00:00-24:00`, `mon-fri 20:00-06:30`. One that ends
/// before it begins ends on the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// On which days it begins, from Monday on.
    days: [bool; 7],
    /// Minutes of the day.
    from: u64,
    to: u64,
}

/// A text that is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a window is HH:MM-HH:MM or DAY HH:MM-HH:MM or DAY-DAY HH:MM-HH:MM, in UTC, such as mon-fri 20:00-06:30")]
pub struct NoWindow;

impl FromStr for Window {
    type Err = NoWindow;

    fn from_str(text: &str) -> Result<Self, NoWindow> {
        let (days, hours) = match text.split_once(' ') {
            Some((days, hours)) => (days_of(days).ok_or(NoWindow)?, hours),
            None => ([true; 7], text),
        };
        let (from, to) = hours.split_once('-').ok_or(NoWindow)?;
        let (from, to) = (minute(from).ok_or(NoWindow)?, minute(to).ok_or(NoWindow)?);
        // Neither nothing nor everything is meant by a window without a length.
        if from == to || from == MINUTES_A_DAY || to == 0 {
            return Err(NoWindow);
        }
        Ok(Self { days, from, to })
    }
}

/// `mon` or `mon-fri`; `sat-mon` goes over the end of the week.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|day| *day == name);
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    let length = (last + 7 - first) % 7;
    Some(std::array::from_fn(|day| (day + 7 - first) % 7 <= length))
}

fn minute(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hour) || !is_number(minute) {
        return None;
    }
    let (hour, minute): (u64, u64) = (hour.parse().ok()?, minute.parse().ok()?);
    let all = hour * 60 + minute;
    (minute < 60 && all <= MINUTES_A_DAY).then_some(all)
}

impl Window {
    fn holds(&self, day: usize, minute: u64) -> bool {
        let begins_on = |day: usize| self.days.get(day % 7) == Some(&true);
        if self.from < self.to {
            begins_on(day) && (self.from..self.to).contains(&minute)
        } else {
            (begins_on(day) && minute >= self.from) || (begins_on(day + 6) && minute < self.to)
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            // The days are one stretch of the week: its first one is behind one that is not in it.
            let holds = |day: usize| self.days.get(day % 7) == Some(&true);
            let first = (0..7).find(|day| holds(*day) && !holds(day + 6)).unwrap_or_default();
            let last = (first..first + 7).take_while(|day| holds(*day)).last().unwrap_or(first) % 7;
            let name = |day: usize| DAYS.get(day).copied().unwrap_or_default();
            if first == last {
                write!(f, "{} ", name(first))?;
            } else {
                write!(f, "{}-{} ", name(first), name(last))?;
            }
        }
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// When large blobs are copied ahead: always, without a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendar(pub Vec<Window>);

impl Calendar {
    /// Whether they may be at this time.
    pub(crate) fn is_open(&self, time: LogTime) -> bool {
        self.holds(time.0 / MILLIS_A_MINUTE)
    }

    /// How much of the time between the two they may be, to the minute.
    pub(crate) fn open_between(&self, from: LogTime, to: LogTime) -> Duration {
        let whole = to.0.saturating_sub(from.0);
        if self.0.is_empty() {
            return Duration::from_millis(whole);
        }
        // Each week is like the other.
        let weeks = whole / (MINUTES_A_WEEK * MILLIS_A_MINUTE);
        let open_in = |minutes: std::ops::Range<u64>| minutes.filter(|minute| self.holds(*minute)).count() as u64;
        let in_weeks = if weeks == 0 { 0 } else { weeks * open_in(0..MINUTES_A_WEEK) };
        let first = from.0 / MILLIS_A_MINUTE + weeks * MINUTES_A_WEEK;
        let rest = open_in(first..(to.0 / MILLIS_A_MINUTE).max(first));
        Duration::from_mins(in_weeks + rest)
    }

    /// Whether a window holds this minute of all.
    fn holds(&self, minute: u64) -> bool {
        // The first day of all was a Thursday.
        let day = usize::try_from((minute / MINUTES_A_DAY + 3) % 7).unwrap_or_default();
        self.0.is_empty() || self.0.iter().any(|window| window.holds(day, minute % MINUTES_A_DAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 5 January 1970.
    const MONDAY: u64 = 4;

    fn is_open(windows: &[&str], day: u64, hour: u64, minute: u64) -> bool {
        let calendar = Calendar(windows.iter().map(|window| window.parse().unwrap()).collect());
        calendar.is_open(LogTime((((MONDAY + day) * 24 + hour) * 60 + minute) * 60_000))
    }

    #[test]
    fn a_window_is_open_from_its_beginning_until_its_end() {
        let day = ["09:00-17:30"];
        assert!(
            !is_open(&day, 0, 8, 59) && is_open(&day, 0, 9, 0) && is_open(&day, 6, 17, 29) && !is_open(&day, 0, 17, 30)
        );
        let night = ["22:00-06:00"];
        assert!(
            is_open(&night, 3, 23, 0)
                && is_open(&night, 3, 0, 0)
                && !is_open(&night, 3, 6, 0)
                && !is_open(&night, 3, 12, 0)
        );
        assert!(is_open(&[], 2, 12, 0));
        assert!(is_open(&["12:00-24:00"], 0, 23, 59) && !is_open(&["12:00-24:00"], 1, 0, 0));
    }

    #[test]
    fn only_the_time_in_windows_is_counted() {
        let calendar = Calendar(vec!["mon-fri 22:00-06:00".parse().unwrap()]);
        let at =
            |day: u64, hour: u64, minute: u64| LogTime((((MONDAY + day) * 24 + hour) * 60 + minute) * 60_000 + 9_000);
        for (from, to, minutes) in [
            (at(0, 7, 0), at(0, 21, 0), 0),
            (at(0, 7, 0), at(0, 22, 30), 30),
            (at(0, 23, 0), at(1, 23, 0), 7 * 60 + 60),
            (at(5, 12, 0), at(7, 22, 1), 1),
            (at(0, 7, 0), at(21, 22, 5), 3 * 40 * 60 + 5),
            (at(1, 0, 0), at(0, 0, 0), 0),
        ] {
            assert_eq!(calendar.open_between(from, to), Duration::from_mins(minutes), "{from:?} {to:?}");
        }
        assert_eq!(Calendar::default().open_between(at(0, 0, 0), at(0, 0, 1)), Duration::from_mins(1));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let workdays = ["mon-fri 20:00-06:30"];
        assert!(is_open(&workdays, 0, 20, 0) && !is_open(&workdays, 0, 6, 0), "Monday's begins on Monday evening");
        assert!(is_open(&workdays, 5, 6, 29) && !is_open(&workdays, 5, 20, 0), "Friday's ends on Saturday morning");
        let both = ["mon-fri 20:00-06:30", "sat-sun 00:00-24:00"];
        assert!(is_open(&both, 5, 12, 0) && is_open(&both, 6, 23, 59) && !is_open(&both, 7, 12, 0));
        let around = ["sun-mon 01:00-02:00"];
        assert!(is_open(&around, 6, 1, 0) && is_open(&around, 0, 1, 0) && !is_open(&around, 1, 1, 0));
    }

    #[test]
    fn a_window_is_written_as_it_is_read_and_what_is_none_is_refused() {
        for text in ["22:00-06:00", "mon 00:00-24:00", "mon-fri 20:00-06:30", "sat-mon 01:00-02:00"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "22:00",
            "22-06",
            "24:00-06:00",
            "06:00-06:00",
            "6:00-7:00",
            "12:60-13:00",
            "25:00-26:00",
            "x 1:00-2:00",
            "mon-funday 01:00-02:00",
            "mon  01:00-02:00",
            "22:00-00:00",
        ] {
            assert_eq!(text.parse::<Window>(), Err(NoWindow), "{text}");
        }
    }
}

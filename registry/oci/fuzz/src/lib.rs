//! The property that all textual forms share.

use std::fmt::{Debug, Display};
use std::str::FromStr;

/// A text is refused, or it is the one spelling of what it stands for.
pub fn check_round_trip<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let displayed = value.to_string();
        assert_eq!(displayed, text);
        assert_eq!(displayed.parse::<T>().unwrap(), value);
    }
}

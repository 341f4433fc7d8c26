//! The kinds of values that settings take: how each is read from text, and the sentence that says what is accepted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use roadstead_geo::{FilterRule, Platform, Window};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A kind of value.
pub(crate) trait Kind: Sync {
    /// What the text becomes.
    type Value;

    /// Reads the text; `None` if it is not accepted.
    fn parse(&self, text: &str) -> Option<Self::Value>;

    /// What is accepted, to follow "accepted:" in an error.
    fn accepted(&self) -> String;
}

/// An address and port.
pub(crate) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn parse(&self, text: &str) -> Option<SocketAddr> {
        text.parse().ok()
    }

    fn accepted(&self) -> String {
        "an IP address and a port, such as 127.0.0.1:5000, 0.0.0.0:5000 or [::]:5000".to_owned()
    }
}

/// A host, by name or address, and a port.
pub(crate) struct HostAndPort;

impl Kind for HostAndPort {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let (host, port) = text.rsplit_once(':')?;
        let is_host = HostName.parse(host).is_some_and(|host| !host.starts_with('*'))
            || host.strip_prefix('[').and_then(|host| host.strip_suffix(']')?.parse::<Ipv6Addr>().ok()).is_some();
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        (is_host && is_port && host.parse::<Ipv6Addr>().is_err()).then(|| text.to_ascii_lowercase())
    }

    fn accepted(&self) -> String {
        "a host and a port, such as registry-0.example.com:5001, 10.0.0.7:5001 or [fd00::7]:5001".to_owned()
    }
}

/// A file or folder.
pub(crate) struct File;

impl Kind for File {
    type Value = PathBuf;

    fn parse(&self, text: &str) -> Option<PathBuf> {
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    fn accepted(&self) -> String {
        "the path of a file or folder".to_owned()
    }
}

/// Any text that is not empty and has neither blanks nor control characters.
pub(crate) struct Word;

impl Kind for Word {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let fine = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        fine.then(|| text.to_owned())
    }

    fn accepted(&self) -> String {
        "text without blanks".to_owned()
    }
}

/// The base address of a server.
pub(crate) struct Endpoint;

impl Kind for Endpoint {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let uri: http::Uri = text.parse().ok()?;
        let http = matches!(uri.scheme_str(), Some("http" | "https"));
        // What is behind the host is a port, and one that there is.
        let is_place = uri.authority().is_some_and(|authority| {
            !authority.host().is_empty() && (authority.as_str() == authority.host() || authority.port_u16().is_some())
        });
        (http && is_place && uri.query().is_none()).then(|| text.trim_end_matches('/').to_owned())
    }

    fn accepted(&self) -> String {
        "a URL such as https://s3.example.com or http://127.0.0.1:9000".to_owned()
    }
}

/// A host name or an IP address, as a certificate names it.
pub(crate) struct HostName;

impl Kind for HostName {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let is_label = |label: &str| {
            !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let is_name = || {
            let name = text.strip_prefix("*.").unwrap_or(text);
            name.len() <= 253 && name.split('.').all(is_label)
        };
        (text.parse::<IpAddr>().is_ok() || is_name()).then(|| text.to_ascii_lowercase())
    }

    fn accepted(&self) -> String {
        "a host name or an IP address, without a port, such as registry.example.com or 192.168.56.100".to_owned()
    }
}

/// On or off.
pub(crate) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn parse(&self, text: &str) -> Option<bool> {
        text.parse().ok()
    }

    fn accepted(&self) -> String {
        "true or false".to_owned()
    }
}

/// One of a few words.
pub(crate) struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + Sync> Kind for Choice<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }

    fn accepted(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        words.join(" or ")
    }
}

/// How many of something.
pub(crate) struct Count {
    pub least: u32,
    pub most: u32,
}

impl Kind for Count {
    type Value = u32;

    fn parse(&self, text: &str) -> Option<u32> {
        text.parse().ok().filter(|count| (self.least..=self.most).contains(count))
    }

    fn accepted(&self) -> String {
        format!("a whole number from {} to {}", self.least, self.most)
    }
}

/// A number of bytes.
pub(crate) struct Size {
    pub least: u64,
    pub most: u64,
}

impl Kind for Size {
    type Value = u64;

    fn parse(&self, text: &str) -> Option<u64> {
        quantity(text, &SIZE_UNITS).filter(|bytes| (self.least..=self.most).contains(bytes))
    }

    fn accepted(&self) -> String {
        format!("a size from {} to {}, in B, KiB, MiB, GiB or TiB", in_words(self.least), in_words(self.most))
    }
}

/// A span of time.
pub(crate) struct Span {
    pub least: Duration,
    pub most: Duration,
}

impl Kind for Span {
    type Value = Duration;

    fn parse(&self, text: &str) -> Option<Duration> {
        let span = Duration::from_millis(quantity(text, &TIME_UNITS)?);
        (self.least..=self.most).contains(&span).then_some(span)
    }

    fn accepted(&self) -> String {
        let words = |span: Duration| written(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS);
        format!("a time from {} to {}, in ms, s, m, h or d", words(self.least), words(self.most))
    }
}

/// What of an upstream is followed.
pub(crate) struct Followed;

impl Kind for Followed {
    type Value = FilterRule;

    fn parse(&self, text: &str) -> Option<FilterRule> {
        text.parse().ok()
    }

    fn accepted(&self) -> String {
        "REPOSITORY or REPOSITORY:TAG, where * stands for any text without a slash and ** for any text, such as team/** or \
         team/app:v*"
            .to_owned()
    }
}

/// What images run on.
pub(crate) struct RunsOn;

impl Kind for RunsOn {
    type Value = Platform;

    fn parse(&self, text: &str) -> Option<Platform> {
        text.parse().ok()
    }

    fn accepted(&self) -> String {
        "OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm/v7".to_owned()
    }
}

/// A window of the week.
pub(crate) struct WeekWindow;

impl Kind for WeekWindow {
    type Value = Window;

    fn parse(&self, text: &str) -> Option<Window> {
        text.parse().ok()
    }

    fn accepted(&self) -> String {
        "a window in UTC, such as 22:00-06:00, mon-fri 20:00-06:30 or sat-sun 00:00-24:00".to_owned()
    }
}

/// What is logged: a level, or directives of the `tracing` filter.
pub(crate) struct LogFilter;

impl Kind for LogFilter {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        // A single word that is no level would be the name of a module, and silence all others.
        let is_level = || text.parse::<LevelFilter>().is_ok();
        let is_directives = text.contains(['=', ',', '[']) && EnvFilter::try_new(text).is_ok();
        (is_level() || is_directives).then(|| text.to_owned())
    }

    fn accepted(&self) -> String {
        "error, warn, info, debug or trace, or directives such as info,roadstead_blobs=debug".to_owned()
    }
}

/// Units of [`Size`] in bytes, largest first.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Units of [`Span`] in milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A whole number and its unit.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The shortest whole way to write a quantity.
fn written(amount: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor));
    let (name, factor) = whole.or(units.last()).copied().unwrap_or_default();
    format!("{}{name}", amount / factor.max(1))
}

/// A number of bytes as a person would write it in a setting.
pub(crate) fn in_words(bytes: u64) -> String {
    written(bytes, &SIZE_UNITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        let size = Size { least: 0, most: u64::MAX };
        for (text, bytes) in [
            ("8MiB", Some(8 << 20)),
            ("512KiB", Some(512 << 10)),
            ("1 GiB", Some(1 << 30)),
            ("17B", Some(17)),
            ("17", None),
            ("8MB", None),
            ("MiB", None),
            ("-1B", None),
            ("1.5GiB", None),
            ("99999999999TiB", None),
            ("", None),
        ] {
            assert_eq!(size.parse(text), bytes, "{text:?}");
        }
        let span = Span { least: Duration::ZERO, most: Duration::MAX };
        for (text, millis) in [
            ("20m", Some(1_200_000)),
            ("24h", Some(86_400_000)),
            ("30s", Some(30_000)),
            ("250ms", Some(250)),
            ("0s", Some(0)),
            ("7d", Some(604_800_000)),
            ("30", None),
            ("1h30m", None),
            ("soon", None),
        ] {
            assert_eq!(span.parse(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn host_names_are_those_that_a_certificate_can_carry() {
        for fine in ["localhost", "registry.example.com", "*.example.com", "192.168.56.100", "::1", "a-b"] {
            assert!(HostName.parse(fine).is_some(), "{fine}");
        }
        for bad in ["", "a..b", "a b", "host:5000", "*.", "https://a", "ü.example.com", &"a".repeat(64)] {
            assert_eq!(HostName.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn endpoints_are_http_urls_without_a_query() {
        assert_eq!(Endpoint.parse("http://127.0.0.1:9000/").as_deref(), Some("http://127.0.0.1:9000"));
        for bad in ["", "s3.example.com", "ftp://a", "http://", "http://a?b=c"] {
            assert_eq!(Endpoint.parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_written_size_is_read_back(bytes in any::<u64>(), shift in 0_u32..50) {
            let bytes = bytes >> shift << shift;
            prop_assert_eq!(quantity(&in_words(bytes), &SIZE_UNITS), Some(bytes));
        }
    }
}

//! Pages of listings.
//!
//! Source: OCI distribution specification, "Listing Tags"; Docker registry HTTP API V2, "Listing Repositories".

/// Which part of a listing a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Page {
    /// How many entries, as asked for, but clamped to [`Page::MAX_LIMIT`].
    pub n: Option<u32>,
    /// Only entries after this one, which need not exist.
    pub last: Option<String>,
}

/// Why a page cannot be told from a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the number of entries of a page, n, must be a decimal number that is not negative")]
pub struct PageError;

impl Page {
    /// The most entries of one page. A page of repositories of the longest name is then some 250 KiB, small enough to
    /// be built in memory for each request; clients follow `Link` to the next one.
    pub const MAX_LIMIT: u32 = 1_000;

    /// The entries of a page whose client does not say: as many as can be, since many clients do not follow `Link`.
    pub const DEFAULT_LIMIT: u32 = Self::MAX_LIMIT;

    /// The page that the query parameters `n` and `last` ask for.
    ///
    /// # Errors
    /// [`PageError`] unless `n` is digits only. A number above [`Page::MAX_LIMIT`] means that many: a shorter page
    /// than asked for is allowed where a `Link` follows.
    pub fn parse(n: Option<&str>, last: Option<&str>) -> Result<Self, PageError> {
        let n = match n {
            None => None,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().unwrap_or(Self::MAX_LIMIT).min(Self::MAX_LIMIT))
            }
            Some(_) => return Err(PageError),
        };
        Ok(Self { n, last: last.map(str::to_owned) })
    }

    /// How many entries to answer with at most. Zero asks for none, and for no `Link` either.
    pub fn limit(&self) -> u32 {
        self.n.unwrap_or(Self::DEFAULT_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n_is_a_number_and_is_clamped() {
        for (n, limit) in [
            (None, 1000),
            (Some("0"), 0),
            (Some("1"), 1),
            (Some("007"), 7),
            (Some("1000"), 1000),
            (Some("1001"), 1000),
            (Some("99999999999999999999999"), 1000),
        ] {
            assert_eq!(Page::parse(n, None).unwrap().limit(), limit, "{n:?}");
        }
        for invalid in ["", "-1", "+1", "1.0", "a", " 1", "0x1", "١"] {
            assert_eq!(Page::parse(Some(invalid), None), Err(PageError), "{invalid}");
        }
    }

    #[test]
    fn last_is_kept_as_it_is() {
        assert_eq!(Page::parse(None, Some("v1")).unwrap().last.as_deref(), Some("v1"));
    }
}

//! What of its home a mirror follows: repositories and tags by pattern, images of an index by platform. All else is read
//! through, as long as home is there.

use std::fmt;
use std::str::FromStr;

use roadstead_oci::{Algorithm, Digest, Hasher, RepositoryName, Tag};

/// The most rules that a filter may have, and the most platforms: each change of the feed is held against all of them.
pub const MAX_FILTER_RULES: usize = 64;

/// The longest pattern.
const MAX_PATTERN: usize = 256;

/// A pattern of repositories, and one of their tags: `team/*`, `team/**:v*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterRule {
    repository: String,
    /// All of them, without.
    tag: Option<String>,
}

/// A text that is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rule is REPOSITORY or REPOSITORY:TAG, where * stands for any text without a slash and ** for any text")]
pub struct NoFilterRule;

impl FromStr for FilterRule {
    type Err = NoFilterRule;

    fn from_str(text: &str) -> Result<Self, NoFilterRule> {
        let (repository, tag) = match text.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (text, None),
        };
        let is_pattern = |pattern: &str, others: &[u8]| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte) || others.contains(&byte);
            !pattern.is_empty() && pattern.len() <= MAX_PATTERN && pattern.bytes().all(is_plain)
        };
        if !is_pattern(repository, b"/") || !tag.is_none_or(|tag| is_pattern(tag, b"")) {
            return Err(NoFilterRule);
        }
        let tag = tag.filter(|tag| !tag.bytes().all(|byte| byte == b'*'));
        Ok(Self { repository: repository.to_owned(), tag: tag.map(str::to_owned) })
    }
}

impl fmt::Display for FilterRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}", self.repository),
            None => self.repository.fmt(f),
        }
    }
}

/// What an image runs on: `linux/amd64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    /// Any, without.
    variant: Option<String>,
}

/// A text that is no platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a platform is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64")]
pub struct NoPlatform;

impl FromStr for Platform {
    type Err = NoPlatform;

    fn from_str(text: &str) -> Result<Self, NoPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match parts[..] {
            [os, architecture] if parts.iter().all(is_word) => {
                Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: None })
            }
            [os, architecture, variant] if parts.iter().all(is_word) => {
                Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: Some(variant.to_owned()) })
            }
            _ => Err(NoPlatform),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// How much of a repository is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Nothing.
    Nothing,
    /// What chosen tags lead to, on chosen platforms.
    Chosen,
    /// Everything.
    Everything,
}

/// What a mirror copies; everything, by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What one of these matches is copied; everything, if there are none.
    pub rules: Vec<FilterRule>,
    /// Images of an index for one of these are copied; all, if there are none.
    pub platforms: Vec<Platform>,
}

impl Filter {
    /// Whether it leaves nothing out.
    pub fn is_everything(&self) -> bool {
        self.rules.is_empty() && self.platforms.is_empty()
    }

    /// What two filters are told apart by; `None` of one that leaves nothing out.
    pub(crate) fn hash(&self) -> Option<Digest> {
        (!self.is_everything()).then(|| *Hasher::digest(Algorithm::Sha256, self.to_string().as_bytes()).get())
    }

    pub(crate) fn share(&self, repository: &RepositoryName) -> Share {
        let mut matching = self.rules.iter().filter(|rule| matches(&rule.repository, repository.as_str())).peekable();
        if !self.rules.is_empty() && matching.peek().is_none() {
            return Share::Nothing;
        }
        let all_tags = self.rules.is_empty() || matching.any(|rule| rule.tag.is_none());
        if all_tags && self.platforms.is_empty() { Share::Everything } else { Share::Chosen }
    }

    pub(crate) fn takes_tag(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        self.rules.is_empty()
            || self.rules.iter().any(|rule| {
                matches(&rule.repository, repository.as_str())
                    && rule.tag.as_ref().is_none_or(|pattern| matches(pattern, tag.as_str()))
            })
    }

    /// Whether an image of an index is copied; one of which the index does not say what it runs on, always, and so are
    /// attestations, which say `unknown`.
    pub(crate) fn takes_platform(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        self.platforms.is_empty()
            || os == "unknown"
            || self.platforms.iter().any(|platform| {
                platform.os == os
                    && platform.architecture == architecture
                    && platform.variant.as_deref().is_none_or(|wanted| variant == Some(wanted))
            })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules.iter().map(|rule| format!("filter={rule}"));
        let platforms = self.platforms.iter().map(|platform| format!("platform={platform}"));
        f.write_str(&rules.chain(platforms).collect::<Vec<_>>().join(" "))
    }
}

/// Whether a pattern matches all of a text. It takes at most as many steps as the product of their lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // For each length of the text's beginning: whether the pattern so far matches it.
    let mut reached = vec![false; text.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    let mut rest = pattern;
    while let Some((byte, after)) = rest.split_first() {
        let mut next = vec![false; text.len() + 1];
        if *byte == b'*' {
            let crosses = after.first() == Some(&b'*');
            rest = if crosses { after.get(1..).unwrap_or_default() } else { after };
            let mut open = false;
            for (index, place) in next.iter_mut().enumerate() {
                let before = index.checked_sub(1).and_then(|last| text.get(last)).copied();
                open = (open && (crosses || before != Some(b'/'))) || reached.get(index) == Some(&true);
                *place = open;
            }
        } else {
            rest = after;
            for (index, place) in next.iter_mut().enumerate().skip(1) {
                *place = reached.get(index - 1) == Some(&true) && text.get(index - 1) == Some(byte);
            }
        }
        reached = next;
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(rules: &[&str], platforms: &[&str]) -> Filter {
        Filter {
            rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
            platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_star_stands_for_a_part_of_a_name_and_two_for_all_of_it() {
        for (pattern, text, expected) in [
            ("team/app", "team/app", true),
            ("team/app", "team/apps", false),
            ("team/*", "team/app", true),
            ("team/*", "team/app/web", false),
            ("team/**", "team/app/web", true),
            ("**/web", "team/app/web", true),
            ("**", "team/app/web", true),
            ("*", "team", true),
            ("*", "team/app", false),
            ("*/*", "team/app", true),
            ("t*m/a*p", "team/app", true),
            ("t*m/a*p", "tm/ap", true),
            ("v*.*", "v1.2.3", true),
            ("v*.0", "v1.2", false),
            ("a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaa", false),
            ("***", "team/app", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_copied_is_what_a_rule_says() {
        let (app, web, other): (RepositoryName, RepositoryName, RepositoryName) =
            ("team/app".parse().unwrap(), "team/web".parse().unwrap(), "other".parse().unwrap());
        let (stable, nightly): (Tag, Tag) = ("v1".parse().unwrap(), "nightly".parse().unwrap());
        let rules = filter(&["team/app:v*", "team/web"], &[]);
        assert_eq!(
            [&app, &web, &other].map(|name| rules.share(name)),
            [Share::Chosen, Share::Everything, Share::Nothing]
        );
        assert!(rules.takes_tag(&app, &stable) && !rules.takes_tag(&app, &nightly) && rules.takes_tag(&web, &nightly));
        let all = filter(&[], &[]);
        assert_eq!(all.share(&other), Share::Everything);
        assert!(all.takes_tag(&other, &nightly) && all.takes_platform("plan9", "386", None));
        let platforms = filter(&[], &["linux/amd64", "linux/arm/v7"]);
        assert_eq!(platforms.share(&other), Share::Chosen);
        assert!(platforms.takes_platform("linux", "amd64", Some("v2")));
        assert!(platforms.takes_platform("unknown", "unknown", None));
        assert!(
            !platforms.takes_platform("linux", "arm64", None) && !platforms.takes_platform("linux", "arm", Some("v6"))
        );
        assert!(all.hash().is_none() && platforms.hash().is_some());
        assert_ne!(filter(&["linux/amd64"], &[]).hash(), filter(&[], &["linux/amd64"]).hash());
        assert_eq!(filter(&["a/*"], &["linux/amd64"]).to_string(), "filter=a/* platform=linux/amd64");
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["", ":v1", "a:", "a b", "a:b:c", "a/b?", "a:x/y", &"a".repeat(300)] {
            assert_eq!(text.parse::<FilterRule>(), Err(NoFilterRule), "{text}");
        }
        for text in ["", "linux", "linux/", "linux/arm/v7/x", "linux/a b"] {
            assert_eq!(text.parse::<Platform>(), Err(NoPlatform), "{text}");
        }
    }
}

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// Which registries are pulled from by way of which mirrors.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) hosts: Vec<Host>,
}

/// A registry by the name that images have.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Host {
    /// `registry.example.com`, or `registry.example.com:5000`.
    #[serde(rename = "host")]
    pub(crate) name: String,
    /// Where runtimes go when no mirror has what they want. Without it, to the host itself.
    pub(crate) fallback: Option<String>,
    /// Asked one after the other: the nearest first.
    pub(crate) mirrors: Vec<Mirror>,
}

/// A registry that is asked first.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Mirror {
    /// Its URL. The name of a Service, which nodes cannot ask for, is turned into its address.
    pub(crate) endpoint: String,
    /// What it is trusted with: `pull` alone, of content by digest, or `resolve` of tags as well.
    pub(crate) capabilities: Vec<Capability>,
    /// Who vouches for its certificate, in PEM, beside the node's own authorities.
    pub(crate) authority: Option<PathBuf>,
}

/// What a mirror is trusted with.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Capability {
    Pull,
    Resolve,
}

impl Host {
    /// The URL of what is asked behind all mirrors.
    pub(crate) fn behind(&self) -> String {
        self.fallback.clone().unwrap_or_else(|| format!("https://{}", self.name))
    }
}

impl Mirror {
    /// Who vouches for its certificate, in PEM.
    pub(crate) fn authority(&self) -> Result<Option<Vec<u8>>> {
        let Some(file) = &self.authority else { return Ok(None) };
        std::fs::read(file).map(Some).with_context(|| format!("{} cannot be read", file.display()))
    }
}

impl Settings {
    /// Reads and checks a file.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        Self::parse(&text).with_context(|| format!("{} is wrong", file.display()))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let settings: Self = serde_json::from_slice(text)?;
        for Host { name: host, fallback, mirrors } in &settings.hosts {
            // It becomes the name of a folder.
            let plain = host.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-:_".contains(letter));
            ensure!(
                !host.is_empty() && plain && !host.starts_with('.'),
                "`{host}` must be a host name, with a port or not"
            );
            ensure!(!mirrors.is_empty(), "`mirrors` of {host} must name at least one");
            for url in mirrors.iter().map(|mirror| &mirror.endpoint).chain(fallback) {
                ensure!(is_url(url), "`{url}` of {host} must be a URL with http or https, a host and no path");
            }
            for mirror in mirrors {
                ensure!(!mirror.capabilities.is_empty(), "`capabilities` of {} must not be empty", mirror.endpoint);
            }
        }
        Ok(settings)
    }
}

fn is_url(url: &str) -> bool {
    let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    authority.is_some_and(|authority| {
        !authority.is_empty()
            && authority.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-:_[]".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(host: &str, endpoint: &str) -> Result<Settings> {
        let settings = serde_json::json!({"hosts": [
            {"host": host, "mirrors": [{"endpoint": endpoint, "capabilities": ["pull"]}]},
        ]});
        Settings::parse(settings.to_string().as_bytes())
    }

    #[test]
    fn hosts_and_urls_are_taken() {
        for host in ["docker.io", "registry.example.com:5000", "a_b"] {
            with(host, "https://home.team.svc:5000").unwrap();
        }
        with("a", "http://10.0.0.1").unwrap();
    }

    #[test]
    fn what_would_leave_the_folder_or_the_file_is_refused() {
        for host in ["", "..", "../etc", "a/b", ".hidden", "a b", "a\"b"] {
            assert!(with(host, "https://a").is_err(), "{host}");
        }
        for endpoint in ["", "a", "ftp://a", "https://", "https://a/b", "https://a\"]", "https://a\nb"] {
            assert!(with("a", endpoint).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn a_host_without_a_mirror_is_refused() {
        assert!(Settings::parse(br#"{"hosts": [{"host": "a", "mirrors": []}]}"#).is_err());
        assert!(Settings::parse(br#"{"hosts": [], "more": 1}"#).is_err());
    }
}

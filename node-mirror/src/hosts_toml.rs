use std::fmt::Write as _;
use std::net::{IpAddr, ToSocketAddrs as _};

use anyhow::{Context as _, Result};

use crate::settings::{Capability, Host, Mirror};

/// The name of the file that containerd reads.
pub(crate) const NAME: &str = "hosts.toml";

/// How long a runtime tries to reach a mirror before it goes on to the next: it is in the same cluster, and where it is
/// gone without an answer, each pull would wait for containerd's own 30 s. Older releases of containerd ignore it.
const DIAL_TIMEOUT: &str = "2s";

/// The files of one host: `hosts.toml` last, which names the others.
pub(crate) fn files(host: &Host) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut entries = Vec::new();
    for (number, mirror) in host.mirrors.iter().enumerate() {
        let mut authority = None;
        if let Some(file) = &mirror.authority {
            let name = format!("roadstead-{number}.crt");
            let pem = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            files.push((name.clone(), pem));
            authority = Some(name);
        }
        entries.push((address_of(&mirror.endpoint)?, mirror, authority));
    }
    files.push((NAME.to_owned(), text(host, &entries).into_bytes()));
    Ok(files)
}

fn text(host: &Host, entries: &[(String, &Mirror, Option<String>)]) -> String {
    let mut text = String::from("# Written by roadstead-node-mirror, which puts back what was here when it ends.\n");
    // Nothing here needs escaping: the settings hold URLs of plain letters only.
    if let Some(fallback) = &host.fallback {
        let _ = writeln!(text, "server = \"{fallback}\"");
    }
    for (address, mirror, authority) in entries {
        let words = mirror.capabilities.iter().map(|capability| match capability {
            Capability::Pull => "\"pull\"",
            Capability::Resolve => "\"resolve\"",
        });
        let _ = write!(text, "\n[host.\"{address}\"]\n");
        let _ = writeln!(text, "  capabilities = [{}]", words.collect::<Vec<_>>().join(", "));
        let _ = writeln!(text, "  dial_timeout = \"{DIAL_TIMEOUT}\"");
        if let Some(authority) = authority {
            let _ = writeln!(text, "  ca = \"{authority}\"");
        }
    }
    text
}

/// The URL with the address of its host in the place of its name. Nodes do not ask the cluster's DNS.
fn address_of(endpoint: &str) -> Result<String> {
    let (scheme, authority) = endpoint.split_once("://").context("the settings were checked")?;
    let is_port = |port: &str| !port.is_empty() && port.chars().all(|letter| letter.is_ascii_digit());
    let split = authority.rsplit_once(':').filter(|(_, port)| is_port(port));
    let (name, port) = split.unwrap_or((authority, if scheme == "http" { "80" } else { "443" }));
    if name.starts_with('[') || name.parse::<IpAddr>().is_ok() {
        return Ok(endpoint.to_owned());
    }
    let found = format!("{name}:{port}").to_socket_addrs().with_context(|| format!("{name} has no address"))?;
    // The smallest, so that an answer in another order changes nothing.
    let address = found.min().with_context(|| format!("{name} has no address"))?;
    Ok(format!("{scheme}://{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stays_and_a_name_becomes_one() {
        assert_eq!(address_of("https://10.96.0.7:5000").unwrap(), "https://10.96.0.7:5000");
        assert_eq!(address_of("http://[fd00::1]:5000").unwrap(), "http://[fd00::1]:5000");
        let local = address_of("https://localhost:5000").unwrap();
        assert!(local == "https://127.0.0.1:5000" || local == "https://[::1]:5000", "{local}");
        assert!(address_of("https://there-is-no-such.invalid").is_err());
    }

    #[test]
    fn it_is_what_containerd_reads() {
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.crt");
        std::fs::write(&authority, "PEM").unwrap();
        let mirror = Mirror {
            endpoint: "https://10.96.0.7:5000".to_owned(),
            capabilities: vec![Capability::Pull, Capability::Resolve],
            authority: Some(authority),
        };
        let fallback = Some("https://registry.example.com".to_owned());
        let host = Host { name: "registry.example.com".to_owned(), fallback, mirrors: vec![mirror] };
        let files = files(&host).unwrap();
        assert_eq!(files[0], ("roadstead-0.crt".to_owned(), b"PEM".to_vec()));
        let (name, text) = &files[1];
        assert_eq!(name, NAME);
        let read: toml::Table = std::str::from_utf8(text).unwrap().parse().unwrap();
        assert_eq!(read["server"].as_str(), Some("https://registry.example.com"));
        let entry = &read["host"]["https://10.96.0.7:5000"];
        assert_eq!(entry["capabilities"].as_array().unwrap().len(), 2);
        assert_eq!(entry["ca"].as_str(), Some("roadstead-0.crt"));
        assert_eq!(entry["dial_timeout"].as_str(), Some("2s"));
    }
}

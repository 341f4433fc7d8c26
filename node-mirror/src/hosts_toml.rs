use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::ToSocketAddrs as _;

use anyhow::{Context as _, Result, ensure};
use tracing::warn;

use crate::settings::{Capability, Host, Mirror};

/// The name of the file that containerd reads.
pub(crate) const NAME: &str = "hosts.toml";

/// How long a runtime tries to reach a mirror before it goes on to the next: the longest way around the earth and back
/// takes a fifth of it, and where a mirror is gone without an answer, each request would wait for containerd's own 30 s. Older
/// releases of containerd ignore it.
const DIAL_TIMEOUT: &str = "2s";

/// The addresses of Services, as they were found last: so a cluster whose DNS is away for a while changes nothing.
#[derive(Default)]
pub(crate) struct Addresses(BTreeMap<String, String>);

/// The files of one host: `hosts.toml` last, which names the others. A mirror of which nobody has ever known the address is
/// left out, as long as there is another one.
pub(crate) fn files(host: &Host, addresses: &mut Addresses) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut entries = Vec::new();
    for (number, mirror) in host.mirrors.iter().enumerate() {
        let Some(address) = addresses.of(&mirror.endpoint) else { continue };
        let mut authority = None;
        if let Some(file) = &mirror.authority {
            let name = format!("roadstead-{number}.crt");
            let pem = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            files.push((name.clone(), pem));
            authority = Some(name);
        }
        entries.push((address, mirror, authority));
    }
    ensure!(!entries.is_empty(), "no mirror of {} has an address", host.name);
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

impl Addresses {
    fn of(&mut self, endpoint: &str) -> Option<String> {
        match address_of(endpoint) {
            Ok(address) => drop(self.0.insert(endpoint.to_owned(), address)),
            Err(error) => warn!("{error:#}: the address that it had before is used, if there was one"),
        }
        self.0.get(endpoint).cloned()
    }
}

/// The URL with the address of its host in the place of its name, if that is a Service's: nodes do not ask the cluster's
/// DNS. Other names stay, which are those of registries elsewhere, and for which their certificates are.
fn address_of(endpoint: &str) -> Result<String> {
    let (scheme, authority) = endpoint.split_once("://").context("the settings were checked")?;
    let is_port = |port: &str| !port.is_empty() && port.chars().all(|letter| letter.is_ascii_digit());
    let split = authority.rsplit_once(':').filter(|(_, port)| is_port(port));
    let (name, port) = split.unwrap_or((authority, if scheme == "http" { "80" } else { "443" }));
    // NAME.NAMESPACE.svc, with the cluster's domain behind it or not.
    if name.split('.').nth(2) != Some("svc") {
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
    fn the_name_of_a_service_alone_becomes_an_address() {
        for stays in
            ["https://10.96.0.7:5000", "http://[fd00::1]:5000", "https://registry.example.com", "https://svc:5000"]
        {
            assert_eq!(address_of(stays).unwrap(), stays);
        }
        for name in ["https://home.team.svc:5000", "https://home.team.svc.cluster.invalid"] {
            // There is no such cluster here.
            assert!(address_of(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_mirror_without_an_address_is_left_out_and_one_that_had_one_keeps_it() {
        let mirror = |endpoint: &str| Mirror {
            endpoint: endpoint.to_owned(),
            capabilities: vec![Capability::Pull],
            authority: None,
        };
        let (gone, there) = ("https://near.team.svc:5000", "https://next.example.com:5000");
        let host = Host { name: "a".to_owned(), fallback: None, mirrors: vec![mirror(gone), mirror(there)] };
        let text = |addresses: &mut Addresses| {
            let files = files(&host, addresses).unwrap();
            String::from_utf8(files[0].1.clone()).unwrap()
        };
        let without = text(&mut Addresses::default());
        assert!(without.contains(there) && !without.contains("10.96.0.7"), "{without}");
        let known = (gone.to_owned(), "https://10.96.0.7:5000".to_owned());
        let with = text(&mut Addresses(BTreeMap::from([known])));
        assert!(with.find("10.96.0.7").unwrap() < with.find(there).unwrap(), "{with}");
        let alone = Host { mirrors: vec![mirror(gone)], ..host };
        assert!(files(&alone, &mut Addresses::default()).is_err());
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
        let files = files(&host, &mut Addresses::default()).unwrap();
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

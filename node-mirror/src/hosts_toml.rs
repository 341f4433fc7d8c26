use std::fmt::Write as _;

use anyhow::Result;

use crate::addresses::Reached;
use crate::settings::{Capability, Host};

/// The name of the file that containerd and Docker read.
pub(crate) const NAME: &str = "hosts.toml";

/// How long a runtime tries to reach a mirror before it goes on to the next: the longest way around the earth and back
/// takes a fifth of it, and where a mirror is gone without an answer, each request would wait for containerd's own 30 s. Older
/// releases of containerd ignore it.
const DIAL_TIMEOUT: &str = "2s";

/// The files of one host with these mirrors: `hosts.toml` last, which names the others. Those are of all mirrors in the
/// settings, so that none is left behind when a mirror is left out.
pub(crate) fn files(host: &Host, mirrors: &[Reached<'_>]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for (number, mirror) in host.mirrors.iter().enumerate() {
        if let Some(pem) = mirror.authority()? {
            files.push((authority_file(number), pem));
        }
    }
    files.push((NAME.to_owned(), text(host, mirrors).into_bytes()));
    Ok(files)
}

fn authority_file(number: usize) -> String {
    format!("roadstead-{number}.crt")
}

fn text(host: &Host, mirrors: &[Reached<'_>]) -> String {
    let mut text = String::from("# Written by roadstead-node-mirror, which puts back what was here when it ends.\n");
    // Nothing here needs escaping: the settings hold URLs of plain letters only.
    if let Some(fallback) = &host.fallback {
        let _ = writeln!(text, "server = \"{fallback}\"");
    }
    for Reached { number, address, mirror } in mirrors {
        let words = mirror.capabilities.iter().map(|capability| match capability {
            Capability::Pull => "\"pull\"",
            Capability::Resolve => "\"resolve\"",
        });
        let _ = write!(text, "\n[host.\"{address}\"]\n");
        let _ = writeln!(text, "  capabilities = [{}]", words.collect::<Vec<_>>().join(", "));
        let _ = writeln!(text, "  dial_timeout = \"{DIAL_TIMEOUT}\"");
        if mirror.authority.is_some() {
            let _ = writeln!(text, "  ca = \"{}\"", authority_file(*number));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Mirror;

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
        let reached = [Reached { number: 0, address: host.mirrors[0].endpoint.clone(), mirror: &host.mirrors[0] }];
        let files = files(&host, &reached).unwrap();
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

    #[test]
    fn without_a_mirror_that_answers_the_host_itself_is_left() {
        let fallback = Some("https://registry.example.com".to_owned());
        let host = Host { name: "registry.example.com".to_owned(), fallback, mirrors: Vec::new() };
        let files = files(&host, &[]).unwrap();
        let read: toml::Table = std::str::from_utf8(&files[0].1).unwrap().parse().unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["server"]);
    }
}

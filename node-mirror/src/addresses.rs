use std::collections::BTreeMap;
use std::net::ToSocketAddrs as _;

use anyhow::{Context as _, Result, ensure};
use tracing::warn;

use crate::settings::{Host, Mirror};

/// The addresses of Services, as they were found last: so a cluster whose DNS is away for a while changes nothing.
#[derive(Default)]
pub(crate) struct Addresses(BTreeMap<String, String>);

/// A mirror and where nodes reach it.
#[derive(Clone)]
pub(crate) struct Reached<'a> {
    /// Which one it is in the settings.
    pub(crate) number: usize,
    /// A URL: `https://10.96.0.7:5000`.
    pub(crate) address: String,
    pub(crate) mirror: &'a Mirror,
}

impl Addresses {
    /// The mirrors of a host, in order. One of which nobody has ever known the address is left out, as long as there is
    /// another one.
    pub(crate) fn of_mirrors<'a>(&mut self, host: &'a Host) -> Result<Vec<Reached<'a>>> {
        let reached = host.mirrors.iter().enumerate().filter_map(|(number, mirror)| {
            let address = self.of(&mirror.endpoint)?;
            Some(Reached { number, address, mirror })
        });
        let reached: Vec<_> = reached.collect();
        ensure!(!reached.is_empty(), "no mirror of {} has an address", host.name);
        Ok(reached)
    }

    fn of(&mut self, endpoint: &str) -> Option<String> {
        match address_of(endpoint) {
            Ok(address) => drop(self.0.insert(endpoint.to_owned(), address)),
            Err(error) => warn!("{error:#}: the address that it had before is used, if there was one"),
        }
        self.0.get(endpoint).cloned()
    }
}

/// Scheme, host and port of a URL of the settings, which were checked.
pub(crate) fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, authority) = url.split_once("://")?;
    let is_port = |port: &str| !port.is_empty() && port.chars().all(|letter| letter.is_ascii_digit());
    let split = authority.rsplit_once(':').filter(|(_, port)| is_port(port));
    let (host, port) = split.unwrap_or((authority, if scheme == "http" { "80" } else { "443" }));
    Some((scheme, host, port))
}

/// The URL with the address of its host in the place of its name, if that is a Service's: nodes do not ask the cluster's
/// DNS. Other names stay, which are those of registries elsewhere, and for which their certificates are.
fn address_of(endpoint: &str) -> Result<String> {
    let (scheme, name, port) = parts(endpoint).context("the settings were checked")?;
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
    use crate::settings::Capability;

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
    fn a_url_has_a_port_whether_it_says_so_or_not() {
        assert_eq!(parts("https://registry.example.com"), Some(("https", "registry.example.com", "443")));
        assert_eq!(parts("http://10.0.0.1"), Some(("http", "10.0.0.1", "80")));
        assert_eq!(parts("http://[fd00::1]:5000"), Some(("http", "[fd00::1]", "5000")));
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
        let found = |addresses: &mut Addresses| -> Vec<String> {
            let reached = addresses.of_mirrors(&host).unwrap();
            reached.into_iter().map(|mirror| mirror.address).collect()
        };
        assert_eq!(found(&mut Addresses::default()), [there]);
        let known = (gone.to_owned(), "https://10.96.0.7:5000".to_owned());
        assert_eq!(found(&mut Addresses(BTreeMap::from([known]))), ["https://10.96.0.7:5000", there]);
        let alone = Host { name: "a".to_owned(), fallback: None, mirrors: vec![mirror(gone)] };
        assert!(Addresses::default().of_mirrors(&alone).is_err());
    }
}

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::addresses::Reached;
use crate::settings::{Capability, Host};

/// The file beside those of others that CRI-O reads: one of a later name goes before others of the same host.
const CONFIGURATION: &str = "registries.conf.d/90-roadstead-node-mirror.conf";

/// Who vouches for a mirror, in the folder that is named after it. Every `.crt` in there is taken.
const AUTHORITY: &str = "roadstead-node-mirror.crt";

/// A node's `/etc/containers`, which CRI-O reads, and Podman and Skopeo with it.
///
/// All files that are written have names that nobody else has, so what was found needs neither be kept nor put back.
pub(crate) struct ContainersFolder(PathBuf);

impl ContainersFolder {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Writes what is to be told of these hosts, each with its mirrors, the authorities first. Whether something was changed.
    pub(crate) fn write(&self, hosts: &[(&Host, Vec<Reached<'_>>)]) -> Result<bool> {
        let mut wanted = Vec::new();
        for Reached { address, mirror, .. } in hosts.iter().flat_map(|(_, mirrors)| mirrors) {
            if let Some(pem) = mirror.authority()? {
                wanted.push((self.0.join("certs.d").join(without_scheme(address)).join(AUTHORITY), pem));
            }
        }
        let files: Vec<PathBuf> = wanted.iter().map(|(file, _)| file.clone()).collect();
        wanted.push((self.0.join(CONFIGURATION), text(hosts).into_bytes()));
        let mut is_changed = false;
        for (file, content) in wanted {
            is_changed |= put(&file, &content)?;
        }
        for file in self.authorities()?.into_iter().filter(|file| !files.contains(file)) {
            remove(&file)?;
        }
        Ok(is_changed)
    }

    /// Takes away everything that was written.
    pub(crate) fn restore(&self) -> Result<()> {
        let file = self.0.join(CONFIGURATION);
        fs::remove_file(&file).or_else(unless_absent).with_context(|| format!("{} stays", file.display()))?;
        self.authorities()?.iter().try_for_each(|file| remove(file))
    }

    /// The files of ours below `certs.d`.
    fn authorities(&self) -> Result<Vec<PathBuf>> {
        let folder = self.0.join("certs.d");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", folder.display())),
        };
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry?.path().join(AUTHORITY));
        }
        files.retain(|file| file.exists());
        Ok(files)
    }
}

/// Version 2 of the format, which containers-registries.conf(5) describes.
fn text(hosts: &[(&Host, Vec<Reached<'_>>)]) -> String {
    let mut text = String::from("# Written by roadstead-node-mirror, which takes it away when it ends.\n");
    // Nothing here needs escaping: the settings hold URLs and names of plain letters only.
    for (host, mirrors) in hosts {
        let behind = host.behind();
        let _ = write!(text, "\n[[registry]]\nprefix = \"{}\"\n", host.name);
        let _ = write!(text, "{}", place(&behind));
        for Reached { address, mirror, .. } in mirrors {
            let _ = write!(text, "\n[[registry.mirror]]\n{}", place(address));
            if !mirror.capabilities.iter().any(|capability| matches!(capability, Capability::Resolve)) {
                text.push_str("pull-from-mirror = \"digest-only\"\n");
            }
        }
    }
    text
}

/// Where it is, and whether it may speak plain HTTP.
fn place(url: &str) -> String {
    let insecure = if url.starts_with("http://") { "insecure = true\n" } else { "" };
    format!("location = \"{}\"\n{insecure}", without_scheme(url))
}

fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, authority)| authority)
}

/// Writes a file so that others see all of it or the former one; whether it was another one.
fn put(file: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(file).is_ok_and(|found| found == content) {
        return Ok(false);
    }
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(file.parent().unwrap_or(file))?;
        let beside = file.with_extension("partial");
        let mut partial = fs::File::create(&beside)?;
        partial.write_all(content)?;
        partial.sync_all()?;
        fs::rename(beside, file)
    };
    write().with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(true)
}

/// Removes an authority, and its folder if others have put nothing there.
fn remove(file: &Path) -> Result<()> {
    fs::remove_file(file).or_else(unless_absent).with_context(|| format!("{} stays", file.display()))?;
    if let Some(folder) = file.parent() {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

fn unless_absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Mirror;

    fn mirror(endpoint: &str, capabilities: &[Capability], authority: Option<PathBuf>) -> Mirror {
        Mirror { endpoint: endpoint.to_owned(), capabilities: capabilities.to_vec(), authority }
    }

    fn all(host: &Host) -> Vec<Reached<'_>> {
        let numbered = host.mirrors.iter().enumerate();
        numbered.map(|(number, mirror)| Reached { number, address: mirror.endpoint.clone(), mirror }).collect()
    }

    #[test]
    fn it_is_what_cri_o_reads_and_goes_without_a_trace() {
        let root = tempfile::tempdir().unwrap();
        let authority = root.path().join("ca.crt");
        fs::write(&authority, "PEM").unwrap();
        let mirrors = vec![
            mirror("https://10.96.0.7:5000", &[Capability::Pull, Capability::Resolve], Some(authority)),
            mirror("http://next.example.com", &[Capability::Pull], None),
        ];
        let host = Host { name: "registry.example.com".to_owned(), fallback: None, mirrors };
        let place = root.path().join("containers");
        fs::create_dir_all(place.join("certs.d/theirs:5000")).unwrap();
        let folder = ContainersFolder::new(&place);
        assert!(folder.write(&[(&host, all(&host))]).unwrap());
        assert!(!folder.write(&[(&host, all(&host))]).unwrap());
        let read: toml::Table = fs::read_to_string(place.join(CONFIGURATION)).unwrap().parse().unwrap();
        let registry = &read["registry"][0];
        assert_eq!(registry["prefix"].as_str(), Some("registry.example.com"));
        assert_eq!(registry["location"].as_str(), Some("registry.example.com"));
        let [near, next] = [0, 1].map(|number| &registry["mirror"][number]);
        assert_eq!(near["location"].as_str(), Some("10.96.0.7:5000"));
        assert!(near.get("insecure").is_none() && near.get("pull-from-mirror").is_none());
        assert_eq!(next["location"].as_str(), Some("next.example.com"));
        assert_eq!(next["insecure"].as_bool(), Some(true));
        assert_eq!(next["pull-from-mirror"].as_str(), Some("digest-only"));
        assert_eq!(fs::read(place.join("certs.d/10.96.0.7:5000").join(AUTHORITY)).unwrap(), b"PEM");

        // The authority of a mirror that is no more goes with it.
        assert!(folder.write(&[(&host, all(&host).split_off(1))]).unwrap());
        assert!(!place.join("certs.d/10.96.0.7:5000").exists());
        folder.restore().unwrap();
        folder.restore().unwrap();
        assert!(!place.join(CONFIGURATION).exists());
        assert!(place.join("certs.d/theirs:5000").exists());
    }
}
